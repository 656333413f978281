r"""German traffic signs (GTSRB): the published recipe with spatial transformers, and two of ours.

The data:    python scripts/prepare_data.py gtsrb --from FOLDER_OF_THE_UNPACKED_ARCHIVES
             with --size 32 for the small recipe
One run:     python experiments/gtsrb.py --workdir runs/one --config configs/gtsrb.py:two,14epochs
The table:   python scripts/sweep.py configs/gtsrb.py:paper --runs-dir runs/gtsrb
The small:   python scripts/sweep.py configs/gtsrb.py:fast --runs-dir runs/gtsrb_fast

A selection names, in any order and any case, separated by commas:

    model          two  one  three  CNN          one run: two unless named
    length         14epochs  26epochs  10epochs  10epochs20k    of `paper`
                   long  short                   of `modern`; of `fast`
    normalisation  both  image  network  neither
    width          narrow  wide                  of `paper`
    seed           seed0  seed1  seed2           seed0 unless named
    recipe         paper  modern  fast           paper unless named

The models are the CNN, and with transformers before its first convolution (one), before the first
and the third (two), or before each (three). Local contrast normalisation is that of the images and
of the maps behind each pooling (both unless named), of one of these, or none. 10epochs20k is 10
epochs of 20,000 training images. Length and width of `paper` are, unless named, those published for
the model.

paper       SGD with a learning rate of 0.01, no momentum, no weight decay, batch 50, images of
            48x48 with local contrast normalisation, no augmentation. Accuracy published after
            training on all images: with two transformers 99.61 (14 epochs) and 99.67 (26), with one
            in the wide network 99.46 (10), with none 98.85 (10). Like for like, 10 epochs of 20,000
            images in the narrow network: none 98.42, one 99.33, two 99.30, three 99.56. Batches are
            drawn with replacement; an epoch is as many steps as its images need, and the sum is
            rounded up to tens. A GPU's work: two transformers take 4.5 GFLOP an image and step.
modern      Ours: the published narrow network and images, with Adam and cosine decay for 26 epochs,
            dropout, small random motions and brightness, He normal weights, and transformers at 0.3
            of the rate, as `fast`. A GPU's work, too. No setting of it has been chosen yet.
fast        Ours, for two CPU cores: images of 32x32, a sixth of the filters, a transformer's
            convolutions narrower still, Adam with cosine decay for 6,000 steps (10 epochs),
            dropout, small random motions and brightness. Chosen on held-out tracks; but a
            lower rate of the transformers was tried because a run on the test set never learnt
            (results/README.md).

Local contrast normalisation undoes any change of brightness; what is left of it where images are
normalised is that bright pixels are cut off at white.

What is chosen is chosen on whole tracks held out of training (data.evaluate_on=validation). The
last step is what a run reports.

Time and score: a run of `fast` takes 10 to 35 minutes on one CPU core; what it reaches beside the
published accuracies is in results/tables/gtsrb_fast.md.
"""

import itertools
import math
from typing import NamedTuple

from ml_collections import ConfigDict

from stn_jax.launch.expand import Range
from stn_jax.launch.selections import parse, parse_run

TRAINING_IMAGES = 39_209

# What a selection may name: as users write it -> as the code calls it. The first is the default.
CHOICES = {
    # The convolutions that a transformer stands before.
    "model": {"two": (1, 3), "one": (1,), "three": (1, 2, 3), "CNN": ()},
    # Epochs (None: the recipe's own number of steps), and the images of each.
    "length": {
        "14epochs": (14, TRAINING_IMAGES),
        "26epochs": (26, TRAINING_IMAGES),
        "10epochs": (10, TRAINING_IMAGES),
        "10epochs20k": (10, 20_000),
        "long": (26, TRAINING_IMAGES),
        "short": (None, TRAINING_IMAGES),
    },
    # Windows of the images', and of the network's.
    "normalisation": {
        "both": ("gaussian", "box"),
        "image": ("gaussian", ""),
        "network": ("", "box"),
        "neither": ("", ""),
    },
    # Three convolutions, a dense layer.
    "width": {"narrow": (150, 200, 300, 350), "wide": (200, 250, 350, 400)},
    "seed": {"seed0": 0, "seed1": 1, "seed2": 2},
    "recipe": {"paper": "paper", "modern": "modern", "fast": "fast"},
}
LENGTHS = {
    "paper": ("14epochs", "26epochs", "10epochs", "10epochs20k"),
    "modern": ("long",),
    "fast": ("short",),
}
# What a number is published for; the widths are narrow but for one transformer's in 10 epochs.
PUBLISHED_LENGTHS = {
    "two": ("14epochs", "26epochs", "10epochs20k"),
    "one": ("10epochs", "10epochs20k"),
    "three": ("10epochs20k",),
    "CNN": ("10epochs", "10epochs20k"),
}


