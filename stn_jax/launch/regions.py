"""How well regions that transformers read meet boxes that are known."""

from collections.abc import Sequence

import numpy as np

from stn_jax import geometry


def measure(affine: np.ndarray, box: np.ndarray, shape: Sequence[int]) -> list[float]:
    """Return overlap, whole, found and size of regions, on average over the images.

    Args:
      affine: [N, 6], of the regions.
      box: [N, 4] of what is to be found, (left, top, right, bottom) in pixels.
      shape: (H, W) of the images.

    Returns:
      Intersection over union of the region's bounding box, as far as it lies in the image, and the
      box; that of the whole image and the box; the share of the box that lies in the region's, and
      the region's part of the image, in percent.
    """
    height, width = shape
    corners = geometry.to_pixels(geometry.affine_grid(affine, (2, 2)), shape)
    region = np.asarray(geometry.bounding_box(corners.reshape(-1, 4, 2), shape))
    image = np.tile(np.float32([0, 0, width, height]), (len(region), 1))
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
