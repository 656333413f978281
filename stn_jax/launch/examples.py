"""What the networks of finished runs make of digits, for figures."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from stn_jax import geometry
from stn_jax.data.distorted_mnist import Labelled, fixed_keys
from stn_jax.data.distortions import DISTORTIONS
from stn_jax.data.gtsrb import Signs
from stn_jax.data.mnist_addition import fixed_pairs
from stn_jax.launch import gtsrb, mnist_3d, svhn
from stn_jax.launch.digits import load_digits
from stn_jax.launch.saved import evaluation_digits, open_network, rotation_degrees
from stn_jax.reporting.figures import ChannelExamples, Examples
from stn_jax.reporting.numbers import NumberExamples
from stn_jax.reporting.runs import Run
from stn_jax.reporting.signs import TrackExamples
from stn_jax.reporting.tables import place_of
from stn_jax.reporting.volumes import VolumeExamples
from stn_jax.training.errors import RunError
from stn_jax.training.loop import CHECKPOINTS

GRID_POINTS = 57  # a side of the drawn grids: enough for smooth lines
FRAMES = 8  # of a track that are shown
CHUNK = 1000  # test digits that a network sees at a time


def why_not_opened(run: Run) -> str:
    """Say why what a run's transformers do cannot be looked at; "" if it can."""
    if run.experiment == "gtsrb" and 1 not in run.config["model"]["transformers"]:
        return "has no transformer before its first convolution"
    # Opening the checkpoints of a run that may still be going would disturb it.
    if run.status != "finished":
        return f"is {run.status}"
    return "" if (run.folder / CHECKPOINTS).is_dir() else "has no checkpoints"


def apply_to_digits(run: Run, indices: Sequence[int]) -> Examples:
    """Show some test digits to the network of a run's first seed.

    Raises:
      IndexError: if there is no such test digit.
      RunError: if the run has no checkpoint, or the data are not those of the run.
    """
    test = evaluation_digits(run.config, run.fingerprint, indices)
    distortion = DISTORTIONS[run.config["data"]["distortion"]]
    return apply(run, test, jax.jit(distortion.poses)(fixed_keys(jnp.asarray(indices))))


def apply(run: Run, test: Labelled, poses: dict[str, jax.Array]) -> Examples:
    """Show distorted digits in known poses to the network of a run's first seed."""
    logits, extra = open_network(run.config, run.folder)(test.image)
    transform = geometry.get_transform(run.config["model"]["transform"])
    grids = transform.grid(extra["theta"], (GRID_POINTS, GRID_POINTS))
    place = place_of(run)
    toy = [] if run.config["data"]["digits"] == "mnist" else ["(toy digits)"]
    captions = []
    if place.distortion == "R" and place.transform == "Aff":
        matrix = np.asarray(extra["theta"]).reshape(-1, 2, 3)
        angles = zip(np.degrees(poses["angle"]), rotation_degrees(matrix), strict=True)
        for drawn, found in angles:
            captions.append(f"turned {round(drawn):+d}°\naffine {round(found):+d}°")
    return Examples(
        name=f"{run.name}, seed {run.seeds[0]}",
        row="\n".join([place.distortion, f"{place.model} {place.transform}", *toy]),
        inputs=np.asarray(test.image[..., 0]),
        grids=np.asarray(geometry.to_pixels(grids, test.image.shape[1:3])),
        outputs=np.asarray(extra["warped"][..., 0]),
        labels=np.asarray(test.label),
        predictions=np.asarray(jnp.argmax(logits, axis=-1)),
        captions=captions,
    )


def missed_digits(run: Run, base: Run, count: int) -> dict[int, int]:
    """Find test digits that a base run gets wrong and another run right.

    Args:
      run: the run that gets them right; first seeds are compared.
      base: the run that gets them wrong.
      count: how many are looked for, from the first test digit on.

    Returns:
      What the base run takes each of the digits for, by index.

    Raises:
      RunError: if the runs were not tested on the same images, a run cannot be opened, or there is
        no such digit.
    """
    seen, seen_by_base = (
        (place_of(r).distortion, r.config["data"]["digits"], r.fingerprint) for r in (run, base)
    )
    if seen != seen_by_base:
        raise RunError(
            "digits that one run misses and another does not need runs on the same images: "
            f"{run.name} saw {' '.join(seen)}, {base.name} {' '.join(seen_by_base)}."
        )
    for r in (run, base):
        if lack := why_not_opened(r):
            raise RunError(f"{r.name} {lack}: what it gets wrong cannot be told.")
    test = evaluation_digits(base.config, base.fingerprint)
    label = np.asarray(test.label)
    found, read = classes(run, test.image), classes(base, test.image)
    indices = np.flatnonzero((read != label) & (found == label))[:count]
    if not indices.size:
        raise RunError(f"{run.name} gets no digit right that {base.name} misses.")
    return {int(i): int(read[i]) for i in indices}


