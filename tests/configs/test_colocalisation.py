"""The config of co-localisation (C9, C10)."""

from pathlib import Path

import pytest

from stn_jax.launch.cli import load_config_module
from stn_jax.reporting.published import TABLE_5

CONFIG = load_config_module(Path(__file__).parents[2] / "configs" / "colocalisation.py")


def test_table_5_is_twenty_runs_of_five_sets():
    configs = [CONFIG.get_config(selection) for selection in CONFIG.sweep()]
    cells = {(str(c.data.digit), c.data.distortion) for c in configs}
    published = {(digit, canvas) for (digit, _), row in TABLE_5.items() for canvas in row}
    assert cells == published and len(configs) == 20 == len({c.name for c in configs})
    assert {(c.data.count, len(c.seeds), c.margin) for c in configs} == {(100, 5, 1.0)}
    steps = {(c.optimizer.name, c.training.batch_size, c.model.initial_scale) for c in configs}
    assert steps == {("adam", 64, 0.36)}
    num_steps = {(c.data.distortion, c.training.num_steps) for c in configs}
    assert num_steps == {("T", 600), ("TC", 3000)}


def test_selections():
    config = CONFIG.get_config(" 3, t")
    assert (config.data.digit, config.data.distortion, config.recipe) == (3, "T", "views")
    assert config.name == "colocalisation-T-3-views"
    assert CONFIG.sweep("tc,4") == ["TC,4,views"]
    assert CONFIG.get_config().data.digit == 8  # Figure 4's


@pytest.mark.parametrize(
    ("selection", "message"),
    [("10", "no '10' to select"), ("T,TC", "one run takes one canvas, got T, TC")],
)
def test_mistakes(selection, message):
    with pytest.raises(ValueError, match=message):
        CONFIG.get_config(selection)


def test_all_images_of_a_set_are_measured_together():
    for recipe in CONFIG.CHOICES["recipe"]:
        config = CONFIG.get_config(recipe)
        assert config.training.eval_batch_size == config.data.count >= config.training.batch_size
