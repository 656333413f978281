"""Traffic signs: data, network and problem from a config."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from stn_jax import geometry
from stn_jax.data import gtsrb
from stn_jax.data.distorted_mnist import Labelled
from stn_jax.data.gtsrb import Gtsrb, Signs
from stn_jax.data.gtsrb_views import Jitter, training_batch
from stn_jax.geometry import Transform
from stn_jax.models.contrast import WINDOWS, normalise_contrast
from stn_jax.models.gtsrb import SignCNN
from stn_jax.models.pure import Model, Variables, functional
from stn_jax.training import Problem
from stn_jax.training.errors import ConfigError
from stn_jax.training.metrics import classification_loss, classification_values

VALIDATION_SEED = 2015  # decides which tracks are held out


# Scripts that open several runs in turn load their signs once.
@cache
def load_signs(data_dir: str, size: int) -> Gtsrb:
    """Load the prepared images of a size from a folder ("": the usual one)."""
    return gtsrb.load(data_dir or None, size=size)


def load_splits(config: ConfigDict) -> tuple[Gtsrb, Signs, Signs]:
    """Return the prepared data, what to train on, and what to evaluate on.

    The published recipe trains on all training images. Only for choosing a recipe is one track a
    class held out of them, and evaluated on: `data.evaluate_on` "validation".

    Raises:
      ConfigError: if it is neither that nor "test".
    """
    loaded = load_signs(config.runtime.data_dir, config.data.size)
    if config.data.evaluate_on == "test":
        return loaded, loaded.train, loaded.test
    if config.data.evaluate_on != "validation":
        raise ConfigError(
            f"data.evaluate_on={config.data.evaluate_on!r} is neither 'test' nor 'validation'."
        )
    kept, held_out = gtsrb.hold_out_tracks(loaded.train, seed=VALIDATION_SEED)
    return loaded, loaded.train.select(kept), loaded.train.select(held_out)


def transform_of(config: ConfigDict) -> Transform:
    """Return the transformers' family: affine, or held to `model.parts`."""
    if config.model.parts:
        return geometry.restricted(*config.model.parts)
    return geometry.get_transform(config.model.transform or "affine")


def make_model(config: ConfigDict) -> Model:
    """Build the network that a config describes, its initial weights scaled as it says."""
    model, size = config.model, config.data.size
    init, apply = functional(
        lambda rngs: SignCNN(
            (size, size, 3),
            widths=model.widths,
            localisations={n: model.localisations[n - 1] for n in model.transformers},
            transform=transform_of(config),
            normalise=model.normalise,
            dropout=model.dropout,
            rngs=rngs,
        )
    )

    def scaled_init(key: jax.Array) -> tuple[Variables, Variables]:
        params, state = init(key)
        # Biases are 0, but for those of the regressions, which hold the identity.
        return jax.tree.map(lambda x: model.init_scale * x if x.ndim > 1 else x, params), state

    return Model(scaled_init, apply)


