"""Which tensors a model of a given shape has, and whether a file holds exactly those."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from loihi_mmfree.checkpoint.config import ModelConfig
from loihi_mmfree.checkpoint.wording import listed, shown
from loihi_mmfree.errors import CheckpointError, UnsupportedModelError

EMBEDDING = "model.embeddings.weight"
HEAD = "lm_head.weight"
FLOAT_BYTES: Mapping[str, int] = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
"""The element types that are read, and what they take."""
# Left in names by DataParallel, torch.compile, activation checkpointing, and FSDP.
WRAPPERS = ("module", "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
BOOKKEEPING = ("inv_freq", "position_ids", "num_batches_tracked", "n_averaged", "step")
"""Last parts of the names of buffers that upstream never had and that enter no result of this model."""
_OF_A_MODEL = re.compile(
    r"(^|\.)(embeddings\.weight|lm_head\.(norm\.)?weight|lower_bounds|layers\.\d+\.(attn|mlp)(_norm)?\..*weight)$"
)
_PACKED = re.compile(r"^(u?int|bool|float8|[UI]\d|F8|BOOL)")


@dataclass(frozen=True)
class StoredTensor:
    """What a file says about one of its tensors, without reading it: shape and element type."""

    shape: tuple[int, ...]
    dtype: str


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor of a model, in the order of the data flow.

    Projections are [out, in]. With tied embeddings there is no `lm_head.weight`.
    Source: the module tree of matmulfreellm, mmfreelm/models/hgrn_bit/modeling_hgrn_bit.py. There the
    lower bounds are [L, H] and cannot be used with another `expand_ratio` than 1; here they are [L, H'].
    """
    hidden, channels = config.hidden_size, config.input_dim
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (config.vocab_size, hidden)}
    if config.use_lower_bound:
        shapes["model.lower_bounds"] = (config.num_hidden_layers, channels)
    for layer in range(config.num_hidden_layers):
        block = f"model.layers.{layer}"
        shapes[f"{block}.attn_norm.weight"] = (hidden,)
        for gate in "ifg":
            shapes |= _projection(f"{block}.attn.{gate}_proj", hidden, channels)
        shapes[f"{block}.attn.g_norm.weight"] = (channels,)
        shapes |= _projection(f"{block}.attn.o_proj", channels, hidden)
        shapes[f"{block}.mlp_norm.weight"] = (hidden,)
        shapes |= _projection(f"{block}.mlp.gate_proj", hidden, 2 * config.intermediate_size)
        shapes |= _projection(f"{block}.mlp.down_proj", config.intermediate_size, hidden)
    shapes["model.norm.weight"] = (hidden,)
    shapes |= _projection("lm_head", hidden, config.vocab_size)
    if config.tie_word_embeddings:
        del shapes[HEAD]
    return shapes


def _projection(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.norm.weight": (inputs,), f"{name}.weight": (outputs, inputs)}


def parameter_count(config: ModelConfig) -> int:
    """Return the number of trained parameters, a tied embedding counted once."""
    return sum(math.prod(shape) for shape in expected_shapes(config).values())


def is_projection(name: str) -> bool:
    """Whether the tensor of this name is a matrix that upstream makes ternary."""
    return name == HEAD or name.endswith("_proj.weight")


def is_of_a_model(name: str) -> bool:
    """Whether a name, whatever wrappers it passed, could be of a tensor of `expected_shapes`."""
    return _OF_A_MODEL.search(_unwrapped(name)) is not None


def canonical_names(names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Return the upstream name of every stored name, and the parts of names that were dropped for that.

    Wrapper modules leave parts anywhere in a name, a module around the model one in front of all of them.
    """
    unwrapped = {name: _unwrapped(name) for name in names}
    dropped = [part for part in WRAPPERS if any(part in name.split(".") for name in unwrapped)]
    fronts = {name.removesuffix(EMBEDDING) for name in unwrapped.values() if name.endswith(f".{EMBEDDING}")}
    if len(fronts) != 1 or EMBEDDING in unwrapped.values():
        return unwrapped, dropped
    (front,) = fronts
    return {stored: name.removeprefix(front) for stored, name in unwrapped.items()}, [*dropped, front.rstrip(".")]


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def is_bookkeeping(name: str, tensor: StoredTensor) -> bool:
    """Whether a tensor is a buffer that something around the model keeps, and no weight."""
    return name.rsplit(".", 1)[-1] in BOOKKEEPING and len(tensor.shape) <= 2


def check_tensors(found: Mapping[str, StoredTensor], config: ModelConfig, where: str) -> None:
    """Raise one error that lists the tensors that are missing, unknown, or of the wrong shape or type.

    Raises
    ------
    UnsupportedModelError
        There are weights of a short convolution.
    CheckpointError
        Anything else does not match `expected_shapes(config)`.
    """
    expected = expected_shapes(config)
    # A tied head may be stored once more under its own name.
    known = expected | ({HEAD: expected[EMBEDDING]} if config.tie_word_embeddings else {})
    unknown = sorted(found.keys() - known.keys())
    convolutions = [shown(name) for name in unknown if "conv1d" in name]
    if convolutions:
        raise UnsupportedModelError(
            f"{where}: short convolutions are not supported; the file holds {listed(convolutions)}"
        )
    problems = [f"missing: {name} {list(shape)}" for name, shape in expected.items() if name not in found]
    problems += [f"unknown: {shown(name)} {list(found[name].shape)}" for name in unknown]
    for name in known.keys() & found.keys():
        tensor = found[name]
        if tensor.shape != known[name]:
            problems.append(f"wrong shape: {name} is {list(tensor.shape)}, expected {list(known[name])}")
        if tensor.dtype not in FLOAT_BYTES:
            problems.append(f"wrong type: {name} is {tensor.dtype}; allowed: {', '.join(FLOAT_BYTES)}")
    if problems:
        lines = [*_explanations(found, expected), listed(sorted(problems), "\n  ")]
        raise CheckpointError(f"{where}: the tensors do not match the configuration\n  " + "\n  ".join(lines))


def _explanations(found: Mapping[str, StoredTensor], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """What most likely happened, where that can be told."""
    said = []
    if HEAD in expected and HEAD not in found and EMBEDDING in found:
        said.append(
            f"{HEAD} is missing while tie_word_embeddings is false: if the head is the embedding, set "
            "tie_word_embeddings to true in config.json; else the file is incomplete"
        )
    packed = [name for name, tensor in found.items() if is_projection(name) and _PACKED.match(tensor.dtype)]
    if packed:
        said.append(
            f"{packed[0]} looks packed or quantized already ({found[packed[0]].dtype}): expected are the float "
            "weights of training, from which the ternary codes and their scale are computed"
        )
    return said
