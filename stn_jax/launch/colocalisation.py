"""Co-localisation (A.2): its problem from a config."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from stn_jax import geometry
from stn_jax.data.colocalisation import CANVASES, SIZE, ImageSet, draw_set
from stn_jax.data.distortions import DIGIT
from stn_jax.data.types import Digits
from stn_jax.launch import digits
from stn_jax.launch.encoder import open_encoder
from stn_jax.launch.evaluated import evaluated_split
from stn_jax.models.colocaliser import Colocaliser, triplet_hinge
from stn_jax.models.pure import Model, functional
from stn_jax.reporting.runs import Run
from stn_jax.training import Problem
from stn_jax.training.errors import ConfigError

CROP = (DIGIT, DIGIT)  # what the encoder was trained on
IMAGE = (SIZE, SIZE)
CORRECT = 0.5  # a box is right if it overlaps the true one by more (A.2)


class Draw(NamedTuple):
    """What one step takes from a set: some of its images, and where to crop them at random.

    Attributes:
      index: int32 [B], each image at most once.
      place: float32 [B, 2], centres of the random crops, normalised.
    """

    index: jax.Array
    place: jax.Array


@dataclass(frozen=True)
class SetProblem(Problem):
    """A problem that also tells where its networks find the object.

    Attributes:
      find: function of (params, images of a set) giving each image's theta [N, 3], the network [N]
        that it is of, and its loss [N].
    """

    find: Callable[[Any, ImageSet], tuple[jax.Array, ...]] = field(kw_only=True)


def make_model(config: ConfigDict) -> Model:
    """Build the localisation network that a config describes."""
    return functional(lambda rngs: Colocaliser((*IMAGE, 1), **config.model, rngs=rngs))


def make_problem(config: ConfigDict, encoder_config: Callable[[str], ConfigDict]) -> SetProblem:
    """Build networks, loss and sets as a config says; train the encoder first if there is none.

    Each seed has a set of its own, which is a part of its state: its images do not change, but they
    are as much the seed's as its weights are. Several networks are trained on it, which differ in
    their first weights; of their boxes on an image `choose` takes one. That needs no labels.

    Args:
      config: of the run.
      encoder_config: gives the config of distorted MNIST that a selection stands for.

    Raises:
      ConfigError: if numbers of the config do not go together, or if the encoder's run is not a CNN
        for 28x28 images, or saw other digits.
    """
    _check(config)
    split = evaluated_split(config)
    loaded = digits.load_digits(config.data.digits, config.runtime.data_dir)
    encode, encoder_run = open_encoder(config, encoder_config, loaded)
    model, networks, count = make_model(config), config.restarts, config.data.count
    hinge = partial(triplet_hinge, margin=config.margin)

    def init(key: jax.Array) -> tuple[Any, ImageSet]:
        if split == "validation":  # nothing is shared with the test set of the same seed
            key = jax.random.fold_in(key, 1)
        model_key, set_key = jax.random.split(key)
        params, _ = jax.vmap(model.init)(jax.random.split(model_key, networks))
        return params, set_of(config, loaded, set_key)

    def draw(key: jax.Array, _: Any) -> Draw:
        index_key, place_key = jax.random.split(key)
        shape = (config.training.batch_size,)
        index = jax.random.choice(index_key, count, shape, replace=False)
        return Draw(index, jax.random.uniform(place_key, (*shape, 2), minval=-1, maxval=1))

    def describe(images: jax.Array, theta: jax.Array) -> jax.Array:
        """Return the descriptors [R, N, K] of crops of all images by all networks' theta."""
        crops = crop(jnp.tile(images, (networks, 1, 1, 1)), theta.reshape(-1, 3))
        return encode(crops).reshape(networks, len(images), -1)

    def look(params: Any, images: jax.Array, place: jax.Array) -> tuple[jax.Array, ...]:
        """Return each network's theta [R, N, 3], and what is in its crops and in random ones."""
        theta = jax.vmap(lambda p: model.apply(p, {}, images)[0])(params)
        # As large as the box that was found, but anywhere: towards the edge it is mostly black.
        places = jnp.tile(place[None], (networks, 1, 1))
        anywhere = jnp.concatenate([theta[..., :1], places], axis=-1)
        return theta, describe(images, theta), describe(images, anywhere)

    def loss(params, images: ImageSet, batch: Draw, _):
        seen = jax.tree.map(lambda x: x[batch.index], images)
        theta, found, random = look(params, seen.image, batch.place)
        # With gradients from all sides boxes soon agree on black: a digit can slip out of a crop,
        # but none is felt from afar.
        others, random = jax.lax.stop_gradient((found, random))
        each = jnp.mean(jax.vmap(hinge)(found, others, random), axis=1)
        network, _ = choose(others, random, hinge)
        error = jnp.mean(wrong(_of(network, theta), seen.square))
        # The sum, for networks are not to feel how many there are.
        return jnp.sum(each), (images, {"loss": jnp.mean(each), "error": error})

    def find(params: Any, images: ImageSet) -> tuple[jax.Array, ...]:
        """Return each image's theta [N, 3], the network [N] that it is of, and its loss [N]."""
        place = jax.random.uniform(jax.random.key(0), (count, 2), minval=-1, maxval=1)
        theta, found, random = look(params, images.image, place)
        network, values = choose(found, random, hinge)
        return _of(network, theta), network, values

    def measure(params, images: ImageSet, index: jax.Array) -> dict[str, jax.Array]:
        # The loss of an image needs all others: the whole set, whichever of it is asked for.
        theta, _, values = find(params, images)
        result = {
            "loss": values,
            "error": wrong(theta, images.square),
            "ink_error": wrong(theta, images.ink),
            "overlap": geometry.intersection_over_union(boxes(theta), images.square),
        }
        return {name: value[index] for name, value in result.items()}

    return SetProblem(
        find=find,
        init=init,
        loss=loss,
        draw=draw,
        data=(),
        measure=measure,
        evaluations={split: jnp.arange(count)},
        description={
            "name": loaded.name,
            "fingerprint": loaded.fingerprint,
            "encoder": {
                "name": encoder_run.name,
                "steps": encoder_run.step,
                "seed": encoder_run.seeds[0],
                "error": encoder_run.final_errors("test").get(encoder_run.seeds[0]),
                "code": encoder_run.commits,
            },
        },
    )


