r"""MNIST addition: Table 4 of the paper (appendix A.1).

One run:     python experiments/mnist_addition.py --workdir runs/one \
                 --config configs/mnist_addition.py:2xST-FCN,TPS
The table:   python scripts/sweep.py configs/mnist_addition.py --runs-dir runs/table4
A part:      python scripts/sweep.py configs/mnist_addition.py:2xST-FCN --runs-dir runs/table4

Two digits, each with its own rotation, scale and place (RTS) in a channel of its own; the label is
their sum, 0 to 18. A selection names, in any order and any case, separated by commas:

    model        FCN  CNN  ST-FCN  2xST-FCN       one run: 2xST-FCN unless named
    transform    Aff  Proj  TPS                   Aff unless named; only of ST models
    recipe       fast  long  paper  quickstart    fast unless named

2xST-FCN has two transformers side by side; each sees and warps both channels, and the classifier
sees the four that they give.

paper       As for distorted MNIST (appendix A.4), which A.1 refers to for the size of the networks
            and leaves the rest unsaid: SGD, 150k iterations of batch 256, learning rate 0.01
            divided by 10 every 50k. Momentum, which the paper does not state, is 0.9.
fast        Distorted MNIST's as it is: Adam with cosine decay, 20k iterations of the same batch.
long        The same with 60k iterations: on held-out digits much better (results/README.md).
quickstart  A toy: scikit-learn's 8x8 digits enlarged to 28x28, small networks, few iterations.
            Not MNIST, and not a row of the paper's table.

Time and score: the fast recipe takes 3 minutes (FCN) to 40 (2xST-FCN) on two CPU cores, and two
hours for the CNN, the long one about three times that; what they reach beside the published errors
is in results/tables/table4_fast.md and table4_long.md.
"""

from ml_collections import ConfigDict

from stn_jax.launch.expand import Range
from stn_jax.launch.selections import parse, parse_run

# What a selection may name: as users write it -> as the code calls it. The first is the default,
# except that a model without a transformer has no transform.
CHOICES = {
    # (the network, how many transformers it has)
    "model": {
        "2xST-FCN": ("st_fcn", 2),
        "ST-FCN": ("st_fcn", 1),
        "FCN": ("fcn", 0),
        "CNN": ("cnn", 0),
    },
    "transform": {"Aff": "affine", "Proj": "projective", "TPS": "tps"},
    "recipe": {"fast": "fast", "long": "long", "paper": "paper", "quickstart": "quickstart"},
}


def get_config(selection: str = "") -> ConfigDict:
    """Return the config of one run; the module's docstring explains the selection."""
    chosen = parse_run(selection, CHOICES)
    names = {
        kind: named[0] if named else next(iter(CHOICES[kind])) for kind, named in chosen.items()
    }
    model, num_transformers = CHOICES["model"][names["model"]]
    if chosen["transform"] and not num_transformers:
        raise ValueError(f"{names['model']} has no transformer: leave {names['transform']} out.")
    if not num_transformers:
        del names["transform"]

    config = ConfigDict()
    config.experiment = "mnist_addition"
    config.name = "-".join(["addition", *names.values()])
    config.recipe = CHOICES["recipe"][names["recipe"]]
    config.seeds = (0,)

    config.data = ConfigDict()
    config.data.digits = "mnist"  # or "sklearn"
    config.data.distortion = "RTS"
    # "validation": train on 50,000 of the training digits and evaluate on the other 10,000.
    config.data.evaluate_on = "test"

    config.model = ConfigDict()
    config.model.name = model
    config.model.num_transformers = num_transformers
    config.model.transform = CHOICES["transform"][names["transform"]] if num_transformers else ""
    # A.4: transformers' outputs are average-pooled by 2 on RTS.
    config.model.downsample = num_transformers > 0
    config.model.num_params = 400_000  # the classifier's width follows from it
    config.model.dropout = 0.0  # share of the classifier's hidden units dropped in training

    config.training = ConfigDict()
    config.training.batch_size = 256
    config.training.num_steps = 150_000
    config.training.log_every = 500
    config.training.eval_every = 10_000
    config.training.eval_batch_size = 1000

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"  # or "adam"
    config.optimizer.learning_rate = 0.01
    config.optimizer.momentum = 0.9  # beta 1 of Adam
    config.optimizer.weight_decay = 0.0
    config.optimizer.schedule = "step"  # or "cosine", to 0 at the end
    config.optimizer.decay_steps = (50_000, 100_000)
    config.optimizer.decay_factor = 0.1
    # On the learning rate of all parameters below a name.
    config.optimizer.multipliers = ConfigDict()
    if num_transformers:
        config.optimizer.multipliers.transformer = 1.0

    # What changes how fast a run is, not what it computes (up to rounding).
    config.runtime = ConfigDict()
    config.runtime.data_dir = ""  # where MNIST lies; empty: $STN_DATA_DIR, or ~/.cache/stn_jax
    config.runtime.steps_per_call = 10
    # One after the other: on a CPU vmap takes 1.1 to 1.2 times as long for dense networks.
    config.runtime.vmap_seeds = False
    config.runtime.num_devices = 1  # that share each batch; 0: all that there are
    config.runtime.checkpoint_every = 2_000
    config.runtime.tensorboard = False

    RECIPES[config.recipe](config)
    return config


def _paper(config: ConfigDict) -> None:
    """A.4: the defaults of get_config."""


def _fast(config: ConfigDict) -> None:
    config.training.num_steps = 20_000
    config.training.eval_every = 5_000
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"


def _long(config: ConfigDict) -> None:
    _fast(config)
    config.training.num_steps = 60_000
    config.training.eval_every = 10_000


def _quickstart(config: ConfigDict) -> None:
    _fast(config)
    config.data.digits = "sklearn"
    config.model.num_params = 300_000  # two localisation networks alone are 230,000
    config.training.batch_size = 64
    config.training.num_steps = 2_000
    config.training.log_every = 100
    config.training.eval_every = 500
    config.runtime.checkpoint_every = 1_000


RECIPES = {"paper": _paper, "fast": _fast, "long": _long, "quickstart": _quickstart}


def sweep(selection: str = "") -> list[str]:
    """Return the selections of all runs of Table 4, or of the part that a selection names.

    Kinds that the selection leaves out are taken whole, but for the recipe (fast). The quickstart
    has the affine transform only.
    """
    chosen = parse(selection, CHOICES)
    recipes = chosen["recipe"] or ["fast"]
    all_transforms = ["Aff"] if recipes == ["quickstart"] else list(CHOICES["transform"])
    transforms = chosen["transform"] or all_transforms
    models = chosen["model"] or ["FCN", "CNN", "ST-FCN", "2xST-FCN"]
    return [
        ",".join(filter(None, (model, transform, recipe)))
        for model in models
        for transform in (transforms if CHOICES["model"][model][1] else [""])
        for recipe in recipes
    ]


def search(selection: str = "") -> dict[str, Range]:
    """Return what `scripts/sweep.py --search` tries for the runs of a selection."""
    return {
        "optimizer.learning_rate": Range(low=1e-4, high=1e-2, log=True),
        "optimizer.weight_decay": Range(low=0.0, high=0.3),
        "model.dropout": Range(low=0.0, high=0.5),
    }
