"""What the networks of finished runs make of birds, for figures and measurements."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stn_jax import geometry
from stn_jax.data import cub_views
from stn_jax.data.cub import Birds
from stn_jax.launch import birds as launch
from stn_jax.launch.saved import open_network
from stn_jax.models.birds import FAMILIES
from stn_jax.reporting.birds import BirdExamples
from stn_jax.reporting.runs import Run

CHUNK = 50  # birds that a network sees at a time
# Of a crop, in turn around it; -1 and +1 are its outer edges.
CORNERS = np.float32([[-1, -1], [1, -1], [1, 1], [-1, 1]])


class Look(NamedTuple):
    """What a network sees of birds, and makes of them.

    Attributes:
      affine: [N, T, 6], the crops of its T transformers; -1 and +1 are the outer edges of image
        and crop.
      prediction: [N], the classes that it reads.
    """

    affine: np.ndarray
    prediction: np.ndarray


def look(run: Run, birds: Birds) -> Look:
    """Show birds to the network of a run's first seed.

    Args:
      run: of birds, with transformers.
      birds: which.

    Raises:
      RunError: if the run has no checkpoint.
    """
    network = open_network(run.config, run.folder, launch.make_model)
    as_affine = FAMILIES[run.config["model"]["transform"]].as_affine

    @jax.jit
    def see(images: jax.Array) -> Look:
        logits, extra = network(images)
        return Look(as_affine(extra["theta"]), jnp.argmax(logits, axis=-1))

    parts = [see(images) for images in _chunks(run, birds)]
    return Look(*map(np.concatenate, zip(*parts, strict=True)))


def classes(run: Run, birds: Birds) -> np.ndarray:
    """Return the classes [N] that the network of a run's first seed reads; raises as `look`."""
    network = open_network(run.config, run.folder, launch.make_model)
    read = jax.jit(lambda images: jnp.argmax(network(images)[0], axis=-1))
    return np.concatenate([read(images) for images in _chunks(run, birds)])


def _chunks(run: Run, birds: Birds) -> Iterator[np.ndarray]:
    """Yield what the network sees of the birds, in turn."""
    rows, crop = np.arange(len(birds.label)), run.config["data"]["crop"]
    for start in range(0, len(rows), CHUNK):
        yield cub_views.read_central(rows[start : start + CHUNK], birds, crop=crop).image


def corners_of(affine: np.ndarray, points: np.ndarray = CORNERS) -> np.ndarray:
    """Return where points of crops lie in the image.

    Args:
      affine: [..., 6], as in `Look`.
      points: [K, 2] of a crop, -1 to 1.

    Returns:
      [..., K, 2], -1 and +1 being the image's outer edges.
    """
    matrix = np.reshape(affine, (*np.shape(affine)[:-1], 2, 3))
    return points @ np.swapaxes(matrix[..., :2], -1, -2) + matrix[..., None, :, 2]


def apply_to_birds(run: Run, indices: Sequence[int]) -> BirdExamples:
    """Show some birds of a run's evaluation to the network of its first seed.

    Raises:
      ConfigError: if the data are not those of the run.
      IndexError: if there is no such bird.
      RunError: if the run has no checkpoint.
    """
    opened = launch.open_evaluation(run.config, run.fingerprint, indices)
    seen = look(run, opened.birds)
    config, count = run.config, len(opened.birds.label)
    crop, side = config["data"]["crop"], config["model"]["crop_size"]
    images = cub_views.read_central(np.arange(count), opened.birds, crop=crop).image / np.float32(
        255
    )
    corners = geometry.to_pixels(corners_of(seen.affine), (crop, crop), align_corners=False)
    transformers = seen.affine.shape[1]
    # Outside an image the networks see mid-grey.
    grids = geometry.affine_grid(seen.affine.reshape(-1, 6), (side, side), align_corners=False)
    crops = 0.5 + geometry.sample(
        np.repeat(images - 0.5, transformers, axis=0), grids, align_corners=False
    )
    return BirdExamples(
        name=f"{run.name}, seed {run.seeds[0]}",
        inputs=images,
        corners=np.asarray(corners),
        outputs=np.asarray(crops).reshape(count, transformers, side, side, 3),
        labels=[opened.class_names[label] for label in opened.birds.label],
        predictions=[opened.class_names[label] for label in seen.prediction],
    )
