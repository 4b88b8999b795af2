"""The search itself, over judges whose verdict is a sum: a cost for every bit that a site has less."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import pytest

from loihi_mmfree.compiler.config import CompileConfig
from loihi_mmfree.errors import UsageError
from loihi_mmfree.search.groups import SiteGroup
from loihi_mmfree.search.judge import Verdict
from loihi_mmfree.search.narrowing import Budget, Judging, Search

SITES = tuple(f"layers.{layer}.attn.o_proj.input" for layer in range(4))
STATE = ("layers.0.attn.state",)
BITS = {**dict.fromkeys(SITES, 12), **dict.fromkeys(STATE, 16)}
GROUPS = [SiteGroup("o", SITES)], [SiteGroup("state", STATE)]


class Sum(Judging):
    """Every bit under a site's own need costs a share of perplexity."""

    def __init__(self, needs: Mapping[str, int], cost: float = 0.01, spread: float = 0.0) -> None:
        self.needs, self.cost, self.spread = needs, cost, spread

    def judge(self, bits: Mapping[str, int]) -> Verdict:
        lost = self.cost * sum(max(need - bits[site], 0) for site, need in self.needs.items())
        return Verdict(lost, (lost - self.spread, lost + self.spread), 1.0)


def search(judge: Judging, budget: float, most: int = 1000) -> Search:
    return Search(judge, CompileConfig(), BITS, Budget(budget, most))


def test_every_site_becomes_as_narrow_as_it_can_be() -> None:
    needs = dict(zip(SITES, (8, 7, 7, 5), strict=True)) | {STATE[0]: 12}
    found = search(Sum(needs), 0.0)
    assert found.run(*GROUPS)
    assert found.bits == needs


def test_nothing_narrower_by_a_step_keeps_the_budget() -> None:
    needs = dict(zip(SITES, (9, 7, 10, 5), strict=True)) | {STATE[0]: 12}
    judge = Sum(needs)
    found = search(judge, 0.025)
    assert found.run(*GROUPS)
    assert judge.judge(found.bits).relative <= 0.025
    single = (SiteGroup(site, (site,)) for site in (*SITES, *STATE))
    narrower = [each for group in single if (each := group.narrowed(found.bits)) is not None]
    assert all(judge.judge(each).relative > 0.025 for each in narrower)


@pytest.mark.parametrize("need", range(4, 13))
def test_the_width_of_all_inputs_is_found_by_halving(need: int) -> None:
    found = search(Sum(dict.fromkeys(SITES, need)), 0.0)
    found.run([SiteGroup("o", SITES)], [])
    assert set(found.bits[site] for site in SITES) == {need}
    alike = list(itertools.takewhile(lambda trial: trial.what.startswith("*"), found.trials[1:]))
    assert len(alike) <= math.ceil(math.log2(9))


def test_the_upper_end_of_the_interval_has_to_keep_the_budget() -> None:
    needs = dict.fromkeys(SITES, 8) | {STATE[0]: 16}
    certain, uncertain = search(Sum(needs), 0.05), search(Sum(needs, spread=0.02), 0.05)
    certain.run(*GROUPS)
    uncertain.run(*GROUPS)
    assert sum(certain.bits.values()) == sum(uncertain.bits.values()) - 2


def test_trials_end_the_search_with_what_was_kept() -> None:
    found = search(Sum(dict.fromkeys(SITES, 6)), 0.0, most=2)
    assert not found.run(*GROUPS)
    assert len(found.trials) == 2
    assert found.bits == BITS | dict.fromkeys(SITES, 8)


def test_a_refused_network_is_not_kept_and_says_why() -> None:
    class Narrow(Sum):
        def judge(self, bits: Mapping[str, int]) -> Verdict:
            return Verdict.refused("R2: too wide") if bits[SITES[0]] < 8 else super().judge(bits)

    found = search(Narrow({}), 0.0)
    found.run([SiteGroup("o", SITES[:1])], [])
    assert found.bits[SITES[0]] == 8
    assert str(found.trials[-1]).endswith("R2: too wide")


def test_a_budget_out_of_reach_says_how_close_the_widest_came() -> None:
    with pytest.raises(UsageError, match=r"come to \+4\.000% .* allowed \+0\.200%; start from wider ones"):
        search(Sum(dict.fromkeys(SITES, 13)), 0.002).run(*GROUPS)


def test_a_text_that_cannot_tell_is_said_to_be_too_short() -> None:
    with pytest.raises(UsageError, match=r"\(-1\.000% to \+1\.000%\).* too short to tell"):
        search(Sum({}, spread=0.01), 0.002).run(*GROUPS)


@pytest.mark.parametrize("budget", [-0.1, 1.5, math.nan])
def test_a_budget_is_a_share(budget: float) -> None:
    with pytest.raises(UsageError, match="a share of perplexity"):
        Budget(budget, 40)


def test_the_settings_of_a_trial_give_its_widths() -> None:
    found = search(Sum(dict(zip(SITES, (8, 7, 7, 5), strict=True))), 0.0)
    found.run(*GROUPS)
    rules = found.trials[-1].config.quantization.sites
    assert {rule.match: rule.bits for rule in rules}["*.input"] == 7
