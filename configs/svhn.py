r"""Street View House Numbers: Table 2 of the paper (Sect. 4.2, appendix A.5).

The data:    python scripts/prepare_data.py svhn --from FOLDER_OF_THE_ARCHIVES
One run:     python experiments/svhn.py --workdir runs/one --config configs/svhn.py:Multi,64px
The table:   python scripts/sweep.py configs/svhn.py:paper --runs-dir runs/table2

A selection names, in any order and any case, separated by commas:

    model     CNN  Single  Multi            one run: Multi unless named
    images    64px  128px                   of `paper`; 64px unless named
              crops  canvases               of `reduced`; canvases unless named
    seed      seed0  seed1  seed2           seed0 unless named
    recipe    paper  reduced                that of the images, else paper

Single is ST-CNN Single, one affine transformer on the image; Multi is ST-CNN Multi, four of them,
before each of the first four convolutions.

paper       A.5: SGD, 400k iterations of batch 128, learning rate 0.01 divided by 10 every 80k and a
            tenth of it in the transformers, weight decay 0.0005, dropout 0.5 but for the first
            convolution and the localisation networks. The mean of seeds 0 and 1 is compared with
            Table 2. Momentum, which the paper does not state, is 0.9; the images have their mean
            taken off. Batches are drawn with replacement. Weight decay acts on all parameters, the
            identity that the transformers start from included.
reduced     Not Table 2: a quarter of the filters and units, small images, no dropout, Adam with
            cosine decay, for two CPU cores and a few thousand numbers. Four transformers learn at
            the rate of the rest, one alone at 0.3 of it.
            `crops` are the crops at half their size; on `canvases` they stand at random places and
            scales, and have to be found first.

All of the training images less those held out are trained on, whichever of the two sets is
evaluated on (data.evaluate_on).
"""

import itertools

from ml_collections import ConfigDict

from stn_jax.launch.expand import Range
from stn_jax.launch.selections import parse, parse_run

# What a selection may name: as users write it -> as the code calls it. The first is the default.
CHOICES = {
    "model": {"Multi": "st_cnn_multi", "Single": "st_cnn_single", "CNN": "cnn"},
    "images": {"64px": "paper", "128px": "paper", "canvases": "reduced", "crops": "reduced"},
    "seed": {"seed0": 0, "seed1": 1, "seed2": 2},
    "recipe": {"paper": "paper", "reduced": "reduced"},
}


def get_config(selection: str = "") -> ConfigDict:
    """Return the config of one run; the module's docstring explains the selection."""
    chosen = parse_run(selection, CHOICES)
    (model, images, seed, recipe) = _runs(chosen)[0]

    config = ConfigDict()
    config.experiment = "svhn"
    config.name = "-".join(["SVHN", model, images, recipe, seed])
    config.recipe = recipe
    config.seeds = (CHOICES["seed"][seed],)

    config.data = ConfigDict()
    config.data.digits = "svhn"
    config.data.images = images
    config.data.size = 64  # side of the prepared crops: 64, or the looser 128
    config.data.held_out = 5000
    config.data.evaluate_on = "test"  # or "validation": those held out
    config.data.window = 0  # side of the window cut from a crop, at random in training; 0: whole
    config.data.canvas = 0  # side of the canvas that it is put on; 0: none
    config.data.scale = (1.0, 1.0)  # its least and largest side there, as a part of the canvas's

    config.model = ConfigDict()
    config.model.name = CHOICES["model"][model]
    config.model.transform = "affine" if model != "CNN" else ""
    config.model.layers = "slides"  # eight convolutions, or seven: "appendix"
    config.model.width = 1.0  # factor on the filters and units, but those that localise
    config.model.dropout = 0.5

    config.training = ConfigDict()
    config.training.batch_size = 128
    config.training.num_steps = 400_000
    config.training.log_every = 500
    config.training.eval_every = 20_000
    config.training.eval_batch_size = 512

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"  # or "adam"
    config.optimizer.learning_rate = 0.01
    config.optimizer.momentum = 0.9  # beta 1 of Adam
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule = "step"  # or "cosine", to 0 at the end
    config.optimizer.decay_steps = (80_000, 160_000, 240_000, 320_000)
    config.optimizer.decay_factor = 0.1
    # On the learning rate of all parameters below a name.
    config.optimizer.multipliers = ConfigDict()
    if model != "CNN":
        config.optimizer.multipliers.transformers = 0.1

    # What changes how fast a run is, not what it computes (up to rounding).
    config.runtime = ConfigDict()
    config.runtime.data_dir = ""  # where SVHN lies; empty: $STN_DATA_DIR, or ~/.cache/stn_jax
    # Whether batches are read from disk as they are needed, instead of all lying on the device
    # (3 GB at 64 px, 12 GB at 128). They are the same batches.
    config.runtime.stream = False
    config.runtime.steps_per_call = 10
    config.runtime.vmap_seeds = False
    config.runtime.num_devices = 1  # that share each batch; 0: all that there are
    config.runtime.checkpoint_every = 2_000
    config.runtime.tensorboard = False

    RECIPES[recipe](config)
    return config


