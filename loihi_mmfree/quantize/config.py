"""What the quantizer is asked to do: the width of every kind of value, and what single sites differ in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from loihi_mmfree.errors import UsageError
from loihi_mmfree.manual import manual_page
from loihi_mmfree.untrusted import short, some_of

# Smallest and largest value of each field.
LIMITS = {
    "activation_bits": (4, 16),
    "residual_bits": (8, 24),
    "preactivation_bits": (8, 24),
    "state_bits": (8, 24),
    "product_bits": (8, 24),
    "headroom_bits": (0, 4),
}
FINE = "fine_least_squares"
METHODS = ("max", "least_squares", FINE, "percentile")
"""How a format is chosen: by the largest magnitude, the least squared error, that with any sixteenth of a power of
two as unit (of inputs of projections), or a share of all values."""
INPUT = ".input"
"""End of the names of the sites at the inputs of projections, whose values are sent as graded spikes."""


@dataclass(frozen=True)
class SiteSetting:
    """How the format of one site is chosen.

    Parameters
    ----------
    bits : int
        Width, sign included.
    headroom_bits : int
        Bits kept above what the method covers.
    method : {"max", "least_squares", "fine_least_squares", "percentile"}
        Least squares keeps no headroom.
    percentile : float
        Share of the values, in percent, that "percentile" covers.
    zeros : float
        Share of the values, 0 to 1, that a threshold keeps from being sent.
    """

    bits: int
    headroom_bits: int = 0
    method: str = "max"
    percentile: float = 99.99
    zeros: float = 0.0


@dataclass(frozen=True)
class SiteRule:
    """What some sites differ in; None leaves a setting as it is.

    Parameters
    ----------
    match : str
        A pattern of names of sites: `*.input`, `layers.0.*`, `layers.*.mlp.down_proj.input`.
    bits, headroom_bits, method, percentile, zeros
        See `SiteSetting`.

    Raises
    ------
    UsageError
        A value is none of those allowed.
    """

    match: str
    bits: int | None = None
    headroom_bits: int | None = None
    method: str | None = None
    percentile: float | None = None
    zeros: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.match, str) or not self.match:
            self._refuse("match", "a pattern of names of sites")
        for name, (fewest, widest) in {"bits": (4, 24), "headroom_bits": LIMITS["headroom_bits"]}.items():
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if value is not None and not (whole and fewest <= value <= widest):
                self._refuse(name, f"a whole number from {fewest} to {widest}")
        if self.method is not None and self.method not in METHODS:
            self._refuse("method", f"one of {', '.join(METHODS)}")
        for name, least, most in (("percentile", 50.0, 100.0), ("zeros", 0.0, 0.95)):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and least <= value <= most):
                self._refuse(name, f"a number from {least:g} to {most:g}")

    def _refuse(self, name: str, allowed: str) -> None:
        raise UsageError(
            f"quantization.sites {short(self.match)}: {name} is {short(getattr(self, name))}; it must be {allowed}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what is set, as config.toml stores it."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, values: Any) -> SiteRule:
        """Read a rule back; raise UsageError if a key is unknown or a value is none of those allowed."""
        known = [each.name for each in dataclasses.fields(cls)]
        if not isinstance(values, Mapping) or not values.keys() <= set(known) or "match" not in values:
            raise UsageError(
                f"quantization.sites: {short(values)} is no rule; a rule is a table of match and of "
                f"{', '.join(known[1:])}"
            )
        return cls(**values)


@dataclass(frozen=True)
class QuantizationConfig:
    """Widths in bits, sign included. The defaults lose nothing measurable (docs/fixed-point.md).

    Parameters
    ----------
    activation_bits : int
        Inputs of the ternary projections, 4 to 16. These are the graded spikes: fewer bits, fewer events.
    residual_bits : int
        The embedding output and the residual stream, 8 to 24.
    preactivation_bits : int
        Outputs of the projections before a nonlinearity, 8 to 24.
    state_bits : int
        The recurrent state and the swish of the input gate that feeds it, 8 to 24.
    product_bits : int
        Gated products (y, z) and the values whose squares a norm sums, 8 to 24.
    headroom_bits : int
        How many bits every saturating site keeps above its calibrated maximum, 0 to 4. Inputs of
        projections keep none: they take the format with the least squared error, which may clip a few.
    sites : tuple of SiteRule
        What single sites differ in; later rules go over earlier ones.

    Raises
    ------
    UsageError
        A value is not a whole number within its limits.
    """

    activation_bits: int = 12
    residual_bits: int = 16
    preactivation_bits: int = 16
    state_bits: int = 16
    product_bits: int = 16
    headroom_bits: int = 1
    sites: tuple[SiteRule, ...] = ()

    def __post_init__(self) -> None:
        for name, (smallest, largest) in LIMITS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not smallest <= value <= largest:
                raise UsageError(
                    f"quantization: {name} is {short(value)}; allowed: whole numbers from {smallest} to {largest}"
                )

    def setting(self, site: str, default: SiteSetting) -> SiteSetting:
        """Return how the format of a site is chosen: a default, with the rules that match its name over it.

        Raises
        ------
        UsageError
            A rule asks for what such a site cannot have.
        """
        setting = default
        for rule in self.sites:
            if fnmatchcase(site, rule.match):
                given = {name: value for name, value in rule.to_dict().items() if name != "match"}
                setting = dataclasses.replace(setting, **given)
        least, most = LIMITS["activation_bits" if site.endswith(INPUT) else "product_bits"]
        if not least <= setting.bits <= most:
            raise UsageError(f"quantization.sites: {site} has {setting.bits} bits; allowed: {least} to {most}")
        if setting.zeros and not site.endswith(INPUT):
            raise UsageError(
                f"quantization.sites: {site} is given a share of zeros; a threshold goes with inputs of "
                f"projections (*{INPUT}), whose values are sent"
            )
        if setting.method == FINE and not site.endswith(INPUT):
            raise UsageError(
                f"quantization.sites: {site} is given the method {FINE}; only inputs of projections (*{INPUT}) "
                "have a gain in front and a multiplier behind that take any unit"
            )
        return setting

    def require_matches(self, sites: Iterable[str]) -> None:
        """Refuse a rule that matches none of the sites there are.

        Raises
        ------
        UsageError
        """
        names = list(sites)
        for rule in self.sites:
            if not any(fnmatchcase(site, rule.match) for site in names):
                raise UsageError(
                    f"quantization.sites: {short(rule.match)} matches no site; there are {some_of(names)} "
                    f"({manual_page('fixed-point.md')}, section 10)"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a plain dict, as config.toml stores them."""
        widths = {name: getattr(self, name) for name in LIMITS}
        return {**widths, "sites": [rule.to_dict() for rule in self.sites]} if self.sites else widths

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> QuantizationConfig:
        """Read the fields back; missing ones take their defaults.

        Raises
        ------
        UsageError
            A key is unknown or a value is out of its limits.
        """
        known = (*LIMITS, "sites")
        if not isinstance(values, Mapping):
            raise UsageError(f"quantization is {short(values)}; it must be a table of {', '.join(known)}")
        unknown = sorted(values.keys() - set(known))
        if unknown:
            raise UsageError(f"quantization: unknown {some_of(unknown)}; allowed: {', '.join(known)}")
        rules = values.get("sites", [])
        if not isinstance(rules, list | tuple):
            raise UsageError(f"quantization.sites is {short(rules)}; it must be a list of tables")
        widths = {name: value for name, value in values.items() if name != "sites"}
        return cls(**widths, sites=tuple(map(SiteRule.from_dict, rules)))
