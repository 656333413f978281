"""Measure how still the first transformer holds traffic signs along their tracks.

  python scripts/measure_stillness.py runs/gtsrb --out results/tables/stillness.md

The tracks are those of validation, one a class; the test set's are not published. A run that is
evaluated on the test set has been trained on them, and is marked so. Change is the mean absolute
difference of a pixel from one frame to the next, divided by the frames' own contrast (the mean over
frames of the standard deviation of their pixels), on average over tracks:

  before   of the images;
  fixed    of the region that the transformer reads on average over the track, the same for all
           frames: what cropping and enlarging do without following;
  after    of the transformer's output.

And the transformer's region, on average over all frames:

  overlap  intersection over union of its bounding box, as far as it lies in the image, and the
           sign's box;
  whole    that of the whole image and the sign's box;
  found    share of the sign's box that lies in the region's, in %;
  size     area of the region's bounding box within the image, as a part of the image, in %.
"""

from collections.abc import Sequence

import numpy as np

from scripts import measure_regions
from stn_jax import geometry
from stn_jax.launch import gtsrb, measuring
from stn_jax.launch.examples import follow_tracks
from stn_jax.reporting.runs import Run

COLUMNS = ("run", "seed", "tracks", "before", "fixed", "after")
COLUMNS = (*COLUMNS, "overlap", "whole", "found", "size")


def main(argv: Sequence[str] | None = None) -> None:
    measuring.run(rows, experiment="gtsrb", columns=COLUMNS, description=__doc__, argv=argv)


def rows(run: Run) -> list[list]:
    """Return the row of a run's first seed."""
    tracks, scale = gtsrb.open_signs(run.config, run.fingerprint)
    affine, _ = follow_tracks(run, tracks, scale)
    # What lies outside reads 0, which is their mean to the networks.
    images = tracks.image.astype(np.float32) / 255 - np.float32(scale[0])
    average = np.empty_like(affine)
    for number in np.unique(tracks.track):
        frames = tracks.track == number
        average[frames] = affine[frames].mean(axis=0)
    changes = [
        np.mean([change(part[tracks.track == number]) for number in np.unique(tracks.track)])
        for part in (images, warp(images, average), warp(images, affine))
    ]
    held_out = run.config["data"]["evaluate_on"] == "validation"
    regions = measure_regions.measure(affine[:, None], tracks.box, images.shape[1:3])
    kind = "held out" if held_out else "trained on"
    return [[run.label, run.seeds[0], kind, *map(float, changes), *regions]]


def warp(images: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Warp images [N, H, W, C] by affine parameters [N, 6], with 0 outside."""
    grid = geometry.affine_grid(affine, images.shape[1:3])
    return np.asarray(geometry.sample(images, grid))


def change(frames: np.ndarray) -> float:
    """Return how much frames [F, H, W, C] differ from one to the next, against their contrast."""
    step = np.mean(np.abs(np.diff(frames, axis=0)))
    contrast = np.mean(np.std(frames.reshape(len(frames), -1), axis=1))
    return float(step / max(contrast, 1e-6))


if __name__ == "__main__":
    main()
