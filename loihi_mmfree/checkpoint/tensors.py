"""Which tensors a model of a given shape has, and whether a file holds exactly those."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from loihi_mmfree.checkpoint.config import ModelConfig
from loihi_mmfree.errors import CheckpointError, UnsupportedModelError

EMBEDDING = "model.embeddings.weight"
HEAD = "lm_head.weight"
FLOAT_TYPES = ("float16", "bfloat16", "float32")
# Left in front of every name by DataParallel and by torch.compile.
WRAPPER_PREFIXES = ("module.", "_orig_mod.")


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


def canonical_name(name: str) -> str:
    """Return the upstream name of a tensor that was saved from inside a wrapper module."""
    while name.startswith(WRAPPER_PREFIXES):
        name = name.split(".", 1)[1]
    return name


def check_tensors(found: Mapping[str, StoredTensor], config: ModelConfig, where: str) -> None:
    """Raise one error that lists every tensor that is missing, unknown, or of the wrong shape or type.

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
    convolutions = [name for name in unknown if "conv1d" in name]
    if convolutions:
        raise UnsupportedModelError(
            f"{where}: short convolutions are not supported; the file holds {', '.join(convolutions)}"
        )
    problems = [f"missing: {name} {list(shape)}" for name, shape in expected.items() if name not in found]
    problems += [f"unknown: {name} {list(found[name].shape)}" for name in unknown]
    for name in known.keys() & found.keys():
        tensor = found[name]
        if tensor.shape != known[name]:
            problems.append(f"wrong shape: {name} is {list(tensor.shape)}, expected {list(known[name])}")
        if tensor.dtype not in FLOAT_TYPES:
            problems.append(f"wrong type: {name} is {tensor.dtype}; allowed: {', '.join(FLOAT_TYPES)}")
    if problems:
        raise CheckpointError(
            f"{where}: the tensors do not match the configuration\n  " + "\n  ".join(sorted(problems))
        )
