"""Finished runs, opened again: their networks, and their test digits."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from stn_jax.data.cub import Cub
from stn_jax.data.distorted_mnist import Labelled
from stn_jax.data.distortions import DISTORTIONS
from stn_jax.data.gtsrb import Gtsrb
from stn_jax.data.svhn import Svhn
from stn_jax.data.types import Digits
from stn_jax.launch.digits import load_digits, make_model, task_of
from stn_jax.models.pure import Model
from stn_jax.training.errors import ConfigError
from stn_jax.training.loop import load_state
from stn_jax.training.optim import make_optimizer
from stn_jax.training.state import TrainState, create_state


def open_network(
    config: dict[str, Any],
    folder: Path,
    make_model: Callable[[ConfigDict], Model] = make_model,
) -> Callable[[jax.Array], tuple[jax.Array, dict[str, jax.Array]]]:
    """Restore the network of a run's first seed from its last checkpoint.

    Args:
      config: the run's config, as its record has it.
      folder: the run's directory.
      make_model: builds the network that the config describes; by default as the experiments on
        images do.

    Returns:
      A jitted function of images [B, H, W, C], giving logits [B, K] and what the network reports
      beside them (theta and warped, if it has a transformer).

    Raises:
      RunError: if the run has no checkpoint.
    """
    model = make_model(ConfigDict(config))
    state = open_state(model, config, folder)
    return jax.jit(lambda images: model.apply(state.params, state.model_state, images)[0])


def open_state(model: Model, config: dict[str, Any], folder: Path) -> TrainState:
    """Read the state of a run's first seed from its last checkpoint; see `open_states`."""
    return jax.tree.map(lambda leaf: leaf[0], open_states(model, config, folder))


def open_states(model: Model, config: dict[str, Any], folder: Path) -> TrainState:
    """Read the states of a run's seeds, arrays [S, ...], from its last checkpoint.

    Args:
      model: the run's network.
      config: the run's config, as its record has it.
      folder: the run's directory.

    Raises:
      RunError: if the run has no checkpoint.
    """
    config = ConfigDict(config)
    optimizer = make_optimizer(config.optimizer, config.training.num_steps)
    shapes = jax.eval_shape(partial(create_state, model.init, optimizer, config.seeds))
    return load_state(shapes, folder)


def check_fingerprint(loaded: Cub | Digits | Gtsrb | Svhn, fingerprint: str) -> None:
    """Check that data which were loaded are those of a run.

    Raises:
      ConfigError: if the fingerprint is another one.
    """
    if loaded.fingerprint != fingerprint:
        raise ConfigError(
            f"the run's data have the fingerprint {fingerprint}, {loaded.source} has "
            f"{loaded.fingerprint}."
        )


def evaluation_digits(
    config: dict[str, Any], fingerprint: str, indices: Sequence[int] | None = None
) -> Labelled:
    """Return test digits, distorted as a run's evaluation has them.

    Args:
      config: the run's config, as its record has it.
      fingerprint: of the run's data.
      indices: which digits; by default all.

    Raises:
      ConfigError: if the data here are not those of the run.
      IndexError: if there is no such test digit.
    """
    test, clutter = plain_digits(config, fingerprint, indices or ())
    config = ConfigDict(config)
    distortion = DISTORTIONS[config.data.distortion]
    return task_of(config).fixed_set(test, clutter, distortion=distortion, index=indices)


def plain_digits(
    config: dict[str, Any], fingerprint: str, indices: Sequence[int] = ()
) -> tuple[Labelled, jax.Array]:
    """Return all test digits undistorted, and the training digits that clutter is cut from.

    Args:
      config: the run's config, as its record has it.
      fingerprint: of the run's data.
      indices: of test digits that there have to be.

    Raises:
      ConfigError: if the data here are not those of the run.
      IndexError: if there is no such test digit.
    """
    loaded = load_digits(config["data"]["digits"], config["runtime"]["data_dir"])
    check_fingerprint(loaded, fingerprint)
    count = len(loaded.test_labels)
    if wrong := [i for i in indices if not 0 <= i < count]:
        raise IndexError(f"there is no test digit {wrong[0]}: {loaded.name} has 0 to {count - 1}.")
    test = Labelled(jnp.asarray(loaded.test_images), jnp.asarray(loaded.test_labels))
    return test, jnp.asarray(loaded.train_images)


def rotation_degrees(matrix: np.ndarray) -> np.ndarray:
    """Return the angle of the rotation nearest to each affine map, in degrees.

    A digit that was turned by an angle is upright again if its transformer's has the same.

    Args:
      matrix: [..., 2, 2], or [..., 2, 3] with a translation, which has no part in it.
    """
    return np.degrees(
        np.arctan2(matrix[..., 1, 0] - matrix[..., 0, 1], matrix[..., 0, 0] + matrix[..., 1, 1])
    )