def _paper(config: ConfigDict) -> None:
    """A.5: the defaults of get_config."""
    if config.data.images == "128px":
        config.data.size = 128


def _reduced(config: ConfigDict) -> None:
    config.data.held_out = 500
    config.data.canvas = 32
    config.training.num_steps = 3_000
    if config.data.images == "canvases":
        config.data.canvas = 48
        config.data.scale = (0.4, 0.8)
        config.training.num_steps = 6_000  # They go on learning for so long (results/README.md).
    config.model.width = 0.25
    config.model.dropout = 0.0  # With 0.2 the small networks learn too slowly (results/README.md).
    config.training.batch_size = 64
    config.training.log_every = 100
    config.training.eval_every = 1_000
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.0
    config.optimizer.schedule = "cosine"
    if config.model.transform:
        # Adam's steps do not grow with the gradients, so that a tenth of them leads nowhere. But at
        # the full rate one on the image itself may lose the number for good (results/README.md).
        single = config.model.name == "st_cnn_single"
        config.optimizer.multipliers.transformers = 0.3 if single else 1.0
    config.runtime.checkpoint_every = 500


RECIPES = {"paper": _paper, "reduced": _reduced}


def sweep(selection: str = "") -> list[str]:
    """Return the selections of all runs of a table, or of the part that a selection names.

    Kinds that the selection leaves out are taken whole, but for the recipe (paper), and two seeds
    of it.
    """
    return [",".join(names) for names in _runs(parse(selection, CHOICES), every=True)]


def search(selection: str = "") -> dict[str, Range]:
    """Return what `scripts/sweep.py --search` tries for the runs of a selection."""
    ranges = {
        "optimizer.learning_rate": Range(low=3e-4, high=3e-2, log=True),
        "model.dropout": Range(low=0.0, high=0.6),
    }
    if all(model != "CNN" for model, *_ in _runs(parse(selection, CHOICES), every=True)):
        ranges["optimizer.multipliers.transformers"] = Range(low=0.03, high=3.0, log=True)
    return ranges


def _runs(chosen: dict[str, list[str]], *, every: bool = False) -> list[tuple[str, ...]]:
    """Return the (model, images, seed, recipe) that are chosen, or by default meant."""
    recipes = chosen["recipe"] or [CHOICES["images"][name] for name in chosen["images"][:1]]
    if len(recipes) > 1:
        raise ValueError(f"a table has one recipe, got {', '.join(recipes)}.")
    recipe = (recipes or ["paper"])[0]
    images = [name for name, of in CHOICES["images"].items() if of == recipe]
    if misfits := [name for name in chosen["images"] if name not in images]:
        raise ValueError(f"recipe {recipe} is on {' or '.join(images)}, got {', '.join(misfits)}.")
    seeds = list(CHOICES["seed"])[: 2 if recipe == "paper" else None]
    kinds = {"model": ["CNN", "Single", "Multi"], "images": images, "seed": seeds}
    defaults = kinds if every else {kind: list(CHOICES[kind])[:1] for kind in kinds}
    if not every:
        defaults["images"] = images[:1]
    parts = [chosen[kind] or default for kind, default in defaults.items()]
    return list(itertools.product(*parts, [recipe]))
