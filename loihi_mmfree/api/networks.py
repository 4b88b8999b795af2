"""A network as it is given: a Net, or the path of its folder."""

from __future__ import annotations

from pathlib import Path

from loihi_mmfree.net.artifact import Net, load_net
from loihi_mmfree.sim.session.running import tokenizer_of
from loihi_mmfree.text import Tokenizer

AnyNet = Net | str | Path


def load(path: str | Path) -> Net:
    """Read a compiled network and check its hashes."""
    return load_net(path)


def loaded(net: AnyNet) -> Net:
    """Return the network, read if it was given as a folder."""
    return net if isinstance(net, Net) else load_net(net)


def folder(net: AnyNet) -> Path:
    """Return the folder of a network."""
    return net.path if isinstance(net, Net) else Path(net)


def tokenizer(net: AnyNet) -> Tokenizer | None:
    """Return the tokenizer of a network; None if its checkpoint had none."""
    return tokenizer_of(loaded(net))
