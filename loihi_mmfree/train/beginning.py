"""The beginning of a training: text as tokens, tokenizer and recipe, in a folder that appears whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from loihi_mmfree.checkpoint import open_checkpoint
from loihi_mmfree.checkpoint.source import SourceFile
from loihi_mmfree.errors import UsageError
from loihi_mmfree.files import file_sha256
from loihi_mmfree.progress import Progress
from loihi_mmfree.train.corpus import pieces
from loihi_mmfree.train.folder import RECIPE, TOKENS, WORK, Facts, new_folder, write_facts
from loihi_mmfree.train.recipe import Recipe
from loihi_mmfree.train.tokens import TokenWindows, write_tokens
from loihi_mmfree.train.vocabulary import given_tokenizer, train_tokenizer, write_tokenizer


@dataclass(frozen=True)
class TrainingRequest:
    """What is asked of a training beside its recipe.

    Parameters
    ----------
    output : Path
    text, tokenizer : Path, optional
    tensorboard : Path, optional
        Folder for TensorBoard's events.
    base : str or Path, optional
        The checkpoint to start from.
    device : {"cpu", "cuda"}, optional
    resume, force : bool
    """

    output: Path
    text: Path | None = None
    tokenizer: Path | None = None
    tensorboard: Path | None = None
    base: str | Path | None = None
    device: str | None = None
    resume: bool = False
    force: bool = False


def begin(request: TrainingRequest, recipe: Recipe, progress: Progress) -> None:
    """Make the folder of a training: recipe, tokenizer and tokens, all of it or nothing.

    Raises
    ------
    UsageError
        The text cannot be read, is too little, or the folder is in the way.
    """
    text = request.text
    if text is None:
        raise UsageError("nothing to train on; give `text=FILE`")
    digest = text_sha256(text)
    base = None if request.base is None else open_checkpoint(request.base)
    size = max(1, text.stat().st_size)
    with new_folder(request.output, request.force) as new:
        work = new / WORK
        work.mkdir()
        (new / RECIPE).write_text(recipe.to_toml(), encoding="utf-8")
        given = request.tokenizer or (None if base is None else base.tokenizer_path)
        if given is not None:
            content = given_tokenizer(given, recipe.model)
        elif base is not None:
            raise UsageError(f"{base.path}: there is no tokenizer beside it; give `tokenizer=FILE`")
        else:
            progress("tokenizer", 0, 1)
            documents = pieces(text, recipe.text.field)
            content = train_tokenizer(documents, recipe.model, recipe.text.tokenizer_characters)
            progress("tokenizer", 1, 1)
        tokenizer = write_tokenizer(new, content, recipe.model)
        count, tokens_sha256 = write_tokens(
            work / TOKENS,
            pieces(text, recipe.text.field),
            tokenizer,
            recipe.model,
            lambda done: progress("tokens", min(done, size), size),
        )
        progress("tokens", size, size)
        if not count:
            raise UsageError(f"`text` {text}: there is no text in it")
        TokenWindows(SourceFile.of(work / TOKENS), recipe)
        facts = Facts(digest, count, tokens_sha256)
        if base is not None:
            # A name on the hub stays one, a path holds wherever the training is gone on with.
            name = str(Path(base.path).absolute()) if Path(str(request.base)).exists() else str(request.base)
            facts = replace(facts, base=name, base_sha256=base.sha256())
        write_facts(new, facts)


def text_sha256(text: Path) -> str:
    """Return the SHA-256 of a file of text.

    Raises
    ------
    UsageError
        It cannot be read.
    """
    try:
        return file_sha256(text)
    except OSError as error:
        raise UsageError(f"`text` {text}: cannot be read: {error.strerror}") from error
