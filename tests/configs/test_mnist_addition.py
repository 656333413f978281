"""The config of MNIST addition (A3, A5)."""

from pathlib import Path

import pytest

from stn_jax.launch.cli import load_config_module

CONFIGS = Path(__file__).parents[2] / "configs"
ADDITION = load_config_module(CONFIGS / "mnist_addition.py")
DISTORTED = load_config_module(CONFIGS / "distorted_mnist.py")


def test_table_4_is_eight_runs_with_a_config_each():
    configs = [ADDITION.get_config(selection) for selection in ADDITION.sweep()]
    models = {(c.model.name, c.model.num_transformers, c.model.transform) for c in configs}
    transformed = {
        ("st_fcn", count, transform)
        for count in (1, 2)
        for transform in ("affine", "projective", "tps")
    }
    assert models == {("fcn", 0, ""), ("cnn", 0, "")} | transformed
    assert len(configs) == len(models) == len({c.name for c in configs})
    assert {(c.experiment, c.recipe, c.data.distortion) for c in configs} == {
        ("mnist_addition", "fast", "RTS")
    }
    for config in configs:
        assert config.model.downsample == bool(config.model.transform)


@pytest.mark.parametrize("recipe", ["fast", "paper"])
@pytest.mark.parametrize("model", ["FCN", "CNN", "ST-FCN,TPS"])
def test_recipes_are_those_of_distorted_mnist(recipe, model):
    """A5: A.1 refers to Sect. 4.1; all that says how to train is the same."""
    ours = ADDITION.get_config(f"{model},{recipe}")
    theirs = DISTORTED.get_config(f"RTS,{model},{recipe}")
    assert ours.training == theirs.training
    assert ours.optimizer == theirs.optimizer
    assert ours.runtime == theirs.runtime
    assert ours.data == theirs.data
    del ours.model.num_transformers
    assert ours.model == theirs.model


def test_two_transformers_are_trained_as_one():
    one, two = (ADDITION.get_config(f"{name},TPS") for name in ("ST-FCN", "2xST-FCN"))
    assert (one.training, one.optimizer, one.runtime) == (two.training, two.optimizer, two.runtime)


def test_long_is_fast_with_three_times_the_iterations():
    fast, long = (ADDITION.get_config(f"FCN,{recipe}") for recipe in ("fast", "long"))
    assert long.training.num_steps == 3 * fast.training.num_steps
    assert long.optimizer == fast.optimizer and long.model == fast.model


@pytest.mark.parametrize("recipe", ["fast", "long", "paper", "quickstart"])
def test_every_recipe_has_configs_for_all_of_its_sweep(recipe):
    selections = ADDITION.sweep(recipe)
    assert len(selections) == (4 if recipe == "quickstart" else 8)
    for selection in selections:
        config = ADDITION.get_config(selection)
        assert config.recipe == recipe and config.name.endswith(recipe)
        assert ADDITION.sweep(selection) == [selection]


def test_selections_are_read_in_any_order_and_case():
    assert ADDITION.get_config("tps,2XST_FCN") == ADDITION.get_config("2xST-FCN,TPS,fast")
    assert ADDITION.get_config() == ADDITION.get_config("2xST-FCN,Aff,fast")
    assert ADDITION.sweep("2xst-fcn,Proj,TPS") == ["2xST-FCN,Proj,fast", "2xST-FCN,TPS,fast"]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("ST-FCN,2xST-FCN", "one run takes one model, got ST-FCN, 2xST-FCN"),
        ("CNN,TPS", "CNN has no transformer: leave TPS out"),
        ("2xST-FNC", "no '2xST-FNC' to select. Did you mean 2xST-FCN?"),
        ("RTS", r"no 'RTS' to select.* There are model: 2xST-FCN ST-FCN FCN CNN; transform:"),
    ],
)
def test_selections_that_make_no_run_are_explained(selection, message):
    with pytest.raises(ValueError, match=message):
        ADDITION.get_config(selection)
