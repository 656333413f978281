r"""German traffic signs (GTSRB): the published recipe with spatial transformers, and a small one.

The data:    python scripts/prepare_data.py gtsrb --from FOLDER_OF_THE_UNPACKED_ARCHIVES
             with --size 32 for the small recipe
One run:     python experiments/gtsrb.py --workdir runs/one --config configs/gtsrb.py:two,14epochs
The table:   python scripts/sweep.py configs/gtsrb.py:paper --runs-dir runs/gtsrb

A selection names, in any order and any case, separated by commas:

    model     two  one  three  CNN          one run: two unless named
    length    14epochs  26epochs  10epochs  of `paper`: that published for the model unless named
              short                         of `fast`
    seed      seed0  seed1  seed2           seed0 unless named
    recipe    paper  fast                   paper unless named

The models are the CNN, and with transformers before its first convolution (one), before the first
and the third (two), or before each (three, which is not published).

paper       SGD with a learning rate of 0.01, no momentum, no weight decay, batch 50, images of
            48x48 with local contrast normalisation, no augmentation. Accuracy published with two:
            99.61 after 14 epochs and 99.67 after 26; with one, in a wider network, 99.46, and with
            none 98.85, both after 10. Batches are drawn with replacement; an epoch is as many steps
            as 39,209 images need, and the sum is rounded up to tens. A GPU's work: two transformers
            take 4.5 GFLOP an image and step.
fast        Ours, for two CPU cores: images of 32x32, a sixth of the filters, Adam with cosine
            decay, dropout, small random motions and brightness, no local normalisation. To be
            chosen on whole tracks held out of training (data.evaluate_on=validation).

The last step is what a run reports.
"""

import difflib
import itertools
import math

from ml_collections import ConfigDict

# What a selection may name: as users write it -> as the code calls it. The first is the default.
CHOICES = {
    # The convolutions that a transformer stands before.
    "model": {"two": (1, 3), "one": (1,), "three": (1, 2, 3), "CNN": ()},
    "length": {"14epochs": 14, "26epochs": 26, "10epochs": 10, "short": None},
    "seed": {"seed0": 0, "seed1": 1, "seed2": 2},
    "recipe": {"paper": "paper", "fast": "fast"},
}
# What a number is published for, and the one with three like the one with two.
PUBLISHED_LENGTHS = {
    "two": ("14epochs", "26epochs"),
    "one": ("10epochs",),
    "three": ("14epochs",),
    "CNN": ("10epochs",),
}
TRAINING_IMAGES = 39_209


def get_config(selection: str = "") -> ConfigDict:
    """Return the config of one run; the module's docstring explains the selection."""
    chosen = parse(selection)
    for kind, names in chosen.items():
        if len(names) > 1:
            raise ValueError(f"one run takes one {kind}, got {', '.join(names)}.")
    (model, length, seed, recipe) = _runs(chosen)[0]

    config = ConfigDict()
    config.experiment = "gtsrb"
    config.name = "-".join(["GTSRB", model, length, recipe, seed])
    config.recipe = recipe
    config.length = length  # as selected: training.num_steps follows from it
    config.seeds = (CHOICES["seed"][seed],)

    config.data = ConfigDict()
    config.data.digits = "gtsrb"
    config.data.size = 48  # side of the prepared images
    config.data.evaluate_on = "test"  # or "validation": a track a class, not trained on
    config.data.normalise = "gaussian"  # local contrast, in a window of 7x7; "": none
    # Of training images, each at most: degrees, factor, part of the side, factor.
    config.data.rotation = 0.0
    config.data.scale = 1.0
    config.data.shift = 0.0
    config.data.brightness = 1.0

    config.model = ConfigDict()
    config.model.transformers = CHOICES["model"][model]
    config.model.transform = "affine" if model != "CNN" else ""
    # If any, the only ones allowed of rotation, scale and translation, in this order.
    config.model.parts = ()
    config.model.widths = (150, 200, 300, 350)  # three convolutions, a dense layer
    # Of a transformer before each convolution; before the second none is published.
    config.model.localisations = ((200, 300, 200), (150, 150, 150), (150, 150, 150))
    config.model.normalise = "box"  # local contrast behind each pooling, in 9x9; "": none
    config.model.dropout = 0.0
    # Factor on He normal weights. Torch's defaults, which the sources do not depart from, have this
    # deviation; with He's own the transformers leave the image in the first steps of SGD.
    config.model.init_scale = 6**-0.5

    config.training = ConfigDict()
    config.training.batch_size = 50
    config.training.num_steps = 0  # set by the recipe
    config.training.log_every = 100
    config.training.eval_every = 780  # about an epoch
    config.training.eval_batch_size = 500

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"  # or "adam"
    config.optimizer.learning_rate = 0.01
    config.optimizer.momentum = 0.0  # beta 1 of Adam
    config.optimizer.weight_decay = 0.0
    config.optimizer.schedule = "step"  # or "cosine", to 0 at the end
    config.optimizer.decay_steps = ()  # never
    config.optimizer.decay_factor = 0.1
    # On the learning rate of all parameters below a name, such as transformers.
    config.optimizer.multipliers = ConfigDict()

    # What changes how fast a run is, not what it computes (up to rounding).
    config.runtime = ConfigDict()
    config.runtime.data_dir = ""  # where GTSRB lies; empty: $STN_DATA_DIR, or ~/.cache/stn_jax
    config.runtime.steps_per_call = 10
    config.runtime.vmap_seeds = False
    config.runtime.num_devices = 0  # that share each batch; 0: all that there are
    config.runtime.checkpoint_every = 500
    config.runtime.tensorboard = False

    RECIPES[recipe](config)
    return config


