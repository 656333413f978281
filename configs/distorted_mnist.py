r"""Distorted MNIST: Table 1 of the paper (Sect. 4.1, appendix A.4).

One run:     python experiments/distorted_mnist.py --workdir runs/one \
                 --config configs/distorted_mnist.py:RTS,ST-FCN,TPS
The table:   python scripts/sweep.py configs/distorted_mnist.py --runs-dir runs/table1
A part:      python scripts/sweep.py configs/distorted_mnist.py:R,E,ST-FCN --runs-dir runs/table1
Settings:    python scripts/sweep.py configs/distorted_mnist.py:R,ST-FCN --runs-dir runs/search \
                 --search 20

A selection names, in any order and any case, separated by commas:

    distortion   R  RTS  P  E  TC                 one run: R unless named
    model        FCN  CNN  ST-FCN  ST-CNN         ST-FCN unless named
    transform    Aff  Proj  TPS  PWA              Aff unless named; only of ST models
                 Attention  Sim
    recipe       fast  paper  quickstart          fast unless named

paper       Appendix A.4 to the letter: SGD, 150k iterations of batch 256, learning rate 0.01
            divided by 10 every 50k. Momentum, which the paper does not state, is 0.9.
fast        Adam with cosine decay, 20k iterations of the same batch; chosen on 10,000 training
            digits held out from training, never on the test set.
quickstart  A toy: scikit-learn's 8x8 digits enlarged to 28x28, small networks, few iterations.
            Not MNIST, and not a row of the paper's table.

Time and score: the fast recipe takes an FCN 2 to 3 minutes on one CPU core, an ST-FCN 5 to 10, a
CNN or ST-CNN on 28x28 images half an hour on two, the CNN on RTS more than two hours;
what it reaches beside the published errors is in results/tables/table1_fast.md.
"""

import itertools

from ml_collections import ConfigDict

from stn_jax.launch.expand import Range
from stn_jax.launch.selections import parse, parse_run

# What a selection may name: as users write it -> as the code calls it. The first is the default,
# except that a model without a transformer has no transform.
CHOICES = {
    "distortion": {"R": "R", "RTS": "RTS", "P": "P", "E": "E", "TC": "TC"},
    "model": {"ST-FCN": "st_fcn", "FCN": "fcn", "CNN": "cnn", "ST-CNN": "st_cnn"},
    "transform": {
        "Aff": "affine",
        "Proj": "projective",
        "TPS": "tps",
        "PWA": "piecewise_affine",
        "Attention": "attention",
        "Sim": "rotation_scale_translation",
    },
    "recipe": {"fast": "fast", "paper": "paper", "quickstart": "quickstart"},
}


def get_config(selection: str = "") -> ConfigDict:
    """Return the config of one run; the module's docstring explains the selection."""
    chosen = parse_run(selection, CHOICES)
    names = {
        kind: named[0] if named else next(iter(CHOICES[kind])) for kind, named in chosen.items()
    }
    has_transformer = names["model"].startswith("ST-")
    if chosen["transform"] and not has_transformer:
        raise ValueError(f"{names['model']} has no transformer: leave {names['transform']} out.")
    if not has_transformer:
        del names["transform"]
    value = {kind: CHOICES[kind][name] for kind, name in names.items()}

    config = ConfigDict()
    config.name = "-".join(names.values())
    config.recipe = value["recipe"]
    config.seeds = (0,)

    config.data = ConfigDict()
    config.data.digits = "mnist"  # or "sklearn"
    config.data.distortion = value["distortion"]
    # "validation": train on 50,000 of the training digits and evaluate on the other 10,000.
    config.data.evaluate_on = "test"

    config.model = ConfigDict()
    config.model.name = value["model"]
    config.model.transform = value.get("transform", "")
    # A.4: the transformer's output is average-pooled by 2 on the large canvases.
    config.model.downsample = has_transformer and value["distortion"] in ("RTS", "TC")
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
    if has_transformer:
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

    RECIPES[value["recipe"]](config)
    return config


def _paper(config: ConfigDict) -> None:
    """A.4: the defaults of get_config."""


def _fast(config: ConfigDict) -> None:
    config.training.num_steps = 20_000
    config.training.eval_every = 5_000
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"


def _quickstart(config: ConfigDict) -> None:
    _fast(config)
    config.data.digits = "sklearn"
    config.model.num_params = 50_000
    config.training.batch_size = 64
    config.training.num_steps = 2_000
    config.training.log_every = 100
    config.training.eval_every = 500
    config.runtime.checkpoint_every = 1_000


RECIPES = {"paper": _paper, "fast": _fast, "quickstart": _quickstart}


def sweep(selection: str = "") -> list[str]:
    """Return the selections of all runs of Table 1, or of the part that a selection names.

    Kinds that the selection leaves out are taken whole, but for the recipe (fast) and the
    transforms that the table does not have. The paper's quickstart has R and Aff only.
    """
    chosen = parse(selection, CHOICES)
    recipes = chosen["recipe"] or ["fast"]
    distortions = chosen["distortion"] or list(CHOICES["distortion"])
    transforms = chosen["transform"] or ["Aff", "Proj", "TPS"]
    if recipes == ["quickstart"]:
        distortions, transforms = chosen["distortion"] or ["R"], chosen["transform"] or ["Aff"]
    plain, transformed = ["FCN", "CNN"], ["ST-FCN", "ST-CNN"]
    models = chosen["model"] or plain + transformed
    heads = [m for m in models if m in plain]
    heads += [f"{m},{t}" for m in models if m in transformed for t in transforms]
    return [",".join(parts) for parts in itertools.product(distortions, heads, recipes)]


def search(selection: str = "") -> dict[str, Range]:
    """Return what `scripts/sweep.py --search` tries for the runs of a selection."""
    return {
        "optimizer.learning_rate": Range(low=1e-4, high=1e-2, log=True),
        "optimizer.weight_decay": Range(low=0.0, high=0.3),
        "model.dropout": Range(low=0.0, high=0.5),
    }