class Selected(NamedTuple):
    """The names of one run, one a kind of `CHOICES`."""

    model: str
    length: str
    normalisation: str
    width: str
    seed: str
    recipe: str

    @property
    def variant(self) -> tuple[str, ...]:
        """The names of normalisation and width, as far as they are not the usual ones."""
        named = {
            self.normalisation: next(iter(CHOICES["normalisation"])),
            self.width: usual_width(self.model, self.length),
        }
        return tuple(name for name, usual in named.items() if name != usual)

    @property
    def words(self) -> tuple[str, ...]:
        """What selects this run."""
        return (self.model, self.length, *self.variant, self.recipe, self.seed)


def usual_width(model: str, length: str) -> str:
    """Return the width that is published for a model and length, or else the narrow one."""
    return "wide" if (model, length) == ("one", "10epochs") else "narrow"


def get_config(selection: str = "") -> ConfigDict:
    """Return the config of one run; the module's docstring explains the selection."""
    chosen = parse_run(selection, CHOICES)
    (selected,) = _runs(chosen)
    images_window, network_window = CHOICES["normalisation"][selected.normalisation]
    epochs, images = CHOICES["length"][selected.length]

    config = ConfigDict()
    config.experiment = "gtsrb"
    config.name = "-".join(["GTSRB", *selected.words])
    config.recipe = selected.recipe
    config.length = selected.length  # as selected: epochs and images follow from it
    config.variant = selected.variant  # what is selected beside the usual
    config.seeds = (CHOICES["seed"][selected.seed],)

    config.data = ConfigDict()
    config.data.digits = "gtsrb"
    config.data.size = 48  # side of the prepared images
    config.data.evaluate_on = "test"  # or "validation": tracks that are not trained on
    config.data.held_out_tracks = 1  # of each class, for validation; of 30 images
    # Training images, drawn from all of them once; 0: all.
    config.data.images = images if images < TRAINING_IMAGES else 0
    config.data.normalise = images_window  # local contrast: "gaussian", in 7x7; "": none
    # Of training images, each at most: degrees, factor, part of the side, factor.
    config.data.rotation = 0.0
    config.data.scale = 1.0
    config.data.shift = 0.0
    config.data.brightness = 1.0

    config.model = ConfigDict()
    config.model.transformers = CHOICES["model"][selected.model]
    config.model.transform = "affine" if selected.model != "CNN" else ""
    # If any, the only ones allowed of rotation, scale and translation, in this order.
    config.model.parts = ()
    # How far these go at most: radians, factors below and above 1, half sides; 0: anywhere.
    limits = {"max_angle": 0.0, "min_scale": 0.0, "max_scale": 0.0, "max_shift": 0.0}
    config.model.limits = ConfigDict(limits)
    config.model.widths = CHOICES["width"][selected.width]
    # Of a transformer before each convolution.
    config.model.localisations = ((200, 300, 200), (150, 150, 150), (150, 150, 150))
    config.model.normalise = network_window  # local contrast behind poolings: "box", in 9x9
    config.model.dropout = 0.0
    # Factor on He normal weights. Torch's defaults, which the sources do not depart from, have this
    # deviation.
    config.model.init_scale = 6**-0.5

    config.training = ConfigDict()
    config.training.batch_size = 50
    config.training.num_steps = 0  # set by the length, or the recipe
    config.training.log_every = 100
    config.training.eval_every = 780  # about an epoch
    config.training.eval_batch_size = 500

    config.optimizer = ConfigDict()
    config.optimizer.name = ""  # "sgd" or "adam"; set by the recipe, as are the next three
    config.optimizer.learning_rate = 0.0
    config.optimizer.momentum = 0.0  # beta 1 of Adam
    config.optimizer.schedule = ""  # "step" or "cosine", to 0 at the end
    config.optimizer.weight_decay = 0.0
    config.optimizer.decay_steps = ()  # never
    config.optimizer.decay_factor = 0.1
    # On the learning rate of all parameters below a name, such as transformers.
    config.optimizer.multipliers = ConfigDict()
    if config.model.transformers:
        config.optimizer.multipliers.transformers = 1.0

    # What changes how fast a run is, not what it computes (up to rounding).
    config.runtime = ConfigDict()
    config.runtime.data_dir = ""  # where GTSRB lies; empty: $STN_DATA_DIR, or ~/.cache/stn_jax
    config.runtime.steps_per_call = 10
    config.runtime.vmap_seeds = False
    config.runtime.num_devices = 0  # that share each batch; 0: all that there are
    config.runtime.checkpoint_every = 500
    config.runtime.tensorboard = False

    RECIPES[selected.recipe](config)
    if epochs:
        steps = epochs * images / config.training.batch_size
        config.training.num_steps = 10 * math.ceil(steps / 10)
    return config


