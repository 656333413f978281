"""Crops around house numbers: the box around all digits, grown, and resized to a square.

Goodfellow et al. (2014), whom the paper follows, expand the box that contains all digits' boxes "by
30% in both the x and the y direction" and resize it. Read here, as by others: 1.3 times the width
and 1.3 times the height about the same centre, so 15% on each side. The aspect ratio is not kept.

What a region has outside the image is filled with the nearest pixel of its border. Clipping the
region instead would change the size and place of the digits from one image to another and between
the tight and the loose crop; so digits fill the same part of every crop.

Boxes and regions are (left, top, right, bottom) in pixels, from outer edge to outer edge.
"""

import math

import numpy as np
from PIL import Image

CLIPPED, EMPTY, OUTSIDE = "clipped_box", "empty_box", "outside_box"


def digits_box(boxes: np.ndarray, image_size: tuple[int, int]) -> tuple[np.ndarray, set[str]]:
    """Return the box around all digits' boxes, each clipped to the image.

    Args:
        boxes: [n, 4], left, top, width, height of each digit.
        image_size: width and height.

    Returns:
        float64 [4], NaN if no box is usable; and which of these problems there were: CLIPPED (a
        box reaches beyond the image), EMPTY (no width or height, or not finite), OUTSIDE (no part
        of it on the image). Boxes with the latter two are left out.
    """
    boxes = np.asarray(boxes, np.float64)
    solid = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    problems = set() if solid.all() else {EMPTY}
    corners = boxes[solid].reshape(-1, 2, 2).cumsum(axis=1)  # [m, 2, 2]: first, then second corner
    clipped = np.clip(corners, 0, np.array(image_size, np.float64))
    inside = (clipped[:, 1] > clipped[:, 0]).all(axis=1)
    if not inside.all():
        problems.add(OUTSIDE)
    if (clipped != corners)[inside].any():
        problems.add(CLIPPED)
    if not inside.any():
        return np.full(4, np.nan), problems
    kept = clipped[inside]
    return np.concatenate([kept[:, 0].min(axis=0), kept[:, 1].max(axis=0)]), problems


def grow(box: np.ndarray, factor: float) -> np.ndarray:
    """Return the region with `factor` times a box's width and height about its centre, [4]."""
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    return np.concatenate([centre - factor * half, centre + factor * half])


def reaches_out(region: np.ndarray, image_size: tuple[int, int]) -> bool:
    """Tell whether a part of a region lies outside the image of that width and height."""
    return bool((region[:2] < 0).any() or (region[2:] > np.array(image_size)).any())


def crop(image: Image.Image, region: np.ndarray, *, size: int) -> np.ndarray:
    """Cut a region out and resize it, antialiased (Pillow's bilinear filter).

    Args:
        image: RGB.
        region: [4], any part of the plane.
        size: of the crop in pixels.

    Returns:
        uint8 [size, size, 3], as from an image whose border pixels go on for ever.
    """
    indices, start = [], []
    for low, high, length in zip(region[:2], region[2:], image.size, strict=True):
        margin = math.ceil(max(1, (high - low) / size)) + 1  # what the filter sees beyond
        first, last = math.floor(low) - margin, math.ceil(high) + margin
        indices.append(np.clip(np.arange(first, last), 0, length - 1))
        start.append(first)
    patch = np.asarray(image)[indices[1]][:, indices[0]]
    box = tuple((region - np.tile(start, 2)).tolist())
    resized = Image.fromarray(patch).resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(resized)


def in_crop(box: np.ndarray, region: np.ndarray, *, size: int) -> np.ndarray:
    """Return a box in pixels of the crop of a region, float32 [4]."""
    corners = (box.reshape(2, 2) - region[:2]) / (region[2:] - region[:2])
    return (corners.ravel() * size).astype(np.float32)
