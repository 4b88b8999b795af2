"""Sites that are narrowed together, and the widths that they may take."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from loihi_mmfree.checkpoint import ModelConfig, expected_shapes
from loihi_mmfree.checkpoint.tensors import EMBEDDING
from loihi_mmfree.quantize.config import INPUT, LIMITS, QuantizationConfig, SiteRule

_LAYER = re.compile(r"(?<=^layers\.)\d+(?=\.)")
INPUT_STEP, OTHER_STEP = 1, 2
"""Bits less at a time."""
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "state": ("*.attn.state",),
    "residual stream": ("embeddings", "*.residual"),
    "products": ("*statistic", "*.attn.output", "*.mlp.output"),
    "pre-activations": ("*_proj.output", "*.gate_proj.gate", "*.gate_proj.up"),
}
"""Sites that send nothing through synapses; each family is narrowed as a whole."""


@dataclass(frozen=True)
class SiteGroup:
    """Sites that are narrowed together.

    Parameters
    ----------
    name : str
        For people.
    sites : tuple of str
    """

    name: str
    sites: tuple[str, ...]

    @property
    def is_input(self) -> bool:
        """Whether these are inputs of projections, whose values are sent."""
        return self.sites[0].endswith(INPUT)

    def narrowed(self, bits: Mapping[str, int]) -> dict[str, int] | None:
        """Return the widths of all sites with these a step narrower; None if none of these can be."""
        least = LIMITS["activation_bits" if self.is_input else "product_bits"][0]
        step = INPUT_STEP if self.is_input else OTHER_STEP
        changed = {site: max(bits[site] - step, least) for site in self.sites}
        if all(changed[site] >= bits[site] for site in self.sites):
            return None
        return {**bits, **changed}

    def halves(self) -> tuple[SiteGroup, ...]:
        """Return both halves of the inputs of projections, by layers; nothing where there is none."""
        if len(self.sites) < 2 or not self.is_input:
            return ()
        middle = len(self.sites) // 2
        return tuple(SiteGroup(_name(part), part) for part in (self.sites[:middle], self.sites[middle:]))


def input_groups(sites: Iterable[str], model: ModelConfig) -> list[SiteGroup]:
    """Return the inputs of projections by kind, those first behind which most weights lie.

    Parameters
    ----------
    sites : iterable of str
        All there are, in the order of the layers.
    model : ModelConfig
    """
    kinds: dict[str, list[str]] = {}
    for site in sites:
        if site.endswith(INPUT):
            kinds.setdefault(kind_of(site), []).append(site)
    shapes = expected_shapes(model)

    def weights(kind: str) -> int:
        return sum(_weights(site, shapes) for site in kinds[kind])

    ordered = sorted(kinds, key=weights, reverse=True)
    return [SiteGroup(_name(tuple(kinds[kind])), tuple(kinds[kind])) for kind in ordered]


def other_groups(sites: Iterable[str]) -> list[SiteGroup]:
    """Return the families of all other sites."""
    others = [site for site in sites if not site.endswith(INPUT)]
    members = {
        name: tuple(site for site in others if any(fnmatchcase(site, pattern) for pattern in patterns))
        for name, patterns in FAMILIES.items()
    }
    return [SiteGroup(name, found) for name, found in members.items() if found]


def kind_of(site: str) -> str:
    """Return a site's name with `*` for its layer."""
    return _LAYER.sub("*", site)


def with_widths(
    config: QuantizationConfig, before: Mapping[str, int], after: Mapping[str, int]
) -> tuple[SiteRule, ...]:
    """Return the rules of a configuration with others behind them, that give every site a width.

    A rule for the inputs of all projections, one for each kind, one for each site: none where nothing changes.

    Parameters
    ----------
    config : QuantizationConfig
    before, after : mapping of str to int
        The width of each site under `config`, and as it is to be.
    """
    rules = list(config.sites)
    now = dict(before)
    inputs = {site: f"*{INPUT}" for site in after if site.endswith(INPUT)}
    for level in (inputs, {site: kind_of(site) for site in after}, {site: site for site in after}):
        for pattern in dict.fromkeys(level.values()):
            matched = [site for site in level if level[site] == pattern]
            common = _commonest([after[site] for site in matched])
            different = any(now[site] != after[site] for site in matched)
            if different and any(now[site] != common for site in matched):
                rules.append(SiteRule(pattern, bits=common))
                now.update(dict.fromkeys(matched, common))
    return tuple(rules)


def _commonest(widths: Sequence[int]) -> int:
    """The width that most have; of several the widest."""
    counted = Counter(widths)
    return max(counted, key=lambda width: (counted[width], width))


def _weights(site: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many weights lie behind an input; a site is named as the tensors of its projection are."""
    name = f"{site.removesuffix(INPUT)}.weight"
    rows, columns = shapes.get(f"model.{name}") or shapes.get(name) or shapes[EMBEDDING]
    return rows * columns


def _name(sites: tuple[str, ...]) -> str:
    """What a group of sites of one kind is called."""
    if len(sites) == 1:
        return sites[0]
    first, last = (_LAYER.search(site) for site in (sites[0], sites[-1]))
    assert first is not None
    assert last is not None
    return kind_of(sites[0]).replace("*", f"{first[0]}-{last[0]}")
