"""Recipes: what is not said, what TOML says, and what is refused."""

from __future__ import annotations

import pytest

from loihi_mmfree.checkpoint import PUBLISHED_CONFIGS, parameter_count
from loihi_mmfree.errors import UsageError
from loihi_mmfree.train.recipe import Recipe


@pytest.mark.parametrize(("shape", "rate"), [("370M", 4e-3), ("1.3B", 2.5e-3), ("2.7B", 1.5e-3)])
def test_published_shapes_have_the_learning_rates_of_the_paper(shape: str, rate: float) -> None:
    recipe = Recipe.preset(shape)
    assert recipe.model == PUBLISHED_CONFIGS[shape]
    assert recipe.optimizer.learning_rate == rate


@pytest.mark.parametrize(("shape", "millions"), [("tiny", 1.19), ("demo", 6.18), ("small", 17.3)])
def test_the_other_shapes_are_those_of_the_checkpoints_called_so(shape: str, millions: float) -> None:
    assert parameter_count(Recipe.preset(shape).model) / 1e6 == pytest.approx(millions, rel=5e-3)


def test_a_recipe_is_read_back_as_it_was() -> None:
    text = "shape = 'tiny'\nsteps = 3\n[model]\neos_token_id = 'none'\n[optimizer]\nwarmup = 0.5\n"
    recipe = Recipe.from_toml(text, "a recipe")
    assert recipe.model.eos_token_id is None
    assert (recipe.model.hidden_size, recipe.optimizer.warmup, recipe.steps) == (128, 0.5, 3)
    assert Recipe.from_toml(recipe.to_toml(), "the same") == recipe


def test_a_shape_gives_what_a_table_does_not_say() -> None:
    recipe = Recipe.from_toml("shape = '370M'\n[optimizer]\nwarmup = 0.1\n", "a recipe")
    assert (recipe.optimizer.learning_rate, recipe.optimizer.warmup) == (4e-3, 0.1)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("step = 3", "unknown step; known: model, steps"),
        ("[optimizer]\nrate = 1.0", "recipe: optimizer: unknown rate"),
        ("[model]\nhidden = 3", "recipe: model: unknown hidden"),
        ("[text]\ncolumn = 'a'", "recipe: text: unknown column"),
        ("optimizer = 3", "recipe: optimizer is 3; it must be a table"),
        ("steps = 0", "recipe: steps is 0; it must be a whole number from 1"),
        ("steps = true", "recipe: steps is True"),
        ("steps = 1.5", "recipe: steps is 1.5"),
        ("[optimizer]\nlearning_rate = 2.0", "recipe: optimizer.learning_rate is 2.0; it must be a number"),
        ("precision = 'half'", "recipe: precision is 'half'; it must be one of float32, bfloat16"),
        ("batch = 6\nmicro_batch = 4", "batch 6 is not a multiple of micro_batch 4"),
        ("[model]\nhidden_size = -1", "recipe: model: hidden_size is -1"),
    ],
)
def test_what_is_wrong_is_named(text: str, named: str) -> None:
    with pytest.raises(UsageError, match="recipe") as refused:
        Recipe.from_toml(f"shape = 'tiny'\n{text}", "a recipe")
    assert named in str(refused.value)


@pytest.mark.parametrize("text", ["steps = 3", "shape = 'huge'"])
def test_nothing_is_trained_without_a_shape(text: str) -> None:
    with pytest.raises(UsageError, match=r"tiny, demo, small, 370M, 1\.3B, 2\.7B"):
        Recipe.from_toml(text, "a recipe")


def test_differences_name_settings_and_both_values() -> None:
    one, other = Recipe.preset("tiny"), Recipe.from_mapping({"shape": "tiny", "optimizer": {"warmup": 0.5}})
    assert one.differences(one) == []
    assert one.differences(other) == ["optimizer.warmup is 0.05, not 0.5"]
