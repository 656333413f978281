"""The config of traffic signs (G3, G4, G6, G7)."""

from pathlib import Path

import pytest

from stn_jax.launch.cli import load_config_module
from stn_jax.launch.sweep import expand
from stn_jax.training.optim import SCHEDULES

PATH = Path(__file__).parents[2] / "configs" / "gtsrb.py"
CONFIG = load_config_module(PATH)


def test_the_table_is_what_is_published_with_three_seeds(tmp_path):
    """G8, G9: epochs and widths differ between the published numbers."""
    configs = [CONFIG.get_config(selection) for selection in CONFIG.sweep()]
    narrow, wide = (150, 200, 300, 350), (200, 250, 350, 400)
    assert {(c.model.transformers, c.length, c.model.widths, c.seeds) for c in configs} == {
        (transformers, length, widths, (seed,))
        for transformers, length, widths in (
            ((), "10epochs", narrow),
            ((1,), "10epochs", wide),
            ((1, 3), "14epochs", narrow),
            ((1, 3), "26epochs", narrow),
            ((1, 2, 3), "14epochs", narrow),
        )
        for seed in (0, 1, 2)
    }
    assert len(configs) == len({c.name for c in configs}) == 15
    assert [run.name for run in expand(PATH, "", tmp_path)] == [c.name for c in configs]
    assert {c.recipe for c in configs} == {"paper"}


def test_the_published_training():
    config = CONFIG.get_config("two")
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.momentum, optimizer.weight_decay) == ("sgd", 0, 0)
    rate = SCHEDULES[optimizer.schedule](optimizer, config.training.num_steps)
    assert [float(rate(step)) for step in (0, 10_979)] == pytest.approx([0.01, 0.01])
    assert config.training.batch_size == 50
    for length, epochs in (("10epochs", 10), ("14epochs", 14), ("26epochs", 26)):
        steps = CONFIG.get_config(f"two,{length}").training.num_steps
        assert 0 <= steps - epochs * 39_209 / 50 < 10 and steps % 10 == 0
    data = config.data
    assert (data.size, data.normalise, config.model.normalise) == (48, "gaussian", "box")
    assert (data.rotation, data.scale, data.shift, data.brightness) == (0, 1, 0, 1)
    assert config.model.init_scale**2 == pytest.approx(1 / 6)
    assert config.model.dropout == 0 and config.model.parts == ()
    assert config.model.localisations[0] == (200, 300, 200)
    assert config.model.localisations[2] == (150, 150, 150)


def test_the_small_recipe_is_a_sweep_of_its_own():
    configs = [CONFIG.get_config(selection) for selection in CONFIG.sweep("fast")]
    assert {c.model.transformers for c in configs} == set(CONFIG.CHOICES["model"].values())
    assert {(c.recipe, c.length) for c in configs} == {("fast", "short")}
    assert len(configs) == 4 * 3
    cnn, *others = (CONFIG.get_config(f"{name},fast") for name in ("CNN", "one", "two", "three"))
    for other in others:
        for section in ("data", "training", "optimizer", "runtime"):
            assert other[section] == cnn[section]


def test_selections_are_read_in_any_order_and_case():
    assert CONFIG.get_config("SEED1,14Epochs,TWO") == CONFIG.get_config("two,paper,seed1")
    assert CONFIG.get_config() == CONFIG.get_config("two,14epochs,seed0,paper")
    assert CONFIG.get_config("short").recipe == "fast"
    assert CONFIG.sweep("cnn,14epochs,seed2") == ["CNN,14epochs,seed2,paper"]
    for selection in [*CONFIG.sweep(), *CONFIG.sweep("fast")]:
        assert CONFIG.sweep(selection) == [selection]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("one,two", "one run takes one model, got one, two"),
        ("thre", "no 'thre' to select. Did you mean three?"),
        ("14epochs,fast", "recipe fast is of short, got 14epochs"),
        ("paper,short", "recipe paper is of 14epochs or 26epochs or 10epochs, got short"),
    ],
)
def test_selections_that_make_no_run_are_explained(selection, message):
    with pytest.raises(ValueError, match=message):
        CONFIG.get_config(selection)