def classes(run: Run, images: jax.Array) -> np.ndarray:
    """Return the classes [N] that the network of a run's first seed gives images."""
    network = open_network(run.config, run.folder)
    best = jax.jit(lambda images: jnp.argmax(network(images)[0], axis=-1))
    parts = [best(images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)]
    return np.concatenate(parts)


def apply_to_pairs(run: Run, indices: Sequence[int]) -> ChannelExamples:
    """Show some test pairs to the network of a run's first seed; raises as `apply_to_digits`."""
    test = evaluation_digits(run.config, run.fingerprint, indices)
    logits, extra = open_network(run.config, run.folder)(test.image)
    transform = geometry.get_transform(run.config["model"]["transform"])
    count, height, width, channels = test.image.shape
    # One transformer gives theta [N, P], several [N, T, P].
    grids = transform.grid(extra["theta"].reshape(-1, transform.num_params), (GRID_POINTS,) * 2)
    grids = geometry.to_pixels(grids, (height, width))
    outputs = np.moveaxis(np.asarray(extra["warped"]), -1, 1)
    digits = load_digits(run.config["data"]["digits"], run.config["runtime"]["data_dir"])
    pairs = np.asarray(fixed_pairs(len(digits.test_labels)))[np.asarray(indices)]
    return ChannelExamples(
        name=f"{run.name}, seed {run.seeds[0]}",
        inputs=np.moveaxis(np.asarray(test.image), -1, 1),
        grids=np.reshape(grids, (count, -1, *grids.shape[1:])),
        outputs=outputs.reshape(count, -1, channels, *outputs.shape[2:]),
        digits=digits.test_labels[pairs],
        predictions=np.asarray(jnp.argmax(logits, axis=-1)),
    )


def apply_to_volumes(run: Run, indices: Sequence[int]) -> VolumeExamples:
    """Show some test volumes to the network of a run's first seed; raises as `apply_to_digits`."""
    test = mnist_3d.evaluation_volumes(run.config, run.fingerprint, indices)
    logits, extra = open_network(run.config, run.folder, mnist_3d.make_model)(test.image)
    transform = geometry.get_transform(run.config["model"]["transform"])
    corners = transform.grid(extra["theta"], (2, 2, 2))
    return VolumeExamples(
        name=f"{run.name}, seed {run.seeds[0]}",
        inputs=np.asarray(test.image[..., 0]),
        corners=np.asarray(geometry.to_pixels(corners, test.image.shape[1:-1])),
        outputs=np.asarray(extra["warped"][..., 0]),
        labels=np.asarray(test.label),
        predictions=np.asarray(jnp.argmax(logits, axis=-1)),
    )


def apply_to_numbers(run: Run, indices: Sequence[int]) -> NumberExamples:
    """Show some test numbers to the network of a run's first seed; raises as `apply_to_digits`."""
    test = svhn.open_evaluation(run.config, run.fingerprint, indices)
    logits, extra = open_network(run.config, run.folder, svhn.make_model)(test.image)
    shape = test.image.shape[1:3]
    whole = geometry.affine_grid(geometry.compose_affine(extra["theta"]), shape)
    read = np.asarray(jnp.argmax(logits, axis=-1))
    # Their mean is taken off: grey stands for it.
    shown = jnp.clip(test.image + 0.5, 0, 1)
    return NumberExamples(
        name=f"{run.name}, seed {run.seeds[0]}",
        inputs=np.asarray(shown),
        regions=np.asarray(svhn.regions(extra["theta"], shape, GRID_POINTS)),
        outputs=np.asarray(jnp.clip(geometry.sample(test.image, whole) + 0.5, 0, 1)),
        labels=[svhn.as_text(label) for label in test.label],
        predictions=[svhn.as_text(label) for label in read],
        right=np.all(read == np.asarray(test.label), axis=-1).tolist(),
    )


