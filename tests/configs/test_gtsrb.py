"""The config of traffic signs (G3, G4, G6, G7)."""

from pathlib import Path

import jax
import pytest

from stn_jax.launch.cli import load_config_module
from stn_jax.launch.gtsrb import make_model
from stn_jax.launch.sweep import expand
from stn_jax.models.pure import count_params
from stn_jax.reporting.published import GTSRB_FAST_NOTES
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
            ((), "10epochs20k", narrow),
            ((1,), "10epochs", wide),
            ((1,), "10epochs20k", narrow),
            ((1, 3), "14epochs", narrow),
            ((1, 3), "26epochs", narrow),
            ((1, 3), "10epochs20k", narrow),
            ((1, 2, 3), "10epochs20k", narrow),
        )
        for seed in (0, 1, 2)
    }
    assert len(configs) == len({c.name for c in configs}) == 24
    assert {c.variant for c in configs} == {()}
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
    part = CONFIG.get_config("two,10epochs20k")
    assert (part.data.images, part.training.num_steps) == (20_000, 4_000)
    data = config.data
    assert data.images == 0
    assert (data.size, data.normalise, config.model.normalise) == (48, "gaussian", "box")
    assert (data.rotation, data.scale, data.shift, data.brightness) == (0, 1, 0, 1)
    assert config.model.init_scale**2 == pytest.approx(1 / 6)
    assert config.model.dropout == 0 and config.model.parts == ()
    assert config.model.localisations[0] == (200, 300, 200)
    assert config.model.localisations[2] == (150, 150, 150)


@pytest.mark.parametrize(("recipe", "length"), [("fast", "short"), ("modern", "long")])
def test_our_recipes_are_sweeps_of_their_own(recipe, length):
    configs = [CONFIG.get_config(selection) for selection in CONFIG.sweep(recipe)]
    assert {c.model.transformers for c in configs} == set(CONFIG.CHOICES["model"].values())
    assert {(c.recipe, c.length) for c in configs} == {(recipe, length)}
    assert len(configs) == 4 * 3
    cnn, *others = (CONFIG.get_config(f"{name},{recipe}") for name in ("CNN", "one", "two"))
    assert cnn.name == f"GTSRB-CNN-{length}-{recipe}-seed0"
    for other in others:
        assert other.model.widths == cnn.model.widths
        for section in ("data", "training", "runtime"):
            assert other[section] == cnn[section]
        assert list(other.optimizer.multipliers) == ["transformers"]
        del other.optimizer.multipliers.transformers
        assert other.optimizer == cnn.optimizer


def test_the_modern_recipe_has_the_published_network_and_images():
    """But for the weights and dropout; 26 epochs of 39,209 images in batches of 64."""
    ours, paper = CONFIG.get_config("two,modern"), CONFIG.get_config("two,paper")
    for field in ("transformers", "transform", "widths", "localisations", "normalise"):
        assert ours.model[field] == paper.model[field]
    assert (ours.data.size, ours.data.normalise) == (paper.data.size, paper.data.normalise)
    assert ours.training.num_steps == 15_930


def test_what_the_table_says_of_the_fast_recipe():
    """The text beside the table has its widths, and how large its networks are."""
    config = CONFIG.get_config("two,fast")
    assert config.data.size == 32
    assert (config.data.normalise, config.model.normalise) == ("gaussian", "box")
    (text,) = (note for note in GTSRB_FAST_NOTES if note.startswith("Ours differ"))
    assert "10 epochs of all images, of 32x32;" in text
    assert round(config.training.num_steps * config.training.batch_size / 39_209) == 10
    assert f"{', '.join(map(str, config.model.widths))} filters and units" in text
    sizes = []
    for model in ("CNN", "one", "two", "three"):
        shapes, _ = jax.eval_shape(
            make_model(CONFIG.get_config(f"{model},fast")).init, jax.random.key(0)
        )
        sizes.append(f"{count_params(shapes):,}")
    assert f"{', '.join(sizes[:-1])} and {sizes[-1]} parameters" in text


@pytest.mark.parametrize("recipe", ["paper", "modern", "fast"])
def test_each_normalisation_has_a_name_of_its_own(recipe):
    """Either can be left out; what is usual is not named."""
    names = ("both", "image", "network", "neither")
    configs = [CONFIG.get_config(f"two,{name},{recipe}") for name in names]
    assert [bool(c.data.normalise) for c in configs] == [True, True, False, False]
    assert [bool(c.model.normalise) for c in configs] == [True, False, True, False]
    assert len({c.name for c in configs}) == 4
    for name, config in zip(names, configs, strict=True):
        assert config.variant == (() if name == "both" else (name,))
        assert (f"-{name}-" in config.name) == (name != "both")
    assert CONFIG.get_config(f"two,{recipe}") in configs
    selections = CONFIG.sweep(f"two,seed0,{recipe},both,image,network,neither")
    lengths = {"paper": 3}.get(recipe, 1)
    assert len(selections) == len(set(selections)) == 4 * lengths


def test_widths_can_be_the_same_for_all():
    """So that one transformer and none are compared alike."""
    one = CONFIG.get_config("one,10epochs,narrow")
    assert one.model.widths == CONFIG.get_config("CNN,10epochs").model.widths
    assert one.name == "GTSRB-one-10epochs-narrow-paper-seed0"
    assert CONFIG.get_config("one,10epochs,wide") == CONFIG.get_config("one,10epochs")


def test_selections_are_read_in_any_order_and_case():
    assert CONFIG.get_config("SEED1,14Epochs,TWO") == CONFIG.get_config("two,paper,seed1")
    assert CONFIG.get_config() == CONFIG.get_config("two,14epochs,seed0,paper")
    assert CONFIG.get_config("short").recipe == "fast"
    assert CONFIG.sweep("cnn,14epochs,seed2") == ["CNN,14epochs,paper,seed2"]
    for selection in [*CONFIG.sweep(), *CONFIG.sweep("fast")]:
        assert CONFIG.sweep(selection) == [selection]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("one,two", "one run takes one model, got one, two"),
        ("thre", "no 'thre' to select. Did you mean three?"),
        ("14epochs,fast", "recipe fast is of short, got 14epochs"),
        ("paper,short", "recipe paper is of 14epochs or .* or 10epochs20k, got short"),
        ("fast,wide", "recipe fast has a width of its own, got wide"),
    ],
)
def test_selections_that_make_no_run_are_explained(selection, message):
    with pytest.raises(ValueError, match=message):
        CONFIG.get_config(selection)
