"""Co-localisation (A.2): its problem from a config, and the encoder that it compares crops with."""

import fcntl
from collections.abc import Callable
from functools import partial
from pathlib import Path
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
from stn_jax.launch.saved import open_state
from stn_jax.models.colocaliser import Colocaliser, Encoder, triplet_hinge
from stn_jax.models.pure import Model, functional
from stn_jax.reporting.runs import FILE_NAME, Run, read_run
from stn_jax.training import Problem, fit
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


def make_model(config: ConfigDict) -> Model:
    """Build the localisation network that a config describes."""
    return functional(lambda rngs: Colocaliser((*IMAGE, 1), **config.model, rngs=rngs))


def make_problem(config: ConfigDict, encoder_config: Callable[[str], ConfigDict]) -> Problem:
    """Build network, loss and sets as a config says; train the encoder first if there is none.

    Each seed has a set of its own, which is a part of its state: its images do not change, but they
    are as much the seed's as its weights are.

    Args:
      config: of the run.
      encoder_config: gives the config of distorted MNIST that a selection stands for.

    Raises:
      ConfigError: if the encoder's run is not a CNN for 28x28 images, or saw other digits.
    """
    loaded = digits.load_digits(config.data.digits, config.runtime.data_dir)
    encode, encoder_run = open_encoder(config, encoder_config, loaded)
    model, draw_images = make_model(config), partial(set_of, config, loaded)

    def init(key: jax.Array) -> tuple[Any, ImageSet]:
        model_key, set_key = jax.random.split(key)
        return model.init(model_key)[0], draw_images(set_key)

    def draw(key: jax.Array, _: Any) -> Draw:
        index_key, place_key = jax.random.split(key)
        shape = (config.training.batch_size,)
        index = jax.random.choice(index_key, config.data.count, shape, replace=False)
        return Draw(index, jax.random.uniform(place_key, (*shape, 2), minval=-1, maxval=1))

    def compare(params: Any, images: jax.Array, place: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return theta [N, 3] and each image's loss [N]."""
        theta, _ = model.apply(params, {}, images)
        # As large as the box that was found, but anywhere: to the edge it may be mostly black.
        random = jnp.concatenate([jax.lax.stop_gradient(theta[:, :1]), place], axis=-1)
        found, elsewhere = (encode(crop(images, t)) for t in (theta, random))
        # Without it the boxes agree on black: a digit can leave a crop, but not be felt from afar.
        others = jax.lax.stop_gradient(found)
        return theta, triplet_hinge(found, others, elsewhere, margin=config.loss.margin)

    def loss(params, images: ImageSet, batch: Draw, _):
        seen = jax.tree.map(lambda x: x[batch.index], images)
        theta, values = compare(params, seen.image, batch.place)
        return jnp.mean(values), (images, {"error": jnp.mean(wrong(theta, seen.square))})

    def measure(params, images: ImageSet, index: jax.Array) -> dict[str, jax.Array]:
        # The loss of an image needs all others: the whole set, whichever of it is asked for.
        place = jax.random.uniform(jax.random.key(0), (config.data.count, 2), minval=-1, maxval=1)
        theta, values = compare(params, images.image, place)
        overlap = geometry.intersection_over_union(boxes(theta), images.square)
        result = {
            "loss": values,
            "error": wrong(theta, images.square),
            "ink_error": wrong(theta, images.ink),
            "overlap": overlap,
        }
        return {name: value[index] for name, value in result.items()}

    return Problem(
        init=init,
        loss=loss,
        draw=draw,
        data=(),
        measure=measure,
        evaluations={config.data.evaluate_on: jnp.arange(config.data.count)},
        description={
            "name": loaded.name,
            "fingerprint": loaded.fingerprint,
            "encoder": {
                "name": encoder_run.name,
                "steps": encoder_run.step,
                "seed": encoder_run.seeds[0],
                "error": encoder_run.final_errors("test")[encoder_run.seeds[0]],
                "code": encoder_run.commits,
            },
        },
    )


def set_of(config: ConfigDict, loaded: Digits, key: jax.Array) -> ImageSet:
    """Draw the images of a seed: of test digits, or of training digits to choose a recipe on.

    The encoder was trained on training digits, and sees the test digits' class nowhere.
    """
    images, labels = {
        "test": (loaded.test_images, loaded.test_labels),
        "validation": (loaded.train_images, loaded.train_labels),
    }[config.data.evaluate_on]
    index = np.flatnonzero(labels == config.data.digit)
    return draw_set(
        key,
        jnp.asarray(images[index]),
        jnp.asarray(index),
        jnp.asarray(loaded.train_images),
        canvas=CANVASES[config.data.distortion],
        count=config.data.count,
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
    return 100.0 * (overlap <= CORRECT)


def open_encoder(
    config: ConfigDict, encoder_config: Callable[[str], ConfigDict], loaded: Digits
) -> tuple[Callable[[jax.Array], jax.Array], Run]:
    """Open the CNN in the encoder's work directory, or train it there if there is none.

    Returns:
      e of Eq. 8, from crops [N, 28, 28, 1] to descriptors [N, K] of unit length, and the CNN's run.

    Raises:
      ConfigError: if the directory holds another network, or one that saw other digits.
    """
    folder = Path(config.encoder.workdir)
    wanted = encoder_config(config.encoder.selection)
    wanted.runtime.data_dir = config.runtime.data_dir
    if config.encoder.num_steps:
        wanted.training.num_steps = config.encoder.num_steps
        wanted.training.eval_every = config.encoder.num_steps
        wanted.runtime.checkpoint_every = min(
            wanted.runtime.checkpoint_every, config.encoder.num_steps
        )
    folder.mkdir(parents=True, exist_ok=True)
    # One of several processes trains it, the others wait.
    with (folder / "encoder.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = folder / FILE_NAME
        if not path.exists() or read_run(path, relative_to=folder).status != "finished":
            print(f"There is no encoder in {folder}: it is trained there first.", flush=True)
            fit(wanted, digits.make_problem(wanted), folder, name=f"encoder {wanted.name}")
    run = read_run(path, relative_to=folder)
    saw = run.config["data"]
    if run.config["model"]["name"] != "cnn" or saw["distortion"] not in ("R", "P", "E"):
        raise ConfigError(
            f"the encoder has to be a CNN for 28x28 images (R, P or E); {folder} holds {run.name}."
        )
    if run.fingerprint != loaded.fingerprint:
        raise ConfigError(
            f"the encoder in {folder} was trained on digits {run.fingerprint}, and this run is on "
            f"{loaded.fingerprint}."
        )
    network = digits.make_network(ConfigDict(run.config))
    params = open_state(functional(network), run.config, folder).params
    encoder = functional(lambda rngs: Encoder(network(rngs).classifier))

    def encode(images: jax.Array) -> jax.Array:
        descriptors = encoder.apply(params, {}, images)[0]
        # As they are, squared distances are thousands, and a margin of 1 means nothing.
        return descriptors / jnp.linalg.norm(descriptors, axis=-1, keepdims=True)

    return encode, run
