"""The model `loihi-mmfree`: its likelihoods and texts are those of a network's integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from loihi_mmfree.errors import BackendUnavailableError, UsageError
from loihi_mmfree.evaluate.opening import is_net, open_model
from loihi_mmfree.evaluate.texts import Text
from loihi_mmfree.net.artifact import load_net
from loihi_mmfree.sim.session.generate import check_ids
from loihi_mmfree.sim.session.running import end_of_text
from loihi_mmfree.sim.session.sampling import Sampler
from loihi_mmfree.text import TextStream

try:
    import lm_eval.models  # noqa: F401 (or its own models are not found once another is registered)
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
except ImportError as error:
    raise BackendUnavailableError(
        f"lm-evaluation-harness cannot be imported ({error}); pip install 'loihi-mmfree[eval]'"
    ) from error

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

NEW_TOKENS = 256
"""That are generated at most where a task does not say it, as in lm-evaluation-harness."""


@register_model("loihi-mmfree")
class IntegerModel(TemplateLM):
    """A compiled network, whose integers run.

    Parameters
    ----------
    net : str
        Folder of the network.
    backend, device : str, optional
        As `loihi-mmfree evaluate` takes them.
    batch_size : int or str, optional
        Texts at once, or "auto"; changes no number.
    add_bos_token : bool
        Put the tokenizer's special tokens in front of every text, as `hf` does with the same argument.
    """

    def __init__(
        self,
        net: str,
        backend: str | None = None,
        device: str | None = None,
        batch_size: int | str | None = None,
        add_bos_token: bool = False,
        **others: Any,
    ) -> None:
        super().__init__()
        if not is_net(net):
            raise UsageError(f"net={net}: no compiled network; of a checkpoint the float model is hf")
        unknown = others.keys() - {"max_batch_size"}  # which lm-evaluation-harness gives to every model
        if unknown:
            raise UsageError(f"model_args: unknown {', '.join(sorted(unknown))}")
        self._net = load_net(net)
        self._opened = open_model(self._net, backend=backend, device=device)
        self._special = add_bos_token
        self._together = _batch(batch_size) or 4 * self._opened.scorer.together
        self._end = end_of_text(self._net, True)

    @property
    def tokenizer_name(self) -> str:
        """What tells this tokenizer from others, for caches."""
        return self._opened.model.sha256

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        if not self._end:
            raise UsageError(f"{self._net.path}: its checkpoint names no end of text (eos_token_id)")
        return self._end[0]

    @property
    def prefix_token_id(self) -> int:
        """What stands for nothing in front of a text: the token that begins one, or else that ends one."""
        begin = self._net.manifest["model"].get("bos_token_id")
        return self.eot_token_id if begin is None else int(begin)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Return the tokens of a text."""
        special = self._special if add_special_tokens is None else add_special_tokens
        return self._opened.tokenizer.encode(string, special_tokens=special)

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,
        **_: Any,
    ) -> list[tuple[float, bool]]:
        """Return the log likelihood of continuations, and whether every token of one is the likeliest."""
        texts = [Text(np.array(context + behind, dtype=np.int64), len(context)) for _, context, behind in requests]
        found: list[tuple[float, bool]] = []
        for begin in range(0, len(texts), self._together):
            for score in self._opened.scorer.score(texts[begin : begin + self._together]):
                greedy = bool((score.rows.top == score.targets).all())
                found.append((-float(score.rows.losses.sum()), greedy))
                self.cache_hook.add_partial("loglikelihood", requests[len(found) - 1][0], found[-1])
        return found

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Return the log likelihood of whole texts, each behind the prefix token: there is no longest context."""
        pairs = []
        for (string,) in (request.args for request in requests):
            ids = self.tok_encode(string)
            if not ids:
                raise UsageError("loglikelihood_rolling: a text has no tokens")
            pairs.append((("", string), [self.prefix_token_id], ids))
        return [likelihood for likelihood, _ in self._loglikelihood_tokens(pairs)]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return what the network generates behind each context, up to the first of the texts that end it."""
        answers = []
        for context, settings in (request.args for request in requests):
            answer = self._generate(context, dict(settings))
            self.cache_hook.add_partial("generate_until", (context, settings), answer)
            answers.append(answer)
        return answers

    def _generate(self, context: str, settings: dict[str, Any]) -> str:
        until = settings.pop("until", None) or []
        ends = [until] if isinstance(until, str) else list(until)
        new_tokens = int(settings.pop("max_gen_toks", NEW_TOKENS))
        sampler, backend = _sampler(settings), self._opened.backend
        assert backend is not None
        ids = check_ids(self.tok_encode(context) or [self.prefix_token_id], self._opened.vocab_size)
        shown, text = TextStream(self._opened.tokenizer, ids.tolist()), ""
        backend.reset()
        logits = backend.read(ids)
        for _ in range(new_tokens):
            token = sampler.choose(logits, backend.logit_scale)
            if token in self._end:
                break
            text += shown.push(token)
            if any(end in text for end in ends):
                return _before(text, ends)
            logits = backend.read(np.array([token]))
        return _before(text + shown.finish(), ends)


def _batch(size: int | str | None) -> int | None:
    """A number of texts; None where it is left to us."""
    if size is None or str(size).startswith("auto"):
        return None
    if not str(size).isdecimal() or int(size) < 1:
        raise UsageError(f"batch_size={size}: a whole number from 1 on, or auto")
    return int(size)


def _sampler(settings: Mapping[str, Any]) -> Sampler:
    """What chooses tokens by the settings of a task: greedy unless it says to sample."""
    unknown = settings.keys() - {"do_sample", "temperature", "top_k", "top_p"}
    if unknown:
        raise UsageError(f"generate_until: unknown settings {', '.join(sorted(unknown))}")
    temperature = float(settings.get("temperature") or 0)
    if temperature == 0 or settings.get("do_sample") is False:
        return Sampler()
    return Sampler(temperature, settings.get("top_k"), settings.get("top_p"))


def _before(text: str, ends: Sequence[str]) -> str:
    """The text before the first of the texts that end it."""
    return text[: min((text.find(end) for end in ends if end and end in text), default=len(text))]