def follow_tracks(run: Run, tracks: Signs, moments: gtsrb.Moments) -> tuple[np.ndarray, np.ndarray]:
    """Show frames of traffic signs to the network of a run's first seed.

    Args:
      run: with a transformer on the image.
      tracks: the frames.
      moments: of the images that the run was trained on.

    Returns:
      The first transformer's transform as affine parameters [N, 6], and the classes [N].

    Raises:
      RunError: if the run cannot be looked at.
    """
    if lack := why_not_opened(run):
        raise RunError(f"{run.name} {lack}.")
    network = open_network(run.config, run.folder, gtsrb.make_model)
    config = ConfigDict(run.config)
    return in_chunks(
        jax.jit(lambda images: gtsrb.look(network, images, config, moments)), tracks.image
    )


def in_chunks(
    look: Callable[[np.ndarray], tuple[jax.Array, ...]], images: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Return what a function gives of images [N, ...], shown to it `CHUNK` at a time."""
    parts = [look(images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)]
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def apply_to_tracks(run: Run, indices: Sequence[int], *, frames: int = FRAMES) -> TrackExamples:
    """Show frames of the validation tracks to the network of a run's first seed.

    They are held out only of runs that are evaluated on them: others were trained on them, and the
    examples say so.

    Args:
      run: of traffic signs, with a transformer.
      indices: which tracks, counted by class; of each there is one unless the config says more.
      frames: of each track, evenly spaced from the first to the last.

    Raises:
      ConfigError: if the data are not those of the run.
      IndexError: if there is no such track.
      RunError: if the run cannot be looked at.
    """
    opened = gtsrb.open_signs(run.config, run.fingerprint)
    shown = opened.tracks.select(frames_of(opened.tracks, indices, frames))
    affine, read = follow_tracks(run, shown, opened.moments)
    name = name_of(run, opened)
    return sign_examples(name, shown, affine, read, frames=frames)


def name_of(run: Run, opened: gtsrb.Opened) -> str:
    """Return what is written above a run's tracks."""
    return f"{run.name}, seed {run.seeds[0]}: tracks {opened.kind}"


def frames_of(tracks: Signs, indices: Sequence[int], frames: int) -> np.ndarray:
    """Return the rows of some frames, evenly spaced, of the tracks at some indices, in turn.

    Raises:
      IndexError: if there is no such track.
    """
    numbers = np.unique(tracks.track)
    if wrong := [i for i in indices if not 0 <= i < len(numbers)]:
        raise IndexError(f"there is no track {wrong[0]}: there are 0 to {len(numbers) - 1}.")
    rows = []
    for number in numbers[np.asarray(indices)]:
        whole = np.flatnonzero(tracks.track == number)
        rows.append(whole[np.rint(np.linspace(0, len(whole) - 1, frames)).astype(int)])
    return np.concatenate(rows)


def sign_examples(
    name: str, shown: Signs, affine: np.ndarray, read: np.ndarray, *, frames: int
) -> TrackExamples:
    """Put together what is drawn of signs [N * frames], a track after the other.

    Args:
      name: the run's, and what the tracks are to it.
      shown: the signs.
      affine: [N * frames, 6], of the first transformer.
      read: [N * frames], the classes that the network reads.
      frames: of each track.
    """
    inputs, shape = shown.image.astype(np.float32) / 255, shown.image.shape[1:3]
    corners = geometry.to_pixels(geometry.affine_grid(affine, (2, 2)), shape)
    outputs = geometry.sample(inputs, geometry.affine_grid(affine, shape))

    def by_track(array: jax.Array) -> np.ndarray:
        return np.asarray(array).reshape(-1, frames, *array.shape[1:])

    return TrackExamples(
        name=name,
        inputs=by_track(inputs),
        corners=by_track(corners),
        boxes=by_track(shown.box),
        outputs=by_track(np.clip(outputs, 0, 1)),
        labels=by_track(shown.label)[:, 0],
        predictions=by_track(read),
    )
