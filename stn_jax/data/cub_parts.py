"""Where the birds' annotated parts lie in what a network sees, for measuring (Table 3, right)."""

from typing import NamedTuple

import numpy as np

from stn_jax.data.cub import PARTS, Annotations
from stn_jax.data.cub_views import central_corner


class Located(NamedTuple):
    """Parts in central crops.

    Attributes:
        part: [N, 15, 2] float32, (x, y) of `cub.PARTS`, normalised: -1 and +1 are the crop's outer
            edges. Beyond them where the crop cuts a part off; NaN where the part is not visible.
        inside: [N, 15] bool, visible and within the crop.
    """

    part: np.ndarray
    inside: np.ndarray


def locate(annotations: Annotations, shape: np.ndarray, *, crop: int) -> Located:
    """Follow parts through the resizing and `cub_views.read_central`.

    Args:
        annotations: of N images.
        shape: int [N, 2], height and width of the same images as prepared: `Birds.shape`.
        crop: side of the central crop in pixels.

    Raises:
        ValueError: the crop is larger than an image.
    """
    scale = shape[:, ::-1] / annotations.size  # (x, y)
    corner = central_corner(shape, crop)[:, ::-1]
    # In pixels of the crop, 0 at the outer edge of the first.
    part = annotations.part * scale[:, None] - corner[:, None]
    inside = annotations.visible & np.all((part >= 0) & (part <= crop), axis=-1)
    return Located((2 * part / crop - 1).astype(np.float32), inside)


def are_of(region: str) -> np.ndarray:
    """Return which of the parts belong to a region, "head" or "body": bool [15].

    Raises:
        ValueError: there is no such region.
    """
    regions = np.array(list(PARTS.values()))
    if region not in regions:
        raise ValueError(f"no region {region!r}; there are {', '.join(np.unique(regions))}.")
    return regions == region
