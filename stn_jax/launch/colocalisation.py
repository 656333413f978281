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
from stn_jax.models.colocaliser import VIEWS, Colocaliser, triplet_hinge, turn, turn_back
from stn_jax.models.pure import Model, functional
from stn_jax.reporting.runs import Run
from stn_jax.training import Problem
from stn_jax.training.errors import ConfigError

CROP = (DIGIT, DIGIT)  # what the encoder was trained on
IMAGE = (SIZE, SIZE)
CORRECT = 0.5  # a box is right if it overlaps the true one by more (A.2)


class Draw(NamedTuple):
    """What one step takes from a set: some of its images, how turned, and where to crop them too.

    Attributes:
      index: int32 [B], each image at most once.
      view: bool [B, 3], how the localisation network sees them; see `models.colocaliser.turn`.
      place: float32 [B, 2], centres of the random crops, normalised.
    """

    index: jax.Array
    view: jax.Array
    place: jax.Array


@dataclass(frozen=True)
class SetProblem(Problem):
    """A problem that also tells where its network finds the object.

    Attributes:
      find: function of (params, images of a set) giving each image's theta [N, 3], the number [N]
        of the view (of `models.colocaliser.VIEWS`) that it is from, and its loss [N].
    """

    find: Callable[[Any, ImageSet], tuple[jax.Array, ...]] = field(kw_only=True)


def make_model(config: ConfigDict) -> Model:
    """Build the localisation network that a config describes."""
    return functional(lambda rngs: Colocaliser((*IMAGE, 1), **config.model, rngs=rngs))


def make_problem(config: ConfigDict, encoder_config: Callable[[str], ConfigDict]) -> SetProblem:
    """Build network, loss and sets as a config says; train the encoder first if there is none.

    Each seed has a set of its own, which is a part of its state: its images do not change, but they
    are as much the seed's as its weights are. The network sees each image from eight sides, and of
    its boxes there `choose` takes one. That needs no labels.

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
    model, count = make_model(config), config.data.count
    hinge = partial(triplet_hinge, margin=config.margin)

    def init(key: jax.Array) -> tuple[Any, ImageSet]:
        if split == "validation":  # nothing is shared with the test set of the same seed
            key = jax.random.fold_in(key, 1)
        model_key, set_key = jax.random.split(key)
        return model.init(model_key)[0], set_of(config, loaded, set_key)

    def draw(key: jax.Array, _: Any) -> Draw:
        index_key, view_key, place_key = jax.random.split(key, 3)
        size = config.training.batch_size
        return Draw(
            index=jax.random.choice(index_key, count, (size,), replace=False),
            view=jax.random.bernoulli(view_key, shape=(size, 3)),
            place=jax.random.uniform(place_key, (size, 2), minval=-1, maxval=1),
        )

    def describe(images: jax.Array, theta: jax.Array, place: jax.Array) -> tuple[jax.Array, ...]:
        """Return the descriptors [N, K] of the crops that theta takes, and of random ones."""
        # As large as the box that was found, but anywhere: towards the edge it is mostly black.
        anywhere = jnp.concatenate([theta[:, :1], place], axis=-1)
        return encode(crop(images, theta)), encode(crop(images, anywhere))

    def loss(params, images: ImageSet, batch: Draw, _):
        seen = jax.tree.map(lambda x: x[batch.index], images)
        theta = locate(model, params, seen.image, batch.view)
        found, random = describe(seen.image, theta, batch.place)
        # With gradients from all sides boxes soon agree on black: a digit can slip out of a crop,
        # but none is felt from afar.
        others, random = jax.lax.stop_gradient((found, random))
        value = jnp.mean(hinge(found, others, random))
        return value, (images, {"loss": value, "error": jnp.mean(wrong(theta, seen.square))})

    def find(params: Any, images: ImageSet) -> tuple[jax.Array, ...]:
        """Return each image's theta [N, 3], the view [N] that it is from, and its loss [N]."""
        place = jax.random.uniform(jax.random.key(0), (count, 2), minval=-1, maxval=1)
        theta = from_all_views(model, params, images.image)
        found, random = jax.lax.map(lambda t: describe(images.image, t, place), theta)
        view, values = choose(found, random, hinge)
        return theta[view, jnp.arange(count)], view, values

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


def locate(model: Model, params: Any, images: jax.Array, view: jax.Array) -> jax.Array:
    """Return theta [N, 3] of images [N, 84, 84, 1], each seen as a row of view [N, 3] says.

    An image is to have one box from all sides. So the network cannot learn a hundred images by
    heart, and what holds a box fast from one side mostly does not from the next.
    """
    return turn_back(model.apply(params, {}, turn(images, view))[0], view)


def from_all_views(model: Model, params: Any, images: jax.Array) -> jax.Array:
    """Return theta [V, N, 3] of images [N, 84, 84, 1], each seen from all sides."""
    views = np.repeat(VIEWS[:, None], len(images), axis=1)
    return jax.vmap(lambda view: locate(model, params, images, view))(views)


def choose(
    found: jax.Array, random: jax.Array, hinge: Callable[..., jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Choose for each image the view from which its box has the least loss (Eq. 8).

    What an image's boxes are compared with are the other images' crops from the leading view, the
    one with the least loss over all images by itself. One view is right where another is not.

    Args:
      found: [V, N, K], descriptors of the crops that were found from V views.
      random: [V, N, K], those of random crops.
      hinge: as `triplet_hinge`.

    Returns:
      int32 [N], the views, and float [N], the losses.
    """
    alone = jnp.mean(jax.vmap(hinge)(found, found, random), axis=1)
    leading = found[jnp.argmin(alone)]
    values = jax.vmap(hinge, in_axes=(0, None, 0))(found, leading, random)
    return jnp.argmin(values, axis=0), jnp.min(values, axis=0)


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
