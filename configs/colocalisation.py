r"""Co-localisation of digits: Table 5 of the paper (appendix A.2).

One run:     python experiments/colocalisation.py --workdir runs/one \
                 --config configs/colocalisation.py:TC,8
The table:   python scripts/sweep.py configs/colocalisation.py --runs-dir runs/table5
A part:      python scripts/sweep.py configs/colocalisation.py:T --runs-dir runs/table5

A set of 100 images of 84x84 with a digit of one class somewhere in each; a spatial transformer is
to find it, from the images alone. A selection names, in any order and any case, by commas:

    canvas       TC  T               one run: TC unless named; C is clutter
    digit        0 to 9              8 unless named
    recipe       views  quickstart   views unless named

Seeds: each has images and a network of its own. Five are a run, one after the other.

The loss is Eq. 8 with margin 1. What the paper leaves open, and where we depart:

- Digits are test digits, which the encoder has not seen; patches are cut from training digits, as
  A.2 has it. `evaluate_on=validation` makes other sets, of training digits: recipes are chosen on
  those.
- The encoder is a CNN of distorted MNIST, on R, trained in `runtime.encoder_workdir` when first
  needed: the fast recipe cut to 2,000 iterations. Any finished CNN on R, P or E can stand there, if
  `encoder.selection` and `encoder.num_steps` (0: the recipe's) name it.
  It is trained on all training digits, so that sets of those are easier for it than test digits.
- Its three layers are divided by constants such that each weighs a third and descriptors have a
  mean square length of 1. As they are, squared distances are thousands, so that a margin of 1 means
  nothing, and what is left of the logits does not make the box centre on the digit.
- The localisation network sees each image from one of the eight sides of a square (transposed and
  mirrored), another at each step, and its box is turned back; crops are of the image as it is. A
  hundred images are learnt by heart otherwise, each with whatever its first box met. In the end an
  image has a box from each side, and the one with the least loss counts, which no label decides.
- The gradient goes through the first crop of a pair only, not through the second, e(I_m): with
  both, all boxes learn to agree on black. Pairs are all ordered pairs among a step's images.
- The random crop is as large as the box that was found, and centred anywhere on the image.
- The centres of the box's border pixels are kept on the image, its scale between
  `model.min_scale` and `model.max_scale`; it starts in the middle at `model.initial_scale`, larger
  than a digit (0.33).
- The localisation network has the layers of A.2 and so 5,947 parameters, not the 100k that A.2
  speaks of; `model.stride=1` would give it 93k.

views       Adam with cosine decay, chosen on sets of training digits (results/README.md).
quickstart  A toy: scikit-learn's 8x8 digits enlarged to 28x28, few iterations. Not MNIST, and not a
            row of the paper's table.

Time and score: a run of five seeds takes 7 (T) or 35 minutes (TC) on one slow CPU core, the encoder
ten before the first; results/tables/table5_views.md has what is found beside the published shares.
"""

import itertools

from ml_collections import ConfigDict

from stn_jax.launch.expand import Range
from stn_jax.launch.selections import parse, parse_run

# What a selection may name: as users write it -> as the code calls it.
CHOICES = {
    "canvas": {"TC": "TC", "T": "T"},
    "digit": {str(digit): digit for digit in range(10)},
    "recipe": {"views": "views", "quickstart": "quickstart"},
}
DEFAULTS = {  # of one run
    "canvas": "TC",
    "digit": "8",  # as in Figure 4
    "recipe": "views",
}
NUM_STEPS = {"T": 600, "TC": 3_000}  # by canvas


def get_config(selection: str = "") -> ConfigDict:
    """Return the config of one run; the module's docstring explains the selection."""
    chosen = parse_run(selection, CHOICES)
    names = {kind: named[0] if named else DEFAULTS[kind] for kind, named in chosen.items()}

    config = ConfigDict()
    config.experiment = "colocalisation"
    config.name = "-".join(["colocalisation", *names.values()])
    config.recipe = CHOICES["recipe"][names["recipe"]]
    config.seeds = (0, 1, 2, 3, 4)

    config.data = ConfigDict()
    config.data.digits = "mnist"  # or "sklearn"
    config.data.distortion = CHOICES["canvas"][names["canvas"]]
    config.data.digit = CHOICES["digit"][names["digit"]]
    config.data.count = 100  # images of a set
    config.data.evaluate_on = "test"  # sets of test digits; "validation": of training digits

    config.encoder = ConfigDict()
    config.encoder.selection = "R,CNN,fast"  # of configs/distorted_mnist.py
    config.encoder.num_steps = 2_000  # 0: the recipe's own

    config.model = ConfigDict()
    config.model.stride = 4
    config.model.initial_scale = 0.36
    config.model.min_scale = 0.2
    config.model.max_scale = 1.0
    config.model.scale_rate = 0.3  # how fast the scale moves beside the place

    config.margin = 1.0  # alpha of Eq. 8

    config.training = ConfigDict()
    config.training.batch_size = 64  # images, of which all pairs are compared
    config.training.num_steps = NUM_STEPS[names["canvas"]]
    config.training.log_every = 100
    config.training.eval_every = 200
    config.training.eval_batch_size = 100

    config.optimizer = ConfigDict()
    config.optimizer.name = "adam"  # or "sgd"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.momentum = 0.9  # beta 1 of Adam
    config.optimizer.weight_decay = 0.0
    config.optimizer.schedule = "cosine"  # to 0 at the end; or "step"
    config.optimizer.decay_steps = ()
    config.optimizer.decay_factor = 0.1
    # On the learning rate of all parameters below a name.
    config.optimizer.multipliers = ConfigDict()

    # What changes how fast a run is, not what it computes (up to rounding).
    config.runtime = ConfigDict()
    config.runtime.data_dir = ""  # where MNIST lies; empty: $STN_DATA_DIR, or ~/.cache/stn_jax
    config.runtime.encoder_workdir = "runs/encoder"  # trained there if it is empty
    config.runtime.steps_per_call = 1  # on a CPU, a scan takes a sixth longer
    config.runtime.vmap_seeds = False
    config.runtime.num_devices = 1  # that share each batch; 0: all that there are
    config.runtime.checkpoint_every = 200
    config.runtime.tensorboard = False

    if config.recipe == "quickstart":
        _quickstart(config)
    return config


def _quickstart(config: ConfigDict) -> None:
    config.data.digits = "sklearn"
    config.data.count = 30
    config.seeds = (0,)
    config.runtime.encoder_workdir = "runs/quickstart_encoder"
    config.encoder.selection = "R,CNN,quickstart"
    config.encoder.num_steps = 0
    config.training.batch_size = 15
    config.training.eval_batch_size = 30
    config.training.num_steps = 200
    config.training.log_every = 50


def sweep(selection: str = "") -> list[str]:
    """Return the selections of all runs of Table 5, or of the part that a selection names.

    Kinds that the selection leaves out are taken whole, but for the recipe (views).
    """
    chosen = parse(selection, CHOICES)
    canvases = chosen["canvas"] or ["T", "TC"]
    digits = chosen["digit"] or list(CHOICES["digit"])
    recipes = chosen["recipe"] or ["views"]
    return [",".join(run) for run in itertools.product(canvases, digits, recipes)]


def search(selection: str = "") -> dict[str, Range]:
    """Return what `scripts/sweep.py --search` tries for the runs of a selection."""
    return {
        "optimizer.learning_rate": Range(low=1e-3, high=1e-2, log=True),
        "model.initial_scale": Range(low=0.3, high=0.6),
        "model.scale_rate": Range(low=0.1, high=1.0, log=True),
    }
