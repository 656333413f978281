"""Where parts lie in what a network sees (B20)."""

import numpy as np
import pytest
from PIL import Image

from stn_jax.data import cub_parts, cub_prepare, cub_views
from stn_jax.data.cub import PARTS, Annotations, Birds


def annotations(part, size):
    """Annotate one image: one part, the beak, is visible."""
    parts, visible = np.full((1, 15, 2), np.nan, np.float32), np.zeros((1, 15), bool)
    parts[0, 1], visible[0, 1] = part, True
    return Annotations(
        id=np.array([1], np.int32),
        size=np.array([size], np.int32),
        box=np.array([[0, 0, 1, 1]], np.float32),
        part=parts,
        visible=visible,
    )


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        # 40x20 is enlarged to 80x40, and 30x30 are cut out from (25, 5) on.
        ((20.0, 10.0), (0.0, 0.0)),  # the middle of all three
        ((12.5, 2.5), (-1.0, -1.0)),  # the crop's outer edges
        ((27.5, 17.5), (1.0, 1.0)),
        ((20.0, 17.5), (0.0, 1.0)),
        ((12.75, 2.75), (-1 + 1 / 30, -1 + 1 / 30)),  # the centre of its first pixel: (25.5, 5.5)
    ],
)
def test_by_hand(part, expected):
    shape = np.array([[40, 80]])
    found = cub_parts.locate(annotations(part, (40, 20)), shape, crop=30)
    np.testing.assert_allclose(found.part[0, 1], expected, atol=1e-6)
    assert found.part.dtype == np.float32 and np.isnan(found.part[0, 0]).all()
    assert found.inside.sum() == 1


@pytest.mark.parametrize("part", [(12.4, 10.0), (20.0, 17.6), (39.0, 10.0)])
def test_parts_beyond_the_crop(part):
    found = cub_parts.locate(annotations(part, (40, 20)), np.array([[40, 80]]), crop=30)
    assert not found.inside.any()
    assert np.abs(found.part[0, 1]).max() > 1


@pytest.mark.parametrize("size", [(500, 375), (333, 500), (61, 47), (320, 320)])
@pytest.mark.parametrize(("side", "crop"), [(64, 56), (128, 96)])
def test_a_marker_is_found_where_its_part_is_said_to_be(size, side, crop):
    """Rendered in the original, then through the very resizing and crop that networks' images go.

    The blob's sigma is as wide as keeps it smooth at either size.
    """
    sigma = 2.5 * max(1, min(size) / side)
    for part in ((0.45, 0.5), (0.52, 0.41), (0.5, 0.63)):
        centre = np.multiply(part, size)
        x, y = np.meshgrid(*(np.arange(n) + 0.5 for n in size))
        blob = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))
        original = Image.fromarray(np.uint8(np.round(255 * blob))).convert("RGB")
        image = np.asarray(cub_prepare.resize(original, side))
        shape = np.array([image.shape[:2]], np.int32)
        birds = Birds(image.ravel(), np.array([0]), shape, np.array([0]), np.array([1]))
        seen = cub_views.read_central(np.array([0]), birds, crop=crop).image[0, :, :, 0]
        weights = seen.astype(float) / seen.sum()
        axis = (np.arange(crop) + 0.5) * 2 / crop - 1  # centres of the crop's pixels
        measured = [weights.sum(axis=0) @ axis, weights.sum(axis=1) @ axis]
        found = cub_parts.locate(annotations(centre, size), shape, crop=crop).part[0, 1]
        pixel = 2 / crop
        assert np.abs(found - measured).max() < 0.06 * pixel


def test_regions():
    head, body = cub_parts.are_of("head"), cub_parts.are_of("body")
    assert head.sum() == 7 and (head != body).all()
    assert [name for name, of in zip(PARTS, head, strict=True) if of] == [
        "beak", "crown", "forehead", "left eye", "nape", "right eye", "throat",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no region 'feet'; there are body, head"):
        cub_parts.are_of("feet")
