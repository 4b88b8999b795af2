"""Which sites are narrowed together, and the rules that give them their widths."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from loihi_mmfree.checkpoint import Checkpoint
from loihi_mmfree.compiler.layers import layer_graph, sites
from loihi_mmfree.quantize.calibration import observe
from loihi_mmfree.quantize.config import QuantizationConfig, SiteRule, SiteSetting
from loihi_mmfree.search.groups import SiteGroup, input_groups, other_groups, with_widths

KINDS = "o_proj.input", "state"
SITES = [*(f"layers.{layer}.attn.{kind}" for layer in range(3) for kind in KINDS), "lm_head.input"]


def widths(before: dict[str, int], *rules: SiteRule) -> dict[str, int]:
    """The widths that rules give, by the configuration's own reading of them."""
    config = QuantizationConfig(sites=rules)
    return {site: config.setting(site, SiteSetting(bits)).bits for site, bits in before.items()}


def test_every_site_of_a_model_is_in_one_group(make_checkpoint: Callable[..., Checkpoint]) -> None:
    config = make_checkpoint().config
    every = sorted(sites(layer_graph(config)))
    groups = [*input_groups(every, config), *other_groups(every)]
    assert sorted(site for group in groups for site in group.sites) == every


def test_inputs_come_by_kind_those_with_most_weights_behind_them_first(
    make_checkpoint: Callable[..., Checkpoint],
) -> None:
    checkpoint = make_checkpoint(vocab_size=40, hidden_size=16, intermediate_size=24)
    observed = observe(checkpoint, np.arange(32), QuantizationConfig())
    first, second, *_ = input_groups(list(observed.scalings), checkpoint.config)
    assert first.sites == ("layers.0.mlp.gate_proj.input", "layers.1.mlp.gate_proj.input")
    assert second.sites == ("layers.0.mlp.down_proj.input", "layers.1.mlp.down_proj.input")


def test_a_tied_head_has_the_weights_of_the_embedding(make_checkpoint: Callable[..., Checkpoint]) -> None:
    config = make_checkpoint(tie_word_embeddings=True, vocab_size=4000).config
    first, *_ = input_groups(sorted(sites(layer_graph(config))), config)
    assert first.sites == ("lm_head.input",)


def test_a_group_narrows_to_the_least_width_and_no_further() -> None:
    group = SiteGroup("o", ("layers.0.attn.o_proj.input",))
    assert group.narrowed({"layers.0.attn.o_proj.input": 5, "other": 16}) == {
        "layers.0.attn.o_proj.input": 4,
        "other": 16,
    }
    assert group.narrowed({"layers.0.attn.o_proj.input": 4}) is None


def test_halves_go_down_to_single_layers() -> None:
    group = SiteGroup("o", tuple(site for site in SITES if "o_proj" in site))
    first, second = group.halves()
    assert first.sites + second.sites == group.sites
    assert first.halves() == ()
    assert [each.name for each in second.halves()] == list(second.sites)
    assert second.name == "layers.1-2.attn.o_proj.input"


def test_rules_give_exactly_the_widths_and_are_few() -> None:
    before = {site: 12 if site.endswith("input") else 16 for site in SITES}
    after = {**dict.fromkeys(before, 8), "layers.1.attn.o_proj.input": 9, "lm_head.input": 6}
    rules = with_widths(QuantizationConfig(), before, after)
    assert widths(before, *rules) == after
    assert [rule.match for rule in rules] == [
        "*.input", "layers.*.attn.state", "lm_head.input", "layers.1.attn.o_proj.input",
    ]  # fmt: skip


def test_rules_go_behind_those_that_were_there() -> None:
    given = SiteRule("*.o_proj.input", bits=10, zeros=0.1)
    before = {site: 10 if "o_proj" in site else 12 for site in SITES}
    after = {**before, "layers.0.attn.o_proj.input": 9}
    first, *rules = with_widths(QuantizationConfig(sites=(given,)), before, after)
    assert first == given
    assert widths(dict.fromkeys(SITES, 12), first, *rules) == after
    assert with_widths(QuantizationConfig(), before, before) == ()