def mean_and_std(images: np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation of all values of uint8 images, 0 to 1."""
    counts = np.zeros(256, np.int64)
    for start in range(0, len(images), 1000):
        counts += np.bincount(images[start : start + 1000].ravel(), minlength=256)
    levels = np.arange(256) / 255
    mean = np.average(levels, weights=counts)
    return float(mean), float(np.sqrt(np.average((levels - mean) ** 2, weights=counts)))


def as_input(images: jax.Array, scale: tuple[float, float], normalise: str) -> jax.Array:
    """Return images as the networks see them.

    Args:
      images: [B, S, S, 3], 0 to 1.
      scale: mean and standard deviation of the training images, of all channels together.
      normalise: local contrast normalisation after these, of `contrast.WINDOWS`; "" for none.

    Returns:
      float32 [B, S, S, 3].
    """
    mean, std = scale
    images = (images - mean) / std
    return normalise_contrast(images, WINDOWS[normalise]) if normalise else images


def make_problem(config: ConfigDict) -> Problem:
    """Build model, loss and data as a config says.

    Evaluations of a network with a transformer on the image have `overlap`, too: that of the region
    which it reads and the sign's box.

    Raises:
      ConfigError: on an unknown `data.normalise`, or wrong fields of the transformers.
    """
    data, batch_size = config.data, config.training.batch_size
    if data.normalise and data.normalise not in WINDOWS:
        raise ConfigError(
            f"unknown data.normalise {data.normalise!r}; there are {', '.join(WINDOWS)}, or ''."
        )
    jitter = Jitter(
        rotation=data.rotation, scale=data.scale, shift=data.shift, brightness=data.brightness
    )
    model, transform = make_model(config), transform_of(config)
    loaded, train, evaluated = load_splits(config)
    see = partial(as_input, scale=mean_and_std(train.image), normalise=data.normalise)

    def draw(key: jax.Array, signs: Labelled) -> Labelled:
        batch = training_batch(key, signs, jitter=jitter, batch_size=batch_size)
        return Labelled(see(batch.image), batch.label)

    def measure(params: Any, model_state: Any, batch: Signs) -> dict[str, jax.Array]:
        images = see(batch.image.astype(jnp.float32) / 255)
        (logits, extra), _ = model.apply(params, model_state, images)
        values = classification_values(logits, batch.label)
        if 1 in config.model.transformers:
            region = region_box(extra["theta"][:, 0], transform, images.shape[1:3])
            values["overlap"] = geometry.intersection_over_union(region, batch.box)
        return values

    return Problem(
        init=model.init,
        loss=classification_loss(model.apply),
        draw=draw,
        data=Labelled(jnp.asarray(train.image), jnp.asarray(train.label)),
        measure=measure,
        evaluations={data.evaluate_on: jax.tree.map(jnp.asarray, evaluated)},
        description={
            "name": loaded.name,
            "fingerprint": loaded.fingerprint,
            "train": len(train.label),
            "test": len(evaluated.label),
        },
    )


def region_corners(theta: jax.Array, transform: Transform, shape: Sequence[int]) -> jax.Array:
    """Return the points of the image that the corners of the first transformer's output read.

    Args:
      theta: [B, P] of the first transformer.
      transform: its family.
      shape: (H, W) of the image.

    Returns:
      [B, 2, 2, 2] in pixels, 0 at the centre of the first.
    """
    return geometry.to_pixels(transform.grid(theta, (2, 2)), shape)


def region_box(theta: jax.Array, transform: Transform, shape: Sequence[int]) -> jax.Array:
    """Return the box around the region that the first transformer reads, within the image: [B, 4].

    The arguments are those of `region_corners`.
    """
    corners = region_corners(theta, transform, shape).reshape(-1, 4, 2)
    # To the outer edges of the pixels whose centres these are.
    box = jnp.concatenate([corners.min(axis=1), corners.max(axis=1) + 1], axis=-1)
    return jnp.clip(box, 0, jnp.asarray([(*shape[::-1], *shape[::-1])], box.dtype))


class Opened(NamedTuple):
    """What a run was trained and evaluated on.

    Attributes:
      tracks: the training signs that are held out for validation: whole tracks, one a class. A run
        that is evaluated on the test set has been trained on them.
      scale: mean and standard deviation of the images that the run was trained on.
    """

    tracks: Signs
    scale: tuple[float, float]


def open_signs(config: dict[str, Any], fingerprint: str) -> Opened:
    """Load the signs of a run again; the test set has no tracks to follow.

    Args:
      config: the run's config, as its record has it.
      fingerprint: of the run's data.

    Raises:
      ConfigError: if the data here are not those of the run.
    """
    loaded, train, _ = load_splits(ConfigDict(config))
    if loaded.fingerprint != fingerprint:
        raise ConfigError(
            f"the run's data have the fingerprint {fingerprint}, {loaded.source} has "
            f"{loaded.fingerprint}."
        )
    _, held_out = gtsrb.hold_out_tracks(loaded.train, seed=VALIDATION_SEED)
    return Opened(loaded.train.select(held_out), mean_and_std(train.image))


def as_affine(theta: jax.Array, transform: Transform) -> jax.Array:
    """Return the affine parameters [B, 6] of theta [B, P] of a family of affine transforms."""
    corners = transform.grid(theta, (2, 2))
    centre = jnp.mean(corners, axis=(1, 2))
    x, y = (corners[:, 0, 1] - corners[:, 0, 0]) / 2, (corners[:, 1, 0] - corners[:, 0, 0]) / 2
    return jnp.stack([x, y, centre], axis=-1).reshape(-1, 6)


def look(
    network: Callable[[jax.Array], tuple[jax.Array, dict[str, jax.Array]]],
    images: jax.Array,
    config: ConfigDict,
    scale: tuple[float, float],
) -> tuple[jax.Array, jax.Array]:
    """Show signs to a network with a transformer before its first convolution.

    Args:
      network: function of its inputs, giving logits and what it reports beside them.
      images: uint8 [B, S, S, 3].
      config: the network's.
      scale: as in `Opened`.

    Returns:
      The first transformer's transform as affine parameters [B, 6], and the classes [B].
    """
    images = as_input(images.astype(jnp.float32) / 255, scale, config.data.normalise)
    logits, extra = network(images)
    affine = as_affine(extra["theta"][:, 0], transform_of(config))
    return affine, jnp.argmax(logits, axis=-1)
