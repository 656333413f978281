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
from stn_jax.launch import measuring, regions, svhn
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
    affine = geometry.compose_affine(theta)
    return [[run.label, run.seeds[0], *regions.measure(affine, box, test.image.shape[1:3])]]


if __name__ == "__main__":
    main()
