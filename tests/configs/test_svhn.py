"""The config of SVHN (H4, H11 to H16)."""

from pathlib import Path

import pytest

from stn_jax.launch.cli import load_config_module
from stn_jax.launch.sweep import expand
from stn_jax.training.optim import SCHEDULES

PATH = Path(__file__).parents[2] / "configs" / "svhn.py"
CONFIG = load_config_module(PATH)


def test_the_table_is_three_models_at_two_sizes_with_two_seeds(tmp_path):
    """H15."""
    configs = [CONFIG.get_config(selection) for selection in CONFIG.sweep()]
    assert {(c.model.name, c.data.size, c.seeds) for c in configs} == {
        (model, size, (seed,))
        for model in ("cnn", "st_cnn_single", "st_cnn_multi")
        for size in (64, 128)
        for seed in (0, 1)
    }
    assert len(configs) == len({c.name for c in configs}) == 12
    assert [run.name for run in expand(PATH, "", tmp_path)] == [c.name for c in configs]
    assert {c.recipe for c in configs} == {"paper"}


def test_the_paper_s_training():
    """H12 to H14, H4."""
    config = CONFIG.get_config("Multi,64px")
    assert (config.training.num_steps, config.training.batch_size) == (400_000, 128)
    assert (config.optimizer.name, config.optimizer.schedule) == ("sgd", "step")
    rate = SCHEDULES[config.optimizer.schedule](config.optimizer, config.training.num_steps)
    found = [float(rate(step)) for step in (0, 79_999, 80_001, 160_001, 240_001, 399_999)]
    assert found == pytest.approx([1e-2, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6], rel=1e-3)
    assert (config.optimizer.weight_decay, config.model.dropout) == (5e-4, 0.5)
    assert config.optimizer.multipliers.to_dict() == {"transformers": 0.1}
    assert config.data.held_out == 5000
    assert CONFIG.get_config("CNN").optimizer.multipliers.to_dict() == {}


def test_house_numbers_in_small_are_a_sweep_of_their_own():
    configs = [CONFIG.get_config(selection) for selection in CONFIG.sweep("reduced")]
    assert {(c.model.name, c.data.images, c.seeds) for c in configs} == {
        (model, images, (seed,))
        for model in ("cnn", "st_cnn_single", "st_cnn_multi")
        for images in ("crops", "canvases")
        for seed in (0, 1, 2)
    }
    crops, canvases = (CONFIG.get_config(f"CNN,{name}") for name in ("crops", "canvases"))
    assert crops.data.scale == (1.0, 1.0) and canvases.data.scale[1] < 1
    assert {crops.recipe, canvases.recipe} == {"reduced"}


def test_all_models_are_trained_alike():
    for recipe in ("paper", "reduced"):
        cnn, *others = (CONFIG.get_config(f"{m},{recipe}") for m in ("CNN", "Single", "Multi"))
        for other in others:
            for section in ("data", "training", "runtime"):
                assert other[section] == cnn[section]
            other.optimizer.multipliers = cnn.optimizer.multipliers
            assert other.optimizer == cnn.optimizer


def test_selections_are_read_in_any_order_and_case():
    assert CONFIG.get_config("SEED1,128PX,single") == CONFIG.get_config("Single,paper,128px,seed1")
    assert CONFIG.get_config() == CONFIG.get_config("Multi,64px,seed0,paper")
    assert CONFIG.get_config("reduced").data.images == "canvases"
    assert CONFIG.sweep("cnn,128px") == ["CNN,128px,seed0,paper", "CNN,128px,seed1,paper"]
    for selection in [*CONFIG.sweep(), *CONFIG.sweep("reduced")]:
        assert CONFIG.sweep(selection) == [selection]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("CNN,Single", "one run takes one model, got CNN, Single"),
        ("Mutli", "no 'Mutli' to select. Did you mean Multi?"),
        ("64px,reduced", "recipe reduced is on canvases or crops, got 64px"),
        ("crops,128px", "one run takes one images, got crops, 128px"),
    ],
)
def test_selections_that_make_no_run_are_explained(selection, message):
    with pytest.raises(ValueError, match=message):
        CONFIG.get_config(selection)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("crops,64px", "recipe reduced is on canvases or crops, got 64px"),
        ("paper,reduced", "a table has one recipe, got paper, reduced"),
    ],
)
def test_sweeps_over_two_recipes_are_refused(selection, message):
    with pytest.raises(ValueError, match=message):
        CONFIG.sweep(selection)
