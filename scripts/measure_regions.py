"""Measure how well transformers of house numbers find the digits (Table 2, right b).

  python scripts/measure_regions.py runs/svhn --out results/tables/regions.md

The transforms of all transformers of a network are multiplied out: the region of the image that
its last warped map reads. For every number of the test set, and on average over them:

  overlap  intersection over union of the region's bounding box, as far as it lies in the image,
           and the box around the digits;
  whole    that of the whole image and the digits: what a network without transformers has;
  found    share of the digits' box that lies in the region's, in %;
  size     area of the region's bounding box within the image, as a part of the image, in %.
"""

from collections.abc import Sequence

import jax
import numpy as np

from stn_jax import geometry
from stn_jax.launch import measuring, svhn
from stn_jax.launch.saved import open_network
from stn_jax.reporting.runs import Run

CHUNK = 100  # numbers that a network sees at a time: at full size they take gigabytes
COLUMNS = ("run", "seed", "overlap", "whole", "found", "size")


def main(argv: Sequence[str] | None = None) -> None:
    measuring.run(rows, experiment="svhn", columns=COLUMNS, description=__doc__, argv=argv)


def rows(run: Run) -> list[list]:
    """Return the row of a run's first seed."""
    network = open_network(run.config, run.folder, svhn.make_model)
    theta_of = jax.jit(lambda images: network(images)[1]["theta"])
    count = svhn.count_evaluated(run.config)
    thetas, boxes = [], []
    for start in range(0, count, CHUNK):
        index = range(start, min(start + CHUNK, count))
        test = svhn.open_evaluation(run.config, run.fingerprint, index)
        thetas.append(theta_of(test.image))
        boxes.append(test.box)
    theta, box = np.concatenate(thetas), np.concatenate(boxes)
    return [[run.label, run.seeds[0], *measure(theta, box, test.image.shape[1:3])]]


def measure(theta: np.ndarray, box: np.ndarray, shape: Sequence[int]) -> list[float]:
    """Return overlap, whole, found and size; see the module's docstring.

    Args:
      theta: [N, T, 6].
      box: [N, 4] the digits', (left, top, right, bottom) in pixels.
      shape: (H, W) of the images.
    """
    height, width = shape
    corners = geometry.affine_grid(geometry.compose_affine(theta), (2, 2))
    corners = geometry.to_pixels(corners, shape).reshape(-1, 4, 2)
    region = np.asarray(geometry.bounding_box(corners, shape))
    image = np.tile(np.float32([0, 0, width, height]), (len(theta), 1))
    box = np.asarray(box)
    shared = np.minimum(region[:, 2:], box[:, 2:]) - np.maximum(region[:, :2], box[:, :2])
    found = np.prod(np.maximum(shared, 0), axis=-1) / _area(box)
    return [
        float(np.mean(geometry.intersection_over_union(region, box))),
        float(np.mean(geometry.intersection_over_union(image, box))),
        float(100 * np.mean(found)),
        float(100 * np.mean(_area(region) / _area(image))),
    ]


def _area(box: np.ndarray) -> np.ndarray:
    return np.prod(box[:, 2:] - box[:, :2], axis=-1)


if __name__ == "__main__":
    main()
