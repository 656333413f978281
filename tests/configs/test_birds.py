"""The config of birds (B2, B10 to B14)."""

from pathlib import Path

import pytest

from stn_jax.launch.cli import load_config_module
from stn_jax.launch.sweep import expand
from stn_jax.training.optim import SCHEDULES

PATH = Path(__file__).parents[2] / "configs" / "birds.py"
CONFIG = load_config_module(PATH)


def test_the_table_is_what_is_published_with_three_seeds(tmp_path):
    """B16."""
    configs = [CONFIG.get_config(selection) for selection in CONFIG.sweep()]
    assert {(c.model.num_transformers, c.data.crop, c.seeds) for c in configs} == {
        (count, crop, (seed,))
        for count, crop in ((0, 224), (2, 224), (2, 448), (4, 448))
        for seed in (0, 1, 2)
    }
    assert len(configs) == len({c.name for c in configs}) == 12
    assert [run.name for run in expand(PATH, "", tmp_path)] == [c.name for c in configs]
    assert {c.recipe for c in configs} == {"paper"}
    assert {c.model.transform for c in configs} == {"", "location"}


@pytest.mark.parametrize("selection", ["2xST-CNN,224px", "4xST-CNN,448px", "CNN"])
def test_the_papers_training(selection):
    """B2, B12, B13, B14."""
    config = CONFIG.get_config(selection)
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.momentum, optimizer.weight_decay) == ("sgd", 0.9, 1e-5)
    assert (config.training.batch_size, config.training.num_steps) == (256, 30_000)
    rate = SCHEDULES[optimizer.schedule](optimizer, 30_000)
    rates = [float(rate(step)) for step in (0, 9_999, 10_000, 20_000, 25_000, 29_999)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 1e-3, 1e-4, 1e-4], rel=1e-5)
    localised = {} if selection == "CNN" else {"localisation": 1e-4}
    assert optimizer.multipliers.to_dict() == localised
    assert (config.data.crop, config.data.size) in ((224, 256), (448, 512))
    model = config.model
    assert (model.crop_size, model.localiser_size, model.num_classes) == (224, 224, 200)
    assert (model.architecture, model.last, model.frozen) == ("inception_v2", "", ())
    assert (model.dropout, model.statistics, model.pretrained) == (0.7, "stored", True)


def test_the_small_recipe_has_half_of_every_size():
    for selection in CONFIG.sweep("reduced"):
        small = CONFIG.get_config(selection)
        large = CONFIG.get_config(selection.replace("half", "").replace("reduced", "paper"))
        for section, name in (
            ("data", "crop"),
            ("data", "size"),
            ("model", "crop_size"),
            ("model", "localiser_size"),
        ):
            assert 2 * small[section][name] == large[section][name]
        assert small.model.num_classes == 50
        assert small.model.name == large.model.name
        assert small.model.transform == large.model.transform
    cnn, *others = (CONFIG.get_config(s) for s in CONFIG.sweep("reduced,seed0"))
    for other in others:
        assert other.training == cnn.training
        assert set(other.model.frozen) - set(cnn.model.frozen) == {"trunk"}


def test_selections_are_read_in_any_order_and_case():
    assert CONFIG.get_config("448PX,2xst-cnn") == CONFIG.get_config("2xST-CNN,448px,seed0,paper")
    assert CONFIG.get_config("CNN,reduced").data.images == "half224px"
    assert CONFIG.get_config("half448px").recipe == "reduced"
    assert CONFIG.get_config("location-scale").model.transform == "location_scale"
    assert CONFIG.get_config("CNN,448px").data.crop == 448
    assert CONFIG.sweep("448px,seed0") == [
        "2xST-CNN,448px,location,seed0,paper",
        "4xST-CNN,448px,location,seed0,paper",
    ]
    assert CONFIG.sweep("2xST-CNN,224px,affine,seed1") == ["2xST-CNN,224px,affine,seed1,paper"]
    for selection in [*CONFIG.sweep(), *CONFIG.sweep("reduced")]:
        assert CONFIG.sweep(selection) == [selection]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("224px,448px", "one run takes one images, got 224px, 448px"),
        ("2xSTCN", "no '2xSTCN' to select. Did you mean 2xST-CNN?"),
        ("half224px,paper", "recipe paper is on 224px or 448px, got half224px"),
        ("224px,reduced", "recipe reduced is on half224px or half448px, got 224px"),
        ("CNN,affine", "the CNN has no transform, got affine"),
    ],
)
def test_selections_that_make_no_run_are_explained(selection, message):
    with pytest.raises(ValueError, match=message):
        CONFIG.get_config(selection)
