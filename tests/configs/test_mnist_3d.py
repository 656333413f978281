"""The config of 3-D MNIST (V4, V5)."""

from pathlib import Path

import pytest

from stn_jax.launch.cli import load_config_module
from stn_jax.launch.sweep import expand

PATH = Path(__file__).parents[2] / "configs" / "mnist_3d.py"
CONFIG = load_config_module(PATH)


def test_the_table_is_two_models_with_three_seeds(tmp_path):
    configs = [CONFIG.get_config(selection) for selection in CONFIG.sweep()]
    assert {(c.model.name, c.seeds) for c in configs} == {
        (model, (seed,)) for model in ("cnn", "st_cnn") for seed in (0, 1, 2)
    }
    assert len(configs) == len({c.name for c in configs}) == 6
    assert [run.name for run in expand(PATH, "", tmp_path)] == [c.name for c in configs]
    for config in configs:
        assert (config.experiment, config.recipe, config.data.size) == ("mnist_3d", "fast", 60)
        assert (config.model.transform == "affine_3d") == (config.model.name == "st_cnn")
        assert len(config.model.output_shape) == (3 if config.model.transform else 0)


def test_both_models_are_trained_alike():
    with_transformer, without = (CONFIG.get_config(name) for name in ("ST-CNN", "CNN"))
    for section in ("data", "training", "runtime"):
        assert with_transformer[section] == without[section]
    with_transformer.optimizer.multipliers = without.optimizer.multipliers = {}
    assert with_transformer.optimizer == without.optimizer


@pytest.mark.parametrize("recipe", ["fast", "quickstart"])
def test_every_recipe_has_configs_for_all_of_its_sweep(recipe):
    selections = CONFIG.sweep(recipe)
    assert len(selections) == 6
    for selection in selections:
        assert CONFIG.get_config(selection).recipe == recipe
        assert CONFIG.sweep(selection) == [selection]


def test_selections_are_read_in_any_order_and_case():
    assert CONFIG.get_config("seed2,st_cnn") == CONFIG.get_config("ST-CNN,fast,Seed2")
    assert CONFIG.get_config() == CONFIG.get_config("ST-CNN,seed0,fast")
    assert CONFIG.sweep("cnn,seed1,seed2") == ["CNN,fast,seed1", "CNN,fast,seed2"]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("CNN,ST-CNN", "one run takes one model, got CNN, ST-CNN"),
        ("ST-CNM", "no 'ST-CNM' to select. Did you mean ST-CNN?"),
        ("TPS", r"no 'TPS' to select.* There are model: ST-CNN CNN; seed: seed0 seed1 seed2;"),
    ],
)
def test_selections_that_make_no_run_are_explained(selection, message):
    with pytest.raises(ValueError, match=message):
        CONFIG.get_config(selection)