def problem_of(run: Run, encoder_config: Callable[[str], ConfigDict]) -> SetProblem:
    """Build the problem that a run had; see `make_problem`.

    Raises:
      ConfigError: if the digits or the encoder here are not those of the run.
    """
    problem = make_problem(ConfigDict(run.config), encoder_config)
    recorded = json.loads(run.path.read_text(encoding="utf-8").splitlines()[0])["data"]
    if recorded != problem.description:
        raise ConfigError(
            f"{run.name} saw {recorded}, here are {problem.description}: its steps cannot be "
            "repeated."
        )
    return problem


def choose(
    found: jax.Array, random: jax.Array, hinge: Callable[..., jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Choose for each image the network whose box has the least loss (Eq. 8).

    What an image's boxes are compared with are the other images' crops by the leading network, the
    one with the least loss over all images by itself. One network is right where another is not.

    Args:
      found: [R, N, K], descriptors of the crops that R networks found.
      random: [R, N, K], those of random crops.
      hinge: as `triplet_hinge`.

    Returns:
      int32 [N], the networks, and float [N], the losses.
    """
    alone = jnp.mean(jax.vmap(hinge)(found, found, random), axis=1)
    leading = found[jnp.argmin(alone)]
    values = jax.vmap(hinge, in_axes=(0, None, 0))(found, leading, random)
    return jnp.argmin(values, axis=0), jnp.min(values, axis=0)


def _of(network: jax.Array, theta: jax.Array) -> jax.Array:
    """Return each image's theta [N, 3] by its network [N], of all networks' [R, N, 3]."""
    return theta[network, np.arange(len(network))]


def set_of(config: ConfigDict, loaded: Digits, key: jax.Array) -> ImageSet:
    """Draw the images of a seed: of test digits, or of training digits to choose a recipe on.

    Raises:
      ConfigError: if the class has fewer digits than the set is to have images.
    """
    split = evaluated_split(config)
    images, labels = {
        "test": (loaded.test_images, loaded.test_labels),
        "validation": (loaded.train_images, loaded.train_labels),
    }[split]
    index = np.flatnonzero(labels == config.data.digit)
    if config.data.count > len(index):
        raise ConfigError(
            f"data.count={config.data.count} is more than there are of digit {config.data.digit} "
            f"in the {split} set: {len(index)}."
        )
    return draw_set(
        key,
        jnp.asarray(images[index]),
        jnp.asarray(index),
        jnp.asarray(loaded.train_images),
        canvas=CANVASES[config.data.distortion],
        count=config.data.count,
    )


def _check(config: ConfigDict) -> None:
    if config.data.distortion not in CANVASES:
        raise ConfigError(
            f"data.distortion={config.data.distortion!r}; there are {', '.join(CANVASES)}."
        )
    if config.data.digit not in range(10):
        raise ConfigError(f"data.digit is to be 0 to 9, got {config.data.digit!r}.")
    count, batch_size = config.data.count, config.training.batch_size
    if not 2 <= batch_size <= count:
        raise ConfigError(
            "training.batch_size is to be 2 (a pair) to data.count, all images of a set, "
            f"got {batch_size} of {count}."
        )
    if config.restarts < 1:
        raise ConfigError(f"restarts counts the networks of a set, got {config.restarts}.")


def crop(images: jax.Array, theta: jax.Array) -> jax.Array:
    """Sample crops [N, 28, 28, 1] of images [N, 84, 84, 1] by attention transforms [N, 3]."""
    return geometry.sample(images, geometry.attention_grid(theta, CROP))


def boxes(theta: jax.Array) -> jax.Array:
    """Return the boxes [N, 4], in pixels, of attention transforms [N, 3]."""
    return geometry.attention_to_box(theta, CROP, IMAGE)


def wrong(theta: jax.Array, true_boxes: jax.Array) -> jax.Array:
    """Return 0 for boxes that overlap the true ones by more than half (A.2), and 100 for others."""
    overlap = geometry.intersection_over_union(boxes(theta), true_boxes)
    return 100.0 * ~(overlap > CORRECT)  # a box that is not a number is wrong
