r"""Fine-grained birds, CUB-200-2011: Table 3 of the paper (Sect. 4.3, appendix A.6).

The data:    python scripts/prepare_data.py cub --from CUB_200_2011.tgz --size 256 512
             with --size 128 256 for the small recipe
The weights: python scripts/convert_weights.py tf_slim_inception_v2 inception_v2.ckpt \
                 ~/.cache/stn_jax/weights/inception_v2.npz
One run:     python experiments/birds.py --workdir runs/one --config configs/birds.py:2xST-CNN,448px
The table:   python scripts/sweep.py configs/birds.py:paper --runs-dir runs/table3

A selection names, in any order and any case, separated by commas:

    model      2xST-CNN  4xST-CNN  CNN       one run: 2xST-CNN unless named
    images     224px  448px                  of `paper`: as published for the model unless named
               half224px  half448px          of `reduced`, likewise
    transform  location  location-scale  affine    location, at a fixed scale, unless named
    seed       seed0  seed1  seed2           seed0 unless named
    recipe     paper  reduced                that of the images, else paper

paper       A.6: Inception with batch normalisation from public ImageNet weights, SGD, 30k
            iterations of batch 256, learning rate 0.1 divided by 10 after 10k, 20k and 25k, 1e-4 of
            it in the localisation network, weight decay 1e-5, dropout 0.7. Ours, where the paper
            says nothing: momentum 0.9 as for SVHN, the same training for the CNN, batch
            normalisation with its stored statistics, one central crop at test time, batches drawn
            with replacement. A GPU's work: a step takes 2.9, 8.8 and 14.7 TFLOP and some 12, 38 and
            61 GiB with no, two and four transformers; model.dtype=bfloat16 and runtime.remat (for a
            third more operations) save memory.
reduced     Not Table 3: for two CPU cores and the 50 classes that are at hand. All sizes are half
            the paper's: half224px are images of 112 px from 128, half448px of 224 px from 256;
            crops and the localisation network's input have 112 px. Inception-v3 of 2015 up to
            mixed_7 (768 maps of 5x5). Frozen are the trunk of the localisation network, and all
            blocks up to mixed_5 of the networks that describe image or crops; their mixed_6 and
            mixed_7 are fine-tuned at a 25th of the rate. The optimiser is the paper's, with its
            rates for the classifier and the localisation network, but with cosine decay, 1,000
            iterations of batch 16 (11 epochs) and dropout 0.5. Nothing is cached. Chosen on a
            held-out fold: that mixed_7 is the last block, by ridge regression; the 25th (at the
            full rate the CNN has 48 % of error instead of 43); and that it is SGD: with Adam
            crops hardly look at the bird (results/README.md). All else is not chosen by a search
            yet. On one slow core a run takes 5 to 8 minutes (CNN) or 20 to 34 (two transformers).

Settings are chosen on folds of the training images (data.evaluate_on=validation, data.fold), which
are not trained on then. The last step is what a run reports.
"""

import itertools

from ml_collections import ConfigDict

from stn_jax.launch.expand import Range
from stn_jax.launch.selections import parse, parse_run

# What a selection may name: as users write it -> as the code calls it. The first is the default.
CHOICES = {
    # Number of transformers.
    "model": {"2xST-CNN": 2, "4xST-CNN": 4, "CNN": 0},
    # Pixels of a side, of what a network sees.
    "images": {"224px": 224, "448px": 448, "half224px": 112, "half448px": 224},
    "transform": {
        "location": "location",
        "location-scale": "location_scale",
        "affine": "affine",
    },
    "seed": {"seed0": 0, "seed1": 1, "seed2": 2},
    "recipe": {"paper": "paper", "reduced": "reduced"},
}
# Recipe -> model -> images that a number is published for, or their halves.
USUAL_IMAGES = {
    "paper": {"CNN": ["224px"], "2xST-CNN": ["224px", "448px"], "4xST-CNN": ["448px"]},
    "reduced": {
        "CNN": ["half224px"],
        "2xST-CNN": ["half224px", "half448px"],
        "4xST-CNN": ["half448px"],
    },
}
# Blocks of Inception-v3 that `reduced` does not train.
LOWER_BLOCKS = ("conv_0", "conv_1", "conv_2", "conv_3", "conv_4")
LOWER_BLOCKS += ("mixed_0", "mixed_1", "mixed_2", "mixed_3", "mixed_4", "mixed_5")


