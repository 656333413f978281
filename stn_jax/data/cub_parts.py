"""Where the birds' annotated parts lie in what a network sees, for measuring (Table 3, right)."""

from typing import NamedTuple

import numpy as np

from stn_jax import geometry
from stn_jax.data.cub import PARTS, Annotations
from stn_jax.data.cub_views import central_corner


class Located(NamedTuple):
    """Parts and boxes in central crops.

    Attributes:
        part: [N, 15, 2] float32, (x, y) of `cub.PARTS`, normalised: -1 and +1 are the centres of
            the crop's border pixels. Beyond them where the crop cuts a part off; NaN where the
            part is not visible.
        visible: [N, 15] bool, annotated as visible, in the crop or not.
        inside: [N, 15] bool, visible and within the crop.
        box: [N, 4] float32, the bird's box (left, top, right, bottom) in pixels of the crop, from
            outer edge to outer edge; not clipped.
    """

    part: np.ndarray
    visible: np.ndarray
    inside: np.ndarray
    box: np.ndarray


def locate(annotations: Annotations, shape: np.ndarray, *, crop: int) -> Located:
    """Follow parts and boxes through the resizing and `cub_views.read_central`.

    Args:
        annotations: of N images.
        shape: int [N, 2], height and width of the same images as prepared: `Birds.shape`.
        crop: side of the central crop in pixels.

    Raises:
        ValueError: the crop is larger than an image.
    """
    scale = shape[:, ::-1] / annotations.size  # (x, y)
    corner = central_corner(shape, crop)[:, ::-1]
    # From here on in pixels of the crop, 0 at the outer edge of the first.
    part = annotations.part * scale[:, None] - corner[:, None]
    box = annotations.box * np.tile(scale, 2) - np.tile(corner, 2)
    centred = geometry.to_normalised((part - 0.5).astype(np.float32), (crop, crop))
    inside = annotations.visible & np.all((part >= 0) & (part <= crop), axis=-1)
    return Located(np.asarray(centred), annotations.visible, inside, box.astype(np.float32))


def are_of(region: str) -> np.ndarray:
    """Return which of the parts belong to a region, "head" or "body": bool [15].

    Raises:
        ValueError: there is no such region.
    """
    regions = np.array(list(PARTS.values()))
    if region not in regions:
        raise ValueError(f"no region {region!r}; there are {', '.join(np.unique(regions))}.")
    return regions == region