def _paper(config: ConfigDict) -> None:
    epochs = CHOICES["length"][config.length]
    steps = epochs * TRAINING_IMAGES / config.training.batch_size
    config.training.num_steps = 10 * math.ceil(steps / 10)
    if len(config.model.transformers) == 1:
        # Its number is published for this network.
        config.model.widths = (200, 250, 350, 400)


def _fast(config: ConfigDict) -> None:
    config.data.size = 32
    config.data.normalise = ""
    config.data.rotation = 10.0
    config.data.scale = 1.15
    config.data.shift = 0.08
    config.data.brightness = 1.5
    config.model.widths = (24, 32, 48, 128)
    config.model.localisations = ((16, 24, 32), (16, 24, 32), (16, 24, 32))
    config.model.normalise = ""
    config.model.dropout = 0.3
    config.model.init_scale = 1.0
    config.training.batch_size = 64
    config.training.num_steps = 6_000
    config.training.eval_every = 1_000
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 2e-3
    config.optimizer.momentum = 0.9
    config.optimizer.schedule = "cosine"


RECIPES = {"paper": _paper, "fast": _fast}


def sweep(selection: str = "") -> list[str]:
    """Return the selections of all runs of a table, or of the part that a selection names.

    Kinds that the selection leaves out are taken whole, but for the recipe (paper), and the lengths
    (those published for each model).
    """
    return [",".join(names) for names in _runs(parse(selection), every=True)]


def _runs(chosen: dict[str, list[str]], *, every: bool = False) -> list[tuple[str, ...]]:
    """Return the (model, length, seed, recipe) that are chosen, or by default meant."""
    recipes = chosen["recipe"] or ["fast" if chosen["length"][:1] == ["short"] else "paper"]
    recipe = recipes[0]
    lengths = ["short"] if recipe == "fast" else [n for n in CHOICES["length"] if n != "short"]
    if misfits := set(chosen["length"]) - set(lengths) or set(recipes) - {recipe}:
        raise ValueError(f"recipe {recipe} is of {' or '.join(lengths)}, got {', '.join(misfits)}.")
    found = []
    count = None if every else 1
    for model in chosen["model"] or list(CHOICES["model"])[:count]:
        usual = lengths if recipe == "fast" else PUBLISHED_LENGTHS[model][:count]
        seeds = chosen["seed"] or list(CHOICES["seed"])[:count]
        found += itertools.product([model], chosen["length"] or usual, seeds, [recipe])
    return found


def parse(selection: str) -> dict[str, list[str]]:
    """Return the names that a selection holds, by kind.

    Raises:
      ValueError: on a name that there is not; the message suggests one that there is.
    """
    known = {_plain(name): (kind, name) for kind, names in CHOICES.items() for name in names}
    chosen: dict[str, list[str]] = {kind: [] for kind in CHOICES}
    for word in filter(None, (word.strip() for word in selection.split(","))):
        if _plain(word) not in known:
            close = difflib.get_close_matches(_plain(word), known, n=1, cutoff=0.5)
            hint = f" Did you mean {known[close[0]][1]}?" if close else ""
            options = "; ".join(f"{kind}: {' '.join(names)}" for kind, names in CHOICES.items())
            raise ValueError(f"no {word!r} to select.{hint} There are {options}.")
        kind, name = known[_plain(word)]
        chosen[kind].append(name)
    return chosen


def _plain(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "")
