"""Measure how still the first transformer holds traffic signs along their tracks.

  python scripts/measure_stillness.py runs/gtsrb --out results/tables/stillness.md

The tracks are those of validation; the test set's are not published. A run that is
evaluated on the test set has been trained on them, and is marked so. Change is the mean absolute
difference of a pixel from one frame to the next, divided by the frames' own contrast (the mean over
frames of the standard deviation of their pixels), on average over tracks:

  before   of the images as the network sees them;
  fixed    of the region that the transformer reads on average over the track, the same for all
           frames: what cropping and enlarging do without following;
  after    of the transformer's output: what the rest of the network sees;
  pixels   the same three of the pixels, without the local contrast normalisation that the network's
           images have: light that changes along a track counts, too.

Wander is how far the corners of the sign's box are from where they are on average over the track
(root mean square over frames and corners), in % of the box's mean side there:

  in       in the images;
  out      in the transformer's output.

And the transformer's region, on average over all frames:

  overlap  intersection over union of its bounding box, as far as it lies in the image, and the
           sign's box;
  whole    that of the whole image and the sign's box;
  found    share of the sign's box that lies in the region's, in %;
  size     area of the region's bounding box within the image, as a part of the image, in %.
"""

from collections.abc import Callable, Sequence

import numpy as np

from stn_jax import geometry
from stn_jax.launch import gtsrb, measuring, regions
from stn_jax.launch.examples import follow_tracks
from stn_jax.reporting.runs import Run

KINDS = ("before", "fixed", "after")
COLUMNS = ("run", "seed", "tracks", *KINDS, *(f"pixels {kind}" for kind in KINDS))
COLUMNS = (*COLUMNS, "in", "out", "overlap", "whole", "found", "size")


def main(argv: Sequence[str] | None = None) -> None:
    measuring.run(rows, experiment="gtsrb", columns=COLUMNS, description=__doc__, argv=argv)


def rows(run: Run) -> list[list]:
    """Return the row of a run's first seed."""
    opened = gtsrb.open_signs(run.config, run.fingerprint)
    tracks = opened.tracks
    affine, _ = follow_tracks(run, tracks, opened.moments)
    # What lies outside reads 0, which is the images' mean to the networks.
    images = tracks.image.astype(np.float32) / 255
    normalise = run.config["data"]["normalise"]
    seen = [np.asarray(gtsrb.as_input(images, opened.moments, name)) for name in (normalise, "")]
    average = np.empty_like(affine)
    for number in np.unique(tracks.track):
        frames = tracks.track == number
        average[frames] = affine[frames].mean(axis=0)
    parts = [part for x in seen for part in (x, warp(x, average), warp(x, affine))]
    corners = box_corners(tracks.box, images.shape[1:3])
    changes = [over_tracks(change, part, tracks.track) for part in parts]
    region = regions.measure(affine, tracks.box, images.shape[1:3])
    wanders = [over_tracks(wander, part, tracks.track) for part in (corners, undo(affine, corners))]
    return [[run.label, run.seeds[0], opened.kind, *changes, *wanders, *region]]


def over_tracks(
    measure: Callable[[np.ndarray], float], values: np.ndarray, track: np.ndarray
) -> float:
    """Return the mean over tracks [N] of a measure of their frames' values [N, ...].

    Tracks of a single frame, whose others are damaged, have no motion and are left out.
    """
    numbers, counts = np.unique(track, return_counts=True)
    return float(np.mean([measure(values[track == n]) for n in numbers[counts > 1]]))


def warp(images: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Warp images [N, H, W, C] by affine parameters [N, 6], with 0 outside."""
    grid = geometry.affine_grid(affine, images.shape[1:3])
    return np.asarray(geometry.sample(images, grid))


def change(frames: np.ndarray) -> float:
    """Return how much frames [F, H, W, C] differ from one to the next, against their contrast."""
    step = np.mean(np.abs(np.diff(frames, axis=0)))
    contrast = np.mean(np.std(frames.reshape(len(frames), -1), axis=1))
    return float(step / max(contrast, 1e-6))


def wander(corners: np.ndarray) -> float:
    """Return how far quadrilaterals [F, 4, 2] are from their mean, in % of their mean side."""
    distance = np.linalg.norm(corners - corners.mean(axis=0), axis=-1)
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1)
    return float(100 * np.sqrt(np.mean(distance**2)) / np.mean(sides))


def box_corners(box: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return the corners [N, 4, 2], in turn, of boxes [N, 4] in pixels, normalised."""
    # From outer edges to pixel indices.
    left, top, right, bottom = np.moveaxis(box - 0.5, 1, 0)
    corners = np.stack([left, top, right, top, right, bottom, left, bottom], axis=-1)
    return np.asarray(geometry.to_normalised(corners.reshape(-1, 4, 2), shape))


def undo(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return where the output shows points [N, K, 2] of images warped by affine [N, 6]."""
    matrix = affine.reshape(-1, 2, 3)
    return np.linalg.solve(matrix[:, None, :, :2], (points - matrix[:, None, :, 2])[..., None])[
        ..., 0
    ]


if __name__ == "__main__":
    main()
