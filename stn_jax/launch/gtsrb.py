"""Traffic signs: data, network and problem from a config."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from stn_jax import geometry
from stn_jax.data import gtsrb
from stn_jax.data.distorted_mnist import Labelled
from stn_jax.data.gtsrb import Gtsrb, Signs
from stn_jax.data.gtsrb_views import Jitter, training_batch
from stn_jax.geometry import Transform
from stn_jax.launch.evaluated import evaluated_split
from stn_jax.launch.saved import check_fingerprint
from stn_jax.models.contrast import WINDOWS, normalise_contrast
from stn_jax.models.gtsrb import SignCNN
from stn_jax.models.pure import Model, Variables, functional
from stn_jax.training import Problem
from stn_jax.training.errors import ConfigError
from stn_jax.training.metrics import classification_loss, classification_values

VALIDATION_SEED = 2015  # decides which tracks are held out
SUBSET_SEED = 2016  # decides which images are trained on, if not all
# Families of which `as_affine` knows every transform.
FAMILIES = ("affine", "attention", "rotation_scale_translation")


class Moments(NamedTuple):
    """Mean and standard deviation of images 0 to 1, of all channels together."""

    mean: float
    std: float


# Scripts that open several runs in turn load their signs once.
@cache
def load_signs(data_dir: str, size: int) -> Gtsrb:
    """Load the prepared images of a size from a folder ("": the usual one)."""
    return gtsrb.load(data_dir or None, size=size)


def load_splits(config: ConfigDict) -> tuple[Gtsrb, Signs, Signs]:
    """Return the prepared data, what to train on, and what to evaluate on.

    The published recipe trains on all training images, or on `data.images` of them, drawn once.
    Only for choosing a recipe are tracks of each class held out, and evaluated on:
    `data.evaluate_on` "validation", `data.held_out_tracks`.

    Raises:
      ConfigError: if it is neither that nor "test", or there are fewer images, or tracks.
    """
    loaded = load_signs(config.runtime.data_dir, config.data.size)
    if evaluated_split(config) == "test":
        return loaded, _draw_once(loaded.train, config.data.images), loaded.test
    kept, held_out = _hold_out(loaded, config.data.get("held_out_tracks", 1))
    train = _draw_once(loaded.train.select(kept), config.data.images)
    return loaded, train, loaded.train.select(held_out)


def _hold_out(loaded: Gtsrb, tracks: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to train on and those of so many tracks a class, the same for all seeds."""
    try:
        return gtsrb.hold_out_tracks(loaded.train, tracks=tracks, seed=VALIDATION_SEED)
    except ValueError as error:
        raise ConfigError(f"data.held_out_tracks={tracks}: {error}") from error


def _draw_once(signs: Signs, count: int) -> Signs:
    """Return so many of the signs, in order, the same for all seeds; all of them for 0."""
    if not count:
        return signs
    if not 0 < count <= len(signs.label):
        raise ConfigError(f"data.images={count}, but there are {len(signs.label)} to train on.")
    rows = np.random.default_rng(SUBSET_SEED).permutation(len(signs.label))[:count]
    return signs.select(np.sort(rows))


def transform_of(config: ConfigDict) -> Transform:
    """Return the transformers' family: affine, or held to `model.parts` within `model.limits`.

    Raises:
      ConfigError: if it is not affine, or there are parts or limits of another family.
    """
    name, parts = config.model.transform or "affine", tuple(config.model.parts)
    # Records that do not have the field came before it, and without it.
    limits = {name: value for name, value in config.model.get("limits", {}).items() if value}
    if name not in FAMILIES:
        raise ConfigError(f"model.transform={name!r} is not one of {', '.join(FAMILIES)}.")
    if not parts:
        if limits:
            raise ConfigError(f"model.limits={limits} are of model.parts, which has none.")
        return geometry.get_transform(name)
    if name != "affine":
        raise ConfigError(f"model.parts={parts} are of affine transforms, not of {name!r}.")
    try:
        return geometry.restricted(*parts, **limits)
    except ValueError as error:
        raise ConfigError(f"model.parts, model.limits: {error}") from error


def _check_layers(model: ConfigDict) -> None:
    """Check the fields that say how many layers there are, and how wide."""
    before = list(model.transformers)
    if before != sorted({*before} & {1, 2, 3}):
        raise ConfigError(
            f"model.transformers={tuple(before)}: they stand before convolutions 1, 2 or 3, each "
            "named once, in order."
        )
    if bool(before) != bool(model.transform):
        raise ConfigError(
            f"model.transformers={tuple(before)} do not go with "
            f"model.transform={model.transform!r}."
        )
    if model.normalise not in ("", *WINDOWS):
        raise ConfigError(
            f"unknown model.normalise {model.normalise!r}; there are {', '.join(WINDOWS)}, or ''."
        )
    if len(model.widths) != 4 or min(model.widths) < 1:
        raise ConfigError(
            f"model.widths={tuple(model.widths)}: they are those of three convolutions and a dense "
            "layer."
        )
    for number in before:
        widths = [tuple(of_one) for of_one in model.localisations[number - 1 : number]]
        if not widths or len(widths[0]) != 3 or min(widths[0]) < 1:
            raise ConfigError(
                f"model.localisations has {widths} for the transformer before convolution {number}:"
                " it needs the widths of two convolutions and a dense layer."
            )


