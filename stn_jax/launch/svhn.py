"""House numbers: data, network and problem from a config."""

import itertools
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from stn_jax import geometry
from stn_jax.data import svhn, svhn_views
from stn_jax.data.svhn import Numbers, Svhn
from stn_jax.data.svhn_selection import Selection, hold_out
from stn_jax.data.svhn_views import Indexed, View
from stn_jax.launch.evaluated import evaluated_split
from stn_jax.launch.saved import check_fingerprint
from stn_jax.models.pure import Model, functional
from stn_jax.models.svhn import NUM_CLASSES, svhn_model
from stn_jax.training import Problem
from stn_jax.training.errors import ConfigError
from stn_jax.training.metrics import sequence_loss, sequence_measure

NULL_CLASS = NUM_CLASSES - 1
HELD_OUT_SEED = 2015  # A.5 does not say which images are held out.
PART_OF_MEMORY = 0.6  # of a device, that images may take; the rest is for the network
_fixed_views = jax.jit(svhn_views.fixed_views, static_argnames="view")


# Measurements open the numbers of a run part by part.
@cache
def _load(data_dir: str, size: int) -> Svhn:
    """Open the prepared crops of a size in a folder ("": the usual one)."""
    return svhn.load(data_dir or None, size=size)


def load_splits(config: ConfigDict) -> tuple[Svhn, Selection, Selection]:
    """Return the prepared data, what to train on, and what to evaluate on.

    The training set is train and extra less those held out for choosing hyperparameters (A.5),
    whichever of the two is evaluated on.

    Raises:
      ConfigError: if there is no such set, or nothing would be left to train on.
    """
    split = evaluated_split(config)
    loaded = _load(config.runtime.data_dir, config.data.size)
    parts = [loaded.splits[name] for name in ("train", "extra") if name in loaded.splits]
    try:
        train, held_out = hold_out(Selection(parts), config.data.held_out, seed=HELD_OUT_SEED)
    except ValueError as error:
        raise ConfigError(f"data.held_out={config.data.held_out}: {error}") from error
    evaluated = {"test": Selection([loaded.splits["test"]]), "validation": held_out}
    return loaded, train, evaluated[split]


def view_of(config: ConfigDict) -> View:
    """Return how a config's networks see the prepared crops.

    Raises:
      ConfigError: if the fields do not go together.
    """
    data = config.data
    try:
        return View(window=data.window, canvas=data.canvas, scale=tuple(data.scale))
    except ValueError as error:
        raise ConfigError(f"data: {error}") from error


def make_model(config: ConfigDict) -> Model:
    """Build the network that a config describes."""
    size = view_of(config).input_size(config.data.size)
    return functional(
        svhn_model(
            config.model.name,
            (size, size, 3),
            layers=config.model.layers,
            width=config.model.width,
            transform=config.model.transform or "affine",
            dropout=config.model.dropout,
        )
    )


def make_problem(config: ConfigDict) -> Problem:
    """Build model, loss and data as a config says.

    Raises:
      ConfigError: if there is nothing to evaluate on.
    """
    model, view, batch_size = make_model(config), view_of(config), config.training.batch_size
    loaded, train, evaluated = load_splits(config)
    if not len(evaluated):
        raise ConfigError(
            f"there are no numbers to evaluate on: data.evaluate_on={config.data.evaluate_on!r} "
            f"with data.held_out={config.data.held_out}."
        )
    examples = Indexed(evaluated.read(), np.arange(len(evaluated)))
    lengths = np.sum(examples.numbers.label != NULL_CLASS, axis=-1)
    measure_views = sequence_measure(
        model.apply, null_class=NULL_CLASS, mean_length=float(np.mean(lengths))
    )

    def measure(params: Any, model_state: Any, batch: Indexed) -> dict[str, jax.Array]:
        return measure_views(params, model_state, svhn_views.fixed_views(batch, view=view))

    if config.runtime.stream:
        source = {
            "data": None,
            "read": partial(svhn_views.read_batch, numbers=train, batch_size=batch_size),
            "draw": partial(svhn_views.training_views, view=view),
        }
    else:
        _check_memory(train, evaluated)
        source = {
            "data": jax.tree.map(jnp.asarray, train.read()),
            "draw": partial(svhn_views.training_batch, view=view, batch_size=batch_size),
        }
        examples = jax.tree.map(jnp.asarray, examples)
    return Problem(
        init=model.init,
        loss=sequence_loss(model.apply),
        measure=measure,
        evaluations={config.data.evaluate_on: examples},
        description={
            "name": loaded.name,
            "fingerprint": loaded.fingerprint,
            "train": len(train),
            "test": len(evaluated),
        },
        **source,
    )


def _check_memory(*sets: Selection) -> None:
    """Check that images are no more than a part of what the device can hold, if it says so.

    Raises:
      ConfigError: if they are.
    """
    size = sum(numbers.num_bytes for numbers in sets)
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    if limit and size > PART_OF_MEMORY * limit:
        raise ConfigError(
            f"the images are {size / 2**30:.1f} GiB, more than {PART_OF_MEMORY:.0%} of the "
            f"device's {limit / 2**30:.1f}: read them as they are needed, with "
            "--config.runtime.stream=True."
        )


def count_evaluated(config: dict[str, Any]) -> int:
    """Return how many numbers a run, whose record has the config, is evaluated on."""
    return len(load_splits(ConfigDict(config))[2])


def open_evaluation(
    config: dict[str, Any], fingerprint: str, indices: Sequence[int] | None = None
) -> Numbers:
    """Return numbers as a run's evaluation sees them.

    Args:
      config: the run's config, as its record has it.
      fingerprint: of the run's data.
      indices: which of the set's numbers; by default all.

    Returns:
      Images float32 [N, H, W, 3] with their mean taken off, labels, boxes in pixels.

    Raises:
      ConfigError: if the data here are not those of the run.
      IndexError: if there is no such number.
    """
    config = ConfigDict(config)
    loaded, _, evaluated = load_splits(config)
    check_fingerprint(loaded, fingerprint)
    index = np.arange(len(evaluated)) if indices is None else np.asarray(indices)
    if wrong := [i for i in index.tolist() if not 0 <= i < len(evaluated)]:
        raise IndexError(f"there is no number {wrong[0]}: there are 0 to {len(evaluated) - 1}.")
    chosen = Indexed(jax.tree.map(jnp.asarray, evaluated.read(index)), jnp.asarray(index))
    return _fixed_views(chosen, view=view_of(config))


def regions(theta: jax.Array, shape: Sequence[int], points: int) -> jax.Array:
    """Multiply out the transforms of the first 1, 2, ... transformers (Table 2, right b).

    Args:
      theta: [B, T, 6], from the image inwards.
      shape: (H, W) of the image.
      points: on each side.

    Returns:
      [B, T, points, points, 2]: points of the image, in pixels, that an evenly spaced grid on the
      map behind each transformer reads.
    """
    batch, count, _ = theta.shape
    composed = [geometry.compose_affine(theta[:, : n + 1]) for n in range(count)]
    grids = geometry.affine_grid(jnp.concatenate(composed), (points, points))
    pixels = geometry.to_pixels(grids, shape)
    return jnp.moveaxis(pixels.reshape(count, batch, points, points, 2), 0, 1)


def as_text(label: np.ndarray) -> str:
    """Return a number [5] as it is written: the digits up to the first null class."""
    digits = itertools.takewhile(lambda digit: digit != NULL_CLASS, np.asarray(label).tolist())
    return "".join(map(str, digits))
