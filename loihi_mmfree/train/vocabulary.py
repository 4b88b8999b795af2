"""The tokenizer of a training: trained on its text, or given and held against the model's vocabulary."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from loihi_mmfree.checkpoint import ModelConfig, as_tokens
from loihi_mmfree.errors import UsageError
from loihi_mmfree.text import Tokenizer, tokenizer_json
from loihi_mmfree.tokenizer_file import guarded
from loihi_mmfree.train.corpus import DocumentPart
from loihi_mmfree.train.folder import TOKENIZER, TOKENIZER_SETTINGS

SPECIAL = ("<unk>", "<s>", "</s>")
"""Tokens 0, 1 and 2 of a trained tokenizer, as upstream's checkpoints have them."""
BYTES = 256


def train_tokenizer(pieces: Iterable[DocumentPart], model: ModelConfig, characters: int) -> str:
    """Return a byte-level BPE as the text of a tokenizer.json; the same text gives the same.

    Parameters
    ----------
    pieces : iterable of DocumentPart
    model : ModelConfig
        How many tokens it may have, and which of them begin and end a text.
    characters : int
        So many of the text are looked at.

    Raises
    ------
    UsageError
        The vocabulary has no room for bytes and special tokens, or these are others.
    """
    if model.vocab_size < len(SPECIAL) + BYTES:
        raise UsageError(
            f"recipe: model.vocab_size is {model.vocab_size}; a tokenizer over bytes needs {len(SPECIAL) + BYTES} "
            "or more"
        )
    wanted = {"bos_token_id": 1, "eos_token_id": 2}
    for name, token in wanted.items():
        if getattr(model, name) != token:
            raise UsageError(
                f"recipe: model.{name} is {getattr(model, name)}, and {token} in a tokenizer that is trained; "
                "give `tokenizer=FILE`, or leave the key out"
            )
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers

    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=model.vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    guarded(lambda: backend.train_from_iterator(_beginning(pieces, characters), trainer), "the trained tokenizer")
    begin = SPECIAL[1]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A $B:1", special_tokens=[(begin, 1)]
    )
    return str(backend.to_str(pretty=True))


def _beginning(pieces: Iterable[DocumentPart], characters: int) -> Iterator[str]:
    left = characters
    for piece in pieces:
        if left <= 0:
            return
        yield piece.text[:left]
        left -= len(piece.text)


def given_tokenizer(path: Path, model: ModelConfig) -> str:
    """Return a tokenizer of the user's as the text of a tokenizer.json.

    Raises
    ------
    CheckpointError
        It cannot be read.
    UsageError
        It does not fit the model's vocabulary.
    """
    tokenizer = Tokenizer(path)
    if tokenizer.size > model.vocab_size:
        raise UsageError(
            f"`tokenizer` {path}: {tokenizer.size} tokens, and the model's vocabulary has {model.vocab_size}; say "
            f"vocab_size = {tokenizer.size} in the recipe's [model], or give a smaller tokenizer"
        )
    for token in as_tokens(model.eos_token_id):
        if not tokenizer.is_special(token):
            raise UsageError(
                f"`tokenizer` {path}: token {token} ends a text of this model, but is no special token there; say "
                "in the recipe's [model] which one is, or eos_token_id = 'none'"
            )
    return tokenizer_json(path)


def write_tokenizer(folder: Path, content: str, model: ModelConfig) -> Tokenizer:
    """Write the files of a tokenizer as transformers reads them, and return what encodes with them."""
    path = folder / TOKENIZER
    path.write_text(content, encoding="utf-8")
    tokenizer = Tokenizer(path)
    ends = as_tokens(model.eos_token_id)
    named = {"bos_token": model.bos_token_id, "eos_token": ends[0] if ends else None}
    tokens = {name: tokenizer.name(token) for name, token in named.items() if token is not None}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **tokens}
    (folder / TOKENIZER_SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return tokenizer