def get_config(selection: str = "") -> ConfigDict:
    """Return the config of one run; the module's docstring explains the selection."""
    chosen = parse_run(selection, CHOICES)
    if chosen["model"] == ["CNN"] and chosen["transform"]:
        raise ValueError(f"the CNN has no transform, got {chosen['transform'][0]}.")
    (model, images, transform, seed, recipe) = _runs(chosen)[0]

    config = ConfigDict()
    config.experiment = "birds"
    config.name = "-".join(filter(None, ["birds", model, images, transform, recipe, seed]))
    config.recipe = recipe
    config.seeds = (CHOICES["seed"][seed],)

    config.data = ConfigDict()
    config.data.digits = "cub"
    config.data.images = images
    config.data.crop = CHOICES["images"][images]  # side of what is cut out of an image
    config.data.size = config.data.crop * 8 // 7  # shorter side of the prepared images
    config.data.evaluate_on = "test"  # or "validation": a fold of the training images
    config.data.fold = 0  # which one, from 0 on
    config.data.folds = 5

    config.model = ConfigDict()
    config.model.name = "st_cnn" if CHOICES["model"][model] else "cnn"
    config.model.num_transformers = CHOICES["model"][model]
    config.model.transform = CHOICES["transform"].get(transform, "")
    config.model.architecture = "inception_v2"  # or bn_inception, inception_v3, inception_v3_2015
    config.model.last = ""  # block of Inception to stop behind; empty: the last one
    config.model.pretrained = True  # from runtime.weights, or else random
    # Names of modules whose parameters are not trained, wherever on the path they stand.
    config.model.frozen = ()
    config.model.crop_size = 224  # side of what the transformers give
    config.model.localiser_size = 224  # of what the localisation network sees
    config.model.num_classes = 200
    config.model.dropout = 0.7  # share dropped
    config.model.statistics = "stored"  # of batch normalisation in training, or of the "batch"
    config.model.dtype = "float32"  # or "bfloat16", in the Inception networks

    config.training = ConfigDict()
    config.training.batch_size = 256
    config.training.num_steps = 30_000
    config.training.log_every = 100
    config.training.eval_every = 2_500
    config.training.eval_batch_size = 256

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"  # or "adam"
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.9  # beta 1 of Adam
    config.optimizer.weight_decay = 1e-5
    config.optimizer.schedule = "step"  # or "cosine", to 0 at the end
    config.optimizer.decay_steps = (10_000, 20_000, 25_000)
    config.optimizer.decay_factor = 0.1
    # On the learning rate of all parameters below a name.
    config.optimizer.multipliers = ConfigDict()
    if config.model.num_transformers:
        config.optimizer.multipliers.localisation = 1e-4

    # What changes how fast a run is, not what it computes (up to rounding).
    config.runtime = ConfigDict()
    config.runtime.data_dir = ""  # where the images lie; empty: $STN_DATA_DIR, or ~/.cache/stn_jax
    # File of scripts/convert_weights.py; empty: weights/ARCHITECTURE.npz where the images lie.
    config.runtime.weights = ""
    # Whether the backward pass computes the inside of Inception's blocks again, to save memory.
    config.runtime.remat = False
    config.runtime.steps_per_call = 1
    config.runtime.vmap_seeds = False
    config.runtime.num_devices = 0  # that share each batch; 0: all that there are
    config.runtime.checkpoint_every = 1_000
    config.runtime.tensorboard = False

    RECIPES[recipe](config)
    return config


def _paper(config: ConfigDict) -> None:
    """A.6: the defaults of get_config."""


def _reduced(config: ConfigDict) -> None:
    config.model.architecture = "inception_v3_2015"
    config.model.last = "mixed_7"
    config.model.frozen = LOWER_BLOCKS
    config.model.crop_size = 112
    config.model.localiser_size = 112
    config.model.num_classes = 50
    config.model.dropout = 0.5
    config.training.batch_size = 16
    config.training.num_steps = 1_000
    config.training.log_every = 50
    config.training.eval_every = 500
    config.training.eval_batch_size = 50
    config.optimizer.schedule = "cosine"
    config.optimizer.multipliers.mixed_6 = 0.04
    config.optimizer.multipliers.mixed_7 = 0.04
    if config.model.num_transformers:
        config.model.frozen = ("trunk", *LOWER_BLOCKS)
    config.runtime.checkpoint_every = 250


RECIPES = {"paper": _paper, "reduced": _reduced}


def sweep(selection: str = "") -> list[str]:
    """Return the selections of all runs of a table, or of the part that a selection names.

    Kinds that the selection leaves out are taken whole, but for the recipe (paper), the images
    (those published for each model, or their halves) and the transform (location).
    """
    runs = _runs(parse(selection, CHOICES), every=True)
    return [",".join(filter(None, names)) for names in runs]


def search(selection: str = "") -> dict[str, Range]:
    """Return what `scripts/sweep.py --search` tries for the runs of a selection."""
    runs = _runs(parse(selection, CHOICES), every=True)
    ranges = {
        "model.dropout": Range(low=0.3, high=0.8),
        "optimizer.learning_rate": Range(low=1e-2, high=0.3, log=True),
        "optimizer.weight_decay": Range(low=1e-6, high=1e-3, log=True),
    }
    if all(model != "CNN" for model, *_ in runs):
        ranges["optimizer.multipliers.localisation"] = Range(low=1e-5, high=1e-2, log=True)
    return ranges


def _runs(chosen: dict[str, list[str]], *, every: bool = False) -> list[tuple[str, ...]]:
    """Return the (model, images, transform, seed, recipe) that are chosen, or by default meant."""
    halves = [name.startswith("half") for name in chosen["images"]]
    recipes = chosen["recipe"] or ["reduced" if any(halves) else "paper"]
    if len(recipes) > 1:
        raise ValueError(f"a table has one recipe, got {', '.join(recipes)}.")
    (recipe,) = recipes
    usual = USUAL_IMAGES[recipe]
    there_are = [name for name in CHOICES["images"] if name in sum(usual.values(), [])]
    if misfits := [name for name in chosen["images"] if name not in there_are]:
        raise ValueError(f"recipe {recipe} is on {' or '.join(there_are)}, got {misfits[0]}.")
    found = []
    count = None if every else 1
    models = chosen["model"] or (list(usual) if every else list(CHOICES["model"])[:1])
    for model in models:
        images = [name for name in usual[model] if name in (chosen["images"] or there_are)]
        if chosen["model"] and chosen["images"]:
            images = chosen["images"]
        transforms = (chosen["transform"] or list(CHOICES["transform"])[:1]) * (model != "CNN")
        seeds = chosen["seed"] or list(CHOICES["seed"])[:count]
        found += itertools.product([model], images[:count], transforms or [""], seeds, [recipe])
    return found