def make_model(config: ConfigDict) -> Model:
    """Build the network that a config describes, its initial weights scaled as it says.

    Raises:
      ConfigError: on wrong fields of the layers or the transformers.
    """
    model, size = config.model, config.data.size
    _check_layers(model)
    transform = transform_of(config)

    def build(rngs: nnx.Rngs) -> SignCNN:
        return SignCNN(
            (size, size, 3),
            widths=model.widths,
            localisations={n: model.localisations[n - 1] for n in model.transformers},
            transform=transform,
            normalise=model.normalise,
            dropout=model.dropout,
            rngs=rngs,
        )

    try:
        init, apply = functional(build)
    except ValueError as error:
        raise ConfigError(f"data.size={size} is too small: {error}") from error

    def scaled_init(key: jax.Array) -> tuple[Variables, Variables]:
        params, state = init(key)
        # Biases are 0, but for those of the regressions, which hold the identity.
        return jax.tree.map(lambda x: model.init_scale * x if x.ndim > 1 else x, params), state

    return Model(scaled_init, apply)


def moments_of(images: np.ndarray) -> Moments:
    """Return the moments of uint8 images, as of 0 to 1."""
    counts = np.zeros(256, np.int64)
    for start in range(0, len(images), 1000):
        counts += np.bincount(images[start : start + 1000].ravel(), minlength=256)
    levels = np.arange(256) / 255
    mean = np.average(levels, weights=counts)
    std = np.sqrt(np.average((levels - mean) ** 2, weights=counts))
    return Moments(float(mean), float(std))


def as_input(images: jax.Array, moments: Moments, normalise: str) -> jax.Array:
    """Return images as the networks see them.

    Args:
      images: [B, S, S, 3], 0 to 1.
      moments: of the training images.
      normalise: local contrast normalisation after these, of `contrast.WINDOWS`; "" for none.

    Returns:
      float32 [B, S, S, 3].
    """
    images = (images - moments.mean) / moments.std
    return normalise_contrast(images, WINDOWS[normalise]) if normalise else images


def make_problem(config: ConfigDict) -> Problem:
    """Build model, loss and data as a config says.

    Evaluations of a network with a transformer on the image have `overlap`, too: that of the region
    which it reads and the sign's box.

    Raises:
      ConfigError: on an unknown `data.normalise`, or wrong fields of the network.
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
    see = partial(as_input, moments=moments_of(train.image), normalise=data.normalise)

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


def region_box(theta: jax.Array, transform: Transform, shape: tuple[int, int]) -> jax.Array:
    """Return the box around the region that the first transformer reads, within the image.

    Args:
      theta: [B, P] of the first transformer.
      transform: its family.
      shape: (H, W) of the image.

    Returns:
      [B, 4] in pixels, from outer edge to outer edge.
    """
    corners = geometry.to_pixels(transform.grid(theta, (2, 2)), shape)
    return geometry.bounding_box(corners.reshape(-1, 4, 2), shape)


class Opened(NamedTuple):
    """What a run was trained and evaluated on.

    Attributes:
      tracks: the training signs of validation: whole tracks, by class.
      trained_on: whether the run was trained on them, or some of them, as runs are that are
        evaluated on the test set; they are held out of others.
      moments: of the images that the run was trained on.
    """

    tracks: Signs
    trained_on: bool
    moments: Moments

    @property
    def kind(self) -> str:
        """What the tracks are to the run, for people."""
        return "trained on" if self.trained_on else "held out"


def open_signs(config: dict[str, Any], fingerprint: str) -> Opened:
    """Load the signs of a run again; the test set has no tracks to follow.

    Args:
      config: the run's config, as its record has it.
      fingerprint: of the run's data.

    Raises:
      ConfigError: if the data here are not those of the run.
    """
    loaded, train, _ = load_splits(ConfigDict(config))
    check_fingerprint(loaded, fingerprint)
    # Also of what was trained on there are as many tracks to follow as would be held out.
    _, rows = _hold_out(loaded, config["data"].get("held_out_tracks", 1))
    trained_on = config["data"]["evaluate_on"] == "test"
    return Opened(loaded.train.select(rows), trained_on, moments_of(train.image))


def as_affine(theta: jax.Array, transform: Transform) -> jax.Array:
    """Return the affine parameters [B, 6] of theta [B, P] of a family of `FAMILIES`."""
    corners = transform.grid(theta, (2, 2))
    centre = jnp.mean(corners, axis=(1, 2))
    x, y = (corners[:, 0, 1] - corners[:, 0, 0]) / 2, (corners[:, 1, 0] - corners[:, 0, 0]) / 2
    return jnp.stack([x, y, centre], axis=-1).reshape(-1, 6)


def look(
    network: Callable[[jax.Array], tuple[jax.Array, dict[str, jax.Array]]],
    images: jax.Array,
    config: ConfigDict,
    moments: Moments,
) -> tuple[jax.Array, jax.Array]:
    """Show signs to a network with a transformer before its first convolution.

    Args:
      network: function of its inputs, giving logits and what it reports beside them.
      images: uint8 [B, S, S, 3].
      config: the network's.
      moments: of the images that it was trained on.

    Returns:
      The first transformer's transform as affine parameters [B, 6], and the classes [B].
    """
    images = as_input(images.astype(jnp.float32) / 255, moments, config.data.normalise)
    logits, extra = network(images)
    affine = as_affine(extra["theta"][:, 0], transform_of(config))
    return affine, jnp.argmax(logits, axis=-1)
