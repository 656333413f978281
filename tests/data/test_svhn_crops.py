import numpy as np
import pytest
import skimage.transform
from PIL import Image

from stn_jax.data import svhn_crops
from stn_jax.data.svhn import SIZES


def picture(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def test_the_region_is_the_box_around_all_digits_grown():
    box, problems = svhn_crops.digits_box([[10, 8, 6, 10], [18, 5, 12, 9]], (60, 40))
    assert box.tolist() == [10, 5, 30, 18] and not problems
    np.testing.assert_allclose(svhn_crops.grow(box, SIZES[64]), [7, 3.05, 33, 19.95])
    # The loose one has twice the tight one's width and height.
    np.testing.assert_allclose(svhn_crops.grow(box, SIZES[128]), [-6, -5.4, 46, 28.4])


@pytest.mark.parametrize(
    ("boxes", "expected", "problem"),
    [
        ([[-4, 2, 10, 10]], [0, 2, 6, 12], svhn_crops.CLIPPED),
        ([[30, 20, 30, 30]], [30, 20, 40, 30], svhn_crops.CLIPPED),
        ([[5, 5, 0, 9], [10, 5, 4, 9]], [10, 5, 14, 14], svhn_crops.EMPTY),
        ([[5, 5, 3, -9], [10, 5, 4, 9]], [10, 5, 14, 14], svhn_crops.EMPTY),
        ([[np.nan, 5, 3, 9], [10, 5, 4, 9]], [10, 5, 14, 14], svhn_crops.EMPTY),
        ([[40, 5, 3, 9], [10, 5, 4, 9]], [10, 5, 14, 14], svhn_crops.OUTSIDE),
        ([[5, -9, 3, 9], [10, 5, 4, 9]], [10, 5, 14, 14], svhn_crops.OUTSIDE),
        ([[40, 5, 3, 9]], [np.nan] * 4, svhn_crops.OUTSIDE),
        ([[4, 5, 0, 0]], [np.nan] * 4, svhn_crops.EMPTY),
    ],
)
def test_boxes_that_are_not_on_the_image(boxes, expected, problem):
    box, problems = svhn_crops.digits_box(boxes, (40, 30))
    np.testing.assert_array_equal(box, expected)
    assert problems == {problem}


@pytest.mark.parametrize("left", [-20, -5, 0, 9, 50])
@pytest.mark.parametrize("top", [-70, -5, 3, 30])
def test_a_region_of_whole_pixels_is_cut_out_and_filled_from_the_border(left, top):
    image = picture(50, 40)
    got = svhn_crops.crop(image, np.array([left, top, left + 64, top + 64.0]), size=64)
    padded = np.pad(np.asarray(image), ((100, 100), (100, 100), (0, 0)), "edge")
    np.testing.assert_array_equal(got, padded[100 + top : 164 + top, 100 + left : 164 + left])
    assert got.dtype == np.uint8


def test_a_region_of_thrice_the_size_is_averaged_with_a_triangle():
    """Bilinear and antialiased: weights (1 2 3 2 1) / 9 an axis, also across the crop's border."""
    image = picture(300, 260)
    got = svhn_crops.crop(image, np.array([30, 12, 222, 204.0]), size=64)
    weights = np.outer([1, 2, 3, 2, 1], [1, 2, 3, 2, 1]) / 81
    pixels = np.asarray(image).astype(float)
    for row, column in ((0, 0), (0, 63), (17, 40), (63, 63)):
        y, x = 12 + 3 * row, 30 + 3 * column
        expected = np.tensordot(weights, pixels[y - 1 : y + 4, x - 1 : x + 4], 2)
        np.testing.assert_allclose(got[row, column], expected, atol=1.01)


def test_enlarging_is_scikit_images_warp():
    image = picture(40, 30)
    region = np.array([-3.25, 4.5, 30.5, 33.0])
    got = svhn_crops.crop(image, region, size=64)
    scale = (region[2:] - region[:2]) / 64
    offset = region[:2] + scale / 2 - 0.5  # of pixel centres
    matrix = np.array([[scale[0], 0, offset[0]], [0, scale[1], offset[1]], [0, 0, 1]])
    expected = skimage.transform.warp(
        np.asarray(image), matrix, output_shape=(64, 64), order=1, mode="edge", preserve_range=True
    )
    np.testing.assert_allclose(got, expected, atol=1.5)


def test_a_region_beyond_the_image_is_told():
    assert not svhn_crops.reaches_out(np.array([0, 0, 40, 30.0]), (40, 30))
    for region in ([-0.1, 0, 40, 30], [0, -1, 40, 30], [0, 0, 40.1, 30], [0, 0, 40, 31]):
        assert svhn_crops.reaches_out(np.array(region), (40, 30))


@pytest.mark.parametrize("size", SIZES)
def test_boxes_are_where_the_digits_are_in_the_crop(size):
    """A white box on black: its edges, half-way up, are the box's."""
    pixels = np.zeros((90, 120, 3), np.uint8)
    pixels[30:58, 40:76] = 255
    box = np.array([40.0, 30, 76, 58])
    region = box + [-5, -9, 12, 30]
    crop = svhn_crops.crop(Image.fromarray(pixels), region, size=size)
    corners = svhn_crops.in_crop(box, region, size=size).reshape(2, 2)
    ink = crop[..., 0] / 255
    widths = np.array([ink[size // 3].sum(), ink[:, size // 3].sum()])
    np.testing.assert_allclose(corners[1] - corners[0], widths, atol=0.05)
    middles = np.arange(size) + 0.5
    centre = (ink.sum(0) @ middles, ink.sum(1) @ middles) / ink.sum()
    np.testing.assert_allclose(corners.mean(axis=0), centre, atol=0.02)


@pytest.mark.parametrize("size", SIZES)
def test_digits_fill_the_same_part_of_every_crop(size):
    rng = np.random.default_rng(0)
    for _ in range(5):
        corner, extent = rng.uniform(-20, 90, 2), rng.uniform(1, 80, 2)
        box = np.concatenate([corner, corner + extent])
        got = svhn_crops.in_crop(box, svhn_crops.grow(box, SIZES[size]), size=size)
        half = 32 / 1.3  # as many pixels at both sizes
        expected = size / 2 + np.array([-half, -half, half, half])
        np.testing.assert_allclose(got, expected, rtol=1e-6)
