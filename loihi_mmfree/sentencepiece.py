"""A SentencePiece model (`tokenizer.model`) as the pipeline of a Hugging Face tokenizer.

The file is a protocol buffer (sentencepiece_model.proto of SentencePiece, Apache-2.0): pieces with scores, what
the trainer was asked for, and how text is normalised. It is read here within limits, since it is untrusted.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loihi_mmfree.errors import CheckpointError
from loihi_mmfree.files import read_regular
from loihi_mmfree.untrusted import parse_json

LARGEST_MODEL_BYTES = 16 * 2**20
LARGEST_CONFIG_BYTES = 2**20
MOST_PIECES = 2**19
LONGEST_PIECE = 256
BPE = 2
_KINDS = {1: "unigram", 2: "BPE", 3: "word", 4: "character"}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
SPACE = "\u2581"
"""What stands for a space in pieces."""


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary; its position is its id."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class SentencePieceModel:
    """What a model file says.

    Parameters
    ----------
    pieces : tuple of Piece
    kind : int
        BPE or another.
    byte_fallback : bool
        Whether what no piece covers becomes pieces for its bytes.
    space_as_suffix, dummy_prefix, strip_spaces, escape_spaces : bool
        How spaces are treated.
    character_map : bytes
        Table of characters to replace, empty for none.
    begin, end : int
        Ids of the tokens that begin and end a text, -1 for none.
    """

    pieces: tuple[Piece, ...]
    kind: int
    byte_fallback: bool
    space_as_suffix: bool
    dummy_prefix: bool
    strip_spaces: bool
    escape_spaces: bool
    character_map: bytes
    begin: int
    end: int


def convert(path: Path) -> str:
    """Return the tokenizer.json that gives the ids of a SentencePiece model.

    `tokenizer_config.json` beside it says whether a text begins and ends with tokens of its own.

    Raises
    ------
    CheckpointError
        The file is damaged, or of a kind that the pipeline cannot express.
    """
    try:
        model = parse(read_regular(path, LARGEST_MODEL_BYTES))
        settings = _settings(path.with_name("tokenizer_config.json"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, struct.error) as error:
        raise CheckpointError(f"{path}: not a readable SentencePiece model ({error}); copy it again") from error
    reason = _unsupported(model)
    if reason:
        raise CheckpointError(
            f"{path}: a SentencePiece model {reason}, which is not supported; put a tokenizer.json beside it"
        )
    return _pipeline(model, settings)


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        settings = parse_json(read_regular(path, LARGEST_CONFIG_BYTES))
    except ValueError as error:
        raise ValueError(f"tokenizer_config.json: {error}") from error
    return settings if isinstance(settings, dict) else {}


def parse(content: bytes) -> SentencePieceModel:
    """Return what a model file says.

    Raises
    ------
    ValueError
        It is damaged.
    """
    pieces: list[Piece] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    for number, value in _fields(content):
        if number == 1:
            pieces.append(_piece(_message(value)))
            if len(pieces) > MOST_PIECES:
                raise ValueError(f"more than {MOST_PIECES} pieces")
        elif number == 2:
            trainer |= _message(value)
        elif number == 3:
            normalizer |= _message(value)
    texts = {piece.text for piece in pieces}
    if not pieces or len(texts) != len(pieces):
        raise ValueError("no pieces" if not pieces else "a piece occurs twice")
    return SentencePieceModel(
        tuple(pieces),
        kind=trainer.get(3, 1),
        byte_fallback=bool(trainer.get(35, 0)),
        space_as_suffix=bool(trainer.get(24, 0)),
        dummy_prefix=bool(normalizer.get(3, 1)),
        strip_spaces=bool(normalizer.get(4, 1)),
        escape_spaces=bool(normalizer.get(5, 1)),
        character_map=_bytes(normalizer.get(2, b"")),
        begin=_control_id(pieces, trainer.get(41, 1)),
        end=_control_id(pieces, trainer.get(42, 2)),
    )


def _message(value: Any) -> dict[int, Any]:
    return dict(_fields(_bytes(value)))


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number where text is due")
    return value


def _control_id(pieces: list[Piece], value: Any) -> int:
    """An id of the trainer, if the vocabulary has a control token there."""
    fits = isinstance(value, int) and value < len(pieces) and pieces[value].kind == CONTROL
    return value if fits else -1


def _piece(fields: dict[int, Any]) -> Piece:
    text = _bytes(fields.get(1, b"")).decode("utf-8")
    score, kind = fields.get(2, 0.0), fields.get(3, NORMAL)
    if not text or len(text) > LONGEST_PIECE or not isinstance(score, float) or not -1e30 < score < 1e30:
        raise ValueError("a piece without text or score")
    return Piece(text, score, kind)


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of every field of a message: int, float, or bytes."""
    position = 0
    while position < len(content):
        key, position = _varint(content, position)
        number, wire = key >> 3, key & 7
        value: Any
        if wire == 0:
            value, position = _varint(content, position)
        elif wire == 2:
            length, position = _varint(content, position)
            value = content[position : position + length]
            position += length
        elif wire in (1, 5):
            layout = "<d" if wire == 1 else "<f"
            (value,) = struct.unpack_from(layout, content, position)
            position += struct.calcsize(layout)
        else:
            raise ValueError("a field of an unknown kind")
        if position > len(content):
            raise ValueError("it is cut off")
        yield number, value


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(content):
            raise ValueError("it is cut off")
        byte = content[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("a number without an end")


def _unsupported(model: SentencePieceModel) -> str:
    """What of a model the pipeline cannot express, or nothing."""
    kinds = [piece.kind for piece in model.pieces]
    if model.kind != BPE:
        # Of two ways to cut a text that are equally likely but for rounding, unigram models take the one that
        # their own arithmetic favours.
        return f"of the kind {_KINDS.get(model.kind, model.kind)} (BPE is read)"
    if kinds.count(UNKNOWN) != 1:
        return "without a piece for the unknown"
    if USER_DEFINED in kinds or UNUSED in kinds:
        return "with user-defined or unused pieces"
    if _ties(model):
        return "in which two merges have the same score"
    if model.space_as_suffix or not model.escape_spaces:
        return "that writes spaces in another way"
    if model.character_map:
        # The library that would apply the table drops combining marks, and crashes on a forged one.
        return "that replaces characters by a table (normalization nmt_nfkc or alike; identity is read)"
    if model.byte_fallback and {f"<0x{byte:02X}>" for byte in range(256)} - {p.text for p in model.pieces}:
        return "that falls back to bytes and lacks pieces for some"
    return ""


def _ties(model: SentencePieceModel) -> bool:
    """Whether which of two merges comes first is left to where they stand. Runs of one character may."""
    merged = [piece for piece in model.pieces if piece.kind == NORMAL and len(piece.text) > 1]
    runs = {(piece.score, piece.text[0]) for piece in merged if len(set(piece.text)) == 1}
    others = [piece.score for piece in merged if len(set(piece.text)) > 1]
    scores = [*others, *(score for score, _ in runs)]
    return len(set(scores)) != len(scores)


def _pipeline(model: SentencePieceModel, settings: dict[str, Any]) -> str:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, processors

    tokenizer = Tokenizer(_bpe(model))
    steps: list[Any] = []
    if model.strip_spaces:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if model.dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    steps.append(normalizers.Replace(" ", SPACE))
    if model.strip_spaces:
        steps.append(normalizers.Replace(Regex(rf"{SPACE}+\z"), ""))
    tokenizer.normalizer = normalizers.Sequence(steps)
    ends = [decoders.Strip(" ", 1, 0)] if model.dummy_prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *ends]
    )
    special = [piece.text for piece in model.pieces if piece.kind in (UNKNOWN, CONTROL)]
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    begin = [model.begin] if settings.get("add_bos_token") is True and model.begin >= 0 else []
    end = [model.end] if settings.get("add_eos_token") is True and model.end >= 0 else []
    if begin or end:
        names = [[model.pieces[each].text for each in side] for side in (begin, end)]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[*names[0], "$A", *names[1]],
            special_tokens=[(model.pieces[each].text, each) for each in dict.fromkeys([*begin, *end])],
        )
    return str(tokenizer.to_str())


def _unknown(model: SentencePieceModel) -> int:
    return next(number for number, piece in enumerate(model.pieces) if piece.kind == UNKNOWN)


def _bpe(model: SentencePieceModel) -> Any:
    """Pieces merge in the order of their scores, wherever two pieces make up a third.

    SentencePiece takes the leftmost of equal merges, so that a run of one character grows from its left end: there
    the longer left part goes first.
    """
    from tokenizers import models

    vocabulary = {piece.text: number for number, piece in enumerate(model.pieces)}
    ranks = {piece.text: -piece.score for piece in model.pieces if piece.kind == NORMAL}
    merges = [
        (text[:cut], text[cut:])
        for text in ranks
        for cut in range(1, len(text))
        if text[:cut] in ranks and text[cut:] in ranks
    ]
    return models.BPE(
        vocab=vocabulary,
        merges=sorted(merges, key=lambda pair: (ranks[pair[0] + pair[1]], -len(pair[0]))),
        unk_token=model.pieces[_unknown(model)].text,
        fuse_unk=True,
        byte_fallback=model.byte_fallback,
    )
