"""Fine-grained birds: data, weights, network and problem from a config."""

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from stn_jax import geometry
from stn_jax.data import cub, cub_parts, cub_selection, cub_views
from stn_jax.data.cub import Birds, Cub
from stn_jax.data.cub_parts import Located
from stn_jax.data.distorted_mnist import Labelled
from stn_jax.data.types import resolve_data_dir
from stn_jax.launch.evaluated import evaluated_split
from stn_jax.launch.saved import check_fingerprint
from stn_jax.models.birds import FAMILIES, bird_model
from stn_jax.models.frozen import freeze
from stn_jax.models.pretrained import Weights, WeightsError, load_weights, with_pretrained
from stn_jax.models.public_weights import SOURCES
from stn_jax.models.pure import Model, Variables, functional
from stn_jax.training import Problem
from stn_jax.training.errors import ConfigError
from stn_jax.training.metrics import classification_loss, classification_values
from stn_jax.training.streaming import Streamed

FOLDS_SEED = 2015  # decides which training images are in which fold
DTYPES = ("float32", "bfloat16")


# Scripts that open several runs in turn open their images once.
@cache
def load_birds(data_dir: str, size: int) -> Cub:
    """Open the prepared images of a size in a folder ("": the usual one)."""
    return cub.load(data_dir or None, size=size)


def load_splits(config: ConfigDict) -> tuple[Cub, Birds, Birds]:
    """Return the prepared data, what to train on, and what to evaluate on.

    All training images are trained on, unless one of their folds is evaluated on, for choosing
    settings (A.6): `data.evaluate_on` "validation".

    Raises:
      ConfigError: if there is no such set or fold, or the images do not fit the network.
    """
    data, num_classes = config.data, config.model.num_classes
    loaded = load_birds(config.runtime.data_dir, data.size)
    if len(loaded.class_names) != num_classes:
        raise ConfigError(
            f"{loaded.source}: of {len(loaded.class_names)} classes, but "
            f"model.num_classes={num_classes}."
        )
    if not 1 <= data.crop <= data.size:
        raise ConfigError(f"data.crop={data.crop} does not fit in images of data.size={data.size}.")
    if evaluated_split(config) == "test":
        return loaded, loaded.train, loaded.test
    try:
        kept, held_out = cub_selection.fold(
            loaded.train.label, data.fold, folds=data.folds, seed=FOLDS_SEED
        )
    except ValueError as error:
        raise ConfigError(f"data.fold={data.fold}, data.folds={data.folds}: {error}") from error
    return loaded, loaded.train.select(kept), loaded.train.select(held_out)


def load_pretrained(config: ConfigDict) -> Weights | None:
    """Return the weights that a config's Inception networks start from; None for random ones.

    Raises:
      ConfigError: if the file is missing or none, or of another architecture.
    """
    if not config.model.pretrained:
        return None
    architecture = config.model.architecture
    usual = resolve_data_dir(config.runtime.data_dir or None) / "weights" / f"{architecture}.npz"
    path = Path(config.runtime.weights).expanduser() if config.runtime.weights else usual
    names = {source.architecture: name for name, source in SOURCES.items()}
    if architecture not in names:
        raise ConfigError(f"unknown model.architecture {architecture!r}: {', '.join(names)}.")
    if not path.is_file():
        raise ConfigError(
            f"no weights of {architecture} in {path} (runtime.weights). Make them: python "
            f"scripts/convert_weights.py {names[architecture]} FILE {path}; or train from random "
            "ones with --config.model.pretrained=False."
        )
    try:
        weights = load_weights(path)
    except WeightsError as error:
        raise ConfigError(str(error)) from error
    if weights.header["architecture"] != architecture:
        raise ConfigError(
            f"{path} has weights of {weights.header['architecture']}, but "
            f"model.architecture={architecture!r}."
        )
    return weights


def describe(weights: Weights | None) -> str:
    """Return what a record says of the weights: source, file and checksum."""
    if weights is None:
        return "random"
    header = weights.header
    return f"{header['source']}, {header['file']}, sha256 {header['sha256'][:16]}"


def make_model(config: ConfigDict, weights: Weights | None = None) -> Model:
    """Build the network that a config describes.

    Args:
      config: the config.
      weights: that its Inception networks have at first; by default random ones.

    Raises:
      ConfigError: if a field of `model` is wrong.
    """
    fields = config.model
    options = {
        "transform": fields.transform,
        "num_transformers": fields.num_transformers,
        "crop_size": fields.crop_size,
        "localiser_size": fields.localiser_size,
    }
    if fields.frozen and fields.statistics == "batch":
        raise ConfigError(
            "model.frozen keeps parameters, but with model.statistics='batch' the statistics "
            "beside them go on changing: freeze with 'stored' ones."
        )
    if fields.dtype not in DTYPES:
        raise ConfigError(f"model.dtype is {' or '.join(DTYPES)}, got {fields.dtype!r}.")
    try:
        model = functional(
            bird_model(
                fields.name,
                config.data.crop,
                architecture=fields.architecture,
                last=fields.last,
                num_classes=fields.num_classes,
                dropout=fields.dropout,
                statistics=fields.statistics,
                dtype=fields.dtype,
                remat=config.runtime.remat,
                **(options if fields.name == "st_cnn" else {}),
            )
        )
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error

    def init(key: jax.Array) -> tuple[Variables, Variables]:
        variables = model.init(key)
        if weights is None:
            return variables
        return with_pretrained(*variables, weights, architecture=fields.architecture)

    started = Model(init, model.apply)
    return freeze(started, fields.frozen) if fields.frozen else started


