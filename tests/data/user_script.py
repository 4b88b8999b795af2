"""What a user writes: checked with mypy --strict, and run."""

import sys
from pathlib import Path

import loihi_mmfree
from loihi_mmfree import CompileConfig, Net, Notice, RunResult, Sampler, UsageError


def shown(stage: str, done: int, total: int) -> None:
    print(f"{stage} {done}/{total}", file=sys.stderr)


def generate(net: Net, prompt: str) -> RunResult:
    with loihi_mmfree.stream(net, prompt, 4, backend="engine", sampler=Sampler(temperature=0.7)) as tokens:
        for token in tokens:
            print(token.id, token.text or "")
    return tokens.result()


def main(checkpoint: Path, folder: Path) -> None:
    net = loihi_mmfree.compile(checkpoint, folder, CompileConfig(head="host"), progress=shown)
    result = generate(net, "The old man")
    again = loihi_mmfree.run(folder, result.prompt_ids, 4, backend="engine", activity=True, logits=True)
    if again.activity is not None and again.logits is not None:
        path: Path = loihi_mmfree.save_activity(net, again.activity)
        print(path.name, again.logits.shape, again.activity.tokens, loihi_mmfree.inspect(net).summary.cores_used)
    try:
        loihi_mmfree.run(str(folder), [], backend="engine")
    except UsageError as error:
        print(error, error.exit_code, issubclass(Notice, UserWarning))
    print(loihi_mmfree.report(net), loihi_mmfree.compare(net, lava=False).equal)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
