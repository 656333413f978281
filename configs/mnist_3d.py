r"""3-D MNIST: extruded digits in volumes, Figure 5 of the paper (appendix A.3).

One run:     python experiments/mnist_3d.py --workdir runs/one --config configs/mnist_3d.py:ST-CNN
The table:   python scripts/sweep.py configs/mnist_3d.py --runs-dir runs/mnist_3d
A part:      python scripts/sweep.py configs/mnist_3d.py:ST-CNN,seed1 --runs-dir runs/mnist_3d

A digit is extruded, turned and placed at random in 60x60x60 voxels. The transformer's output, a
volume, is summed over depth to an image, which a CNN classifies. A selection names, in any order
and any case, separated by commas:

    model     ST-CNN  CNN              one run: ST-CNN unless named
    seed      seed0  seed1  seed2      seed0 unless named
    recipe    fast  quickstart         fast unless named

CNN has no transformer: it sees the sum of the input over depth, average-pooled by 2, so that both
classifiers see images of 30x30. Both networks have about 400,000 parameters.

fast        Adam with cosine decay. The learning rate was chosen for ST-CNN, by runs of 1,500 steps
            on 10,000 training digits held out from training, never on the test set: 4e-3, and 1e-3
            in the transformer; at 5e-3 it soon looks past all digits, and stays there. Records of
            these runs were not kept. CNN has the same rate, which was not chosen for it.
quickstart  A toy: scikit-learn's 8x8 digits enlarged to 28x28, small networks, few iterations.
            Not MNIST.

The paper states the size of the volumes, the transform and the sum over depth. All else is ours:
the depth of a digit, the range of its rotation about each axis, that its turned box stays inside
the volume (`data`), the size of the transformer's output (`model`), the layers
(stn_jax/models/mnist_3d.py) and the training.

Time and score: the fast recipe takes 10 to 15 minutes on two CPU cores (the CNN half of that); the
paper prints no error, ours is in results/tables/mnist_3d_fast.md.
"""

import itertools

from ml_collections import ConfigDict

from stn_jax.launch.expand import Range
from stn_jax.launch.selections import parse, parse_run

# What a selection may name: as users write it -> as the code calls it. The first is the default.
CHOICES = {
    "model": {"ST-CNN": "st_cnn", "CNN": "cnn"},
    "seed": {"seed0": 0, "seed1": 1, "seed2": 2},
    "recipe": {"fast": "fast", "quickstart": "quickstart"},
}


def get_config(selection: str = "") -> ConfigDict:
    """Return the config of one run; the module's docstring explains the selection."""
    chosen = parse_run(selection, CHOICES)
    names = {
        kind: named[0] if named else next(iter(CHOICES[kind])) for kind, named in chosen.items()
    }
    value = {kind: CHOICES[kind][name] for kind, name in names.items()}
    has_transformer = value["model"] == "st_cnn"

    config = ConfigDict()
    config.experiment = "mnist_3d"
    config.name = "-".join(["3D", names["model"], names["recipe"], names["seed"]])
    config.recipe = value["recipe"]
    config.seeds = (value["seed"],)

    config.data = ConfigDict()
    config.data.digits = "mnist"  # or "sklearn"
    config.data.distortion = "3D"  # the table's column
    config.data.size = 60  # of the volume, in each direction
    config.data.depth = 8  # layers of a digit
    config.data.max_angle = 45.0  # degrees, about each axis
    # "validation": train on 50,000 of the training digits and evaluate on the other 10,000.
    config.data.evaluate_on = "test"

    config.model = ConfigDict()
    config.model.name = value["model"]
    config.model.transform = "affine_3d" if has_transformer else ""
    # (D', H', W') of the transformer's output. A digit is 8 voxels deep and more if turned, so that
    # 15 slices of 60 voxels meet it at least once.
    config.model.output_shape = (15, 30, 30) if has_transformer else ()
    # The sum over depth of the input is average-pooled by 2: both classifiers see 30x30 pixels.
    config.model.downsample = not has_transformer
    config.model.num_params = 400_000  # the classifier's width follows from it
    config.model.dropout = 0.0  # share of the classifier's activations dropped in training

    config.training = ConfigDict()
    config.training.batch_size = 32
    config.training.num_steps = 8_000
    config.training.log_every = 100
    config.training.eval_every = 4_000
    config.training.eval_batch_size = 50

    config.optimizer = ConfigDict()
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 4e-3
    config.optimizer.momentum = 0.9  # beta 1 of Adam
    config.optimizer.weight_decay = 0.0
    config.optimizer.schedule = "cosine"  # to 0 at the end
    config.optimizer.decay_steps = ()  # of the schedule "step"
    config.optimizer.decay_factor = 0.1
    # On the learning rate of all parameters below a name.
    config.optimizer.multipliers = ConfigDict()
    if has_transformer:
        config.optimizer.multipliers.transformer = 0.25

    # What changes how fast a run is, not what it computes (up to rounding).
    config.runtime = ConfigDict()
    config.runtime.data_dir = ""  # where MNIST lies; empty: $STN_DATA_DIR, or ~/.cache/stn_jax
    config.runtime.steps_per_call = 1
    config.runtime.vmap_seeds = False
    config.runtime.num_devices = 1  # that share each batch; 0: all that there are
    config.runtime.checkpoint_every = 500
    config.runtime.tensorboard = False

    if config.recipe == "quickstart":
        _quickstart(config)
    return config


def _quickstart(config: ConfigDict) -> None:
    config.data.digits = "sklearn"
    config.model.num_params = 100_000  # the localisation network alone is 44,000
    config.training.num_steps = 300
    config.training.log_every = 20
    config.training.eval_every = 150
    config.runtime.checkpoint_every = 100


def sweep(selection: str = "") -> list[str]:
    """Return the selections of all runs of the table, or of the part that a selection names.

    Kinds that the selection leaves out are taken whole, but for the recipe (fast).
    """
    chosen = parse(selection, CHOICES)
    parts = [
        chosen["model"] or ["CNN", "ST-CNN"],
        chosen["recipe"] or ["fast"],
        chosen["seed"] or list(CHOICES["seed"]),
    ]
    return [",".join(names) for names in itertools.product(*parts)]


def search(selection: str = "") -> dict[str, Range]:
    """Return what `scripts/sweep.py --search` tries for the runs of a selection."""
    return {
        "optimizer.learning_rate": Range(low=1e-3, high=1e-2, log=True),
        "model.dropout": Range(low=0.0, high=0.5),
    }