def _paper(config: ConfigDict) -> None:
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.01
    config.optimizer.schedule = "step"


def _modern(config: ConfigDict) -> None:
    config.data.rotation = 10.0
    config.data.scale = 1.15
    config.data.shift = 0.08
    config.data.brightness = 1.5
    config.model.dropout = 0.3
    config.model.init_scale = 1.0
    config.training.batch_size = 64
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.momentum = 0.9
    config.optimizer.schedule = "cosine"
    if config.model.transformers:
        # At the full rate one of six runs of `fast` never learnt; results/README.md.
        config.optimizer.multipliers.transformers = 0.3


def _fast(config: ConfigDict) -> None:
    _modern(config)
    config.data.size = 32
    config.model.widths = (24, 32, 48, 384)
    config.model.localisations = ((16, 24, 32), (16, 24, 32), (16, 24, 32))
    config.training.num_steps = 6_000
    config.training.eval_every = 1_000
    config.optimizer.learning_rate = 2e-3


RECIPES = {"paper": _paper, "modern": _modern, "fast": _fast}


def sweep(selection: str = "") -> list[str]:
    """Return the selections of all runs of a table, or of the part that a selection names.

    Kinds that the selection leaves out are taken whole, but for the recipe (paper), lengths and
    widths (those published for each model), and normalisation (both).
    """
    return [",".join(run.words) for run in _runs(parse(selection, CHOICES), every=True)]


def search(selection: str = "") -> dict[str, Range]:
    """Return what `scripts/sweep.py --search` tries for the runs of a selection."""
    return {
        "optimizer.learning_rate": Range(low=3e-4, high=3e-2, log=True),
        "model.dropout": Range(low=0.0, high=0.6),
        "data.rotation": Range(low=0.0, high=15.0),
        "data.shift": Range(low=0.0, high=0.12),
    }


def _runs(chosen: dict[str, list[str]], *, every: bool = False) -> list[Selected]:
    """Return the runs that are chosen; what is not is the default, or all there is."""
    recipe = _recipe(chosen)
    if recipe == "fast" and chosen["width"]:
        raise ValueError(f"recipe fast has a width of its own, got {', '.join(chosen['width'])}.")
    count = None if every else 1
    found = []
    for model in chosen["model"] or list(CHOICES["model"])[:count]:
        published = PUBLISHED_LENGTHS[model] if recipe == "paper" else LENGTHS[recipe]
        for length in chosen["length"] or published[:count]:
            found += itertools.product(
                [model],
                [length],
                chosen["normalisation"] or list(CHOICES["normalisation"])[:1],
                chosen["width"] or [usual_width(model, length)],
                chosen["seed"] or list(CHOICES["seed"])[:count],
                [recipe],
            )
    return list(itertools.starmap(Selected, found))


def _recipe(chosen: dict[str, list[str]]) -> str:
    """Return the recipe that is named, or that of the length; they have to fit."""
    recipes = chosen["recipe"] or [
        recipe for recipe, lengths in LENGTHS.items() if lengths[0] in chosen["length"]
    ]
    recipe = (recipes or ["paper"])[0]
    lengths = LENGTHS[recipe]
    if misfits := {*chosen["length"]} - {*lengths} or {*chosen["recipe"]} - {recipe}:
        raise ValueError(f"recipe {recipe} is of {' or '.join(lengths)}, got {', '.join(misfits)}.")
    return recipe