def make_problem(config: ConfigDict) -> Problem:
    """Build model, loss and data as a config says.

    Evaluations of a network with transformers have `inside`, too: which part of its crops lies in
    the image. One that has lost the bird altogether could not be told from the error.

    Raises:
      ConfigError: if images, weights, network and settings do not fit each other.
    """
    loaded, train, evaluated = load_splits(config)
    weights = load_pretrained(config)
    model = make_model(config, weights)
    try:
        jax.eval_shape(model.init, jax.random.key(0))
    except WeightsError as error:
        raise ConfigError(
            f"{describe(weights)}: {error} A network that ends earlier needs less: model.last="
            f"{config.model.last!r}."
        ) from error
    except ValueError as error:  # nothing of that name to freeze
        raise ConfigError(str(error)) from error
    crop, family = config.data.crop, FAMILIES.get(config.model.transform)

    def measure(params: Any, model_state: Any, views: Labelled) -> dict[str, jax.Array]:
        (logits, extra), _ = model.apply(params, model_state, views.image)
        values = classification_values(logits, views.label)
        if extra:
            values["inside"] = _inside(family.as_affine(extra["theta"]))
        return values

    return Problem(
        init=model.init,
        loss=classification_loss(model.apply),
        draw=lambda key, batch: batch,
        data=None,
        read=partial(
            cub_views.read_batch, birds=train, crop=crop, batch_size=config.training.batch_size
        ),
        measure=measure,
        evaluations={
            config.data.evaluate_on: Streamed(
                len(evaluated.label), partial(cub_views.read_central, birds=evaluated, crop=crop)
            )
        },
        description={
            "name": loaded.name,
            "fingerprint": loaded.fingerprint,
            "train": len(train.label),
            "test": len(evaluated.label),
            "weights": describe(weights),
        },
    )


def _inside(affine: jax.Array, *, points: int = 8) -> jax.Array:
    """Return which part of crops [B, N, 6] lies within the image, on average over the N: [B]."""
    grid = geometry.affine_grid(affine.reshape(-1, 6), (points, points), align_corners=False)
    within = jnp.all(jnp.abs(grid) <= 1, axis=-1)
    return jnp.mean(within.reshape(len(affine), -1), axis=-1)


class Opened(NamedTuple):
    """What a run was evaluated on.

    Attributes:
      birds: the images.
      class_names: by label.
      located: where their parts are in what the network sees; None where they are not asked for.
    """

    birds: Birds
    class_names: tuple[str, ...]
    located: Located | None = None


def open_evaluation(
    config: dict[str, Any], fingerprint: str, rows: Sequence[int] | None = None
) -> Opened:
    """Open the birds that a run is evaluated on.

    Args:
      config: the run's config, as its record has it.
      fingerprint: of the run's data.
      rows: which birds of the set; by default all.

    Raises:
      ConfigError: if the data here are not those of the run.
      IndexError: if there is no such bird.
    """
    loaded, _, evaluated = load_splits(ConfigDict(config))
    check_fingerprint(loaded, fingerprint)
    count = len(evaluated.label)
    rows = np.arange(count) if rows is None else np.asarray(rows)
    if wrong := [i for i in rows.tolist() if not 0 <= i < count]:
        raise IndexError(f"there is no bird {wrong[0]}: there are 0 to {count - 1}.")
    return Opened(evaluated.select(rows), loaded.class_names)


def kept_of(config: dict[str, Any], path: Path) -> np.ndarray:
    """Return which test images a file does not leave out (`cub_selection.leave_out`), bool [N].

    Args:
      config: of a run that was evaluated on the test set.
      path: of the file.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it names other images, or none.
    """
    loaded, _, test = load_splits(ConfigDict(config))
    return np.isin(test.id, cub_selection.leave_out(loaded, path).id)


def open_parts(config: dict[str, Any], fingerprint: str) -> Opened:
    """Open the birds that a run is evaluated on, with the places of their annotated parts.

    The arguments are those of `open_evaluation`.

    Raises:
      ConfigError: if the data here are not those of the run.
      DataNotFoundError: if they have no parts.
    """
    opened = open_evaluation(config, fingerprint)
    data = ConfigDict(config).data
    notes = cub.load_annotations(config["runtime"]["data_dir"] or None, size=data.size)
    notes = notes.select(opened.birds.id)
    located = cub_parts.locate(notes, opened.birds.shape, crop=data.crop)
    return opened._replace(located=located)
