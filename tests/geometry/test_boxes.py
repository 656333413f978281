"""Attention transforms as boxes (C2), and their overlap (C11)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stn_jax import geometry

CONVENTIONS = pytest.mark.parametrize("align_corners", [True, False])


@CONVENTIONS
def test_the_identity_crops_the_whole_image(align_corners):
    box = geometry.attention_to_box(
        np.float32([[1, 0, 0]]), (9, 12), (9, 12), align_corners=align_corners
    )
    np.testing.assert_allclose(box, [[0, 0, 12, 9]], atol=1e-5)


@CONVENTIONS
@pytest.mark.parametrize(("left", "top"), [(0, 0), (56, 20), (13, 56)])
def test_the_transform_of_a_pasted_square_samples_exactly_its_pixels(left, top, align_corners):
    rng = np.random.default_rng(0)
    square = rng.uniform(size=(28, 28)).astype(np.float32)
    image = np.zeros((1, 84, 84, 1), np.float32)
    image[0, top : top + 28, left : left + 28, 0] = square
    box = np.float32([[left, top, left + 28, top + 28]])
    theta = geometry.box_to_attention(box, (28, 28), (84, 84), align_corners=align_corners)
    grid = geometry.attention_grid(theta, (28, 28), align_corners=align_corners)
    crop = geometry.sample(image, grid, align_corners=align_corners)
    np.testing.assert_allclose(crop[0, ..., 0], square, atol=1e-4)


@CONVENTIONS
def test_boxes_and_transforms_are_each_other_s_inverse(align_corners):
    rng = np.random.default_rng(1)
    theta = np.float32(rng.uniform([0.1, -1, -1], [1, 1, 1], (2, 5, 3)))
    shapes = (28, 28), (84, 84)
    box = geometry.attention_to_box(theta, *shapes, align_corners=align_corners)
    assert box.shape == (2, 5, 4)
    back = geometry.box_to_attention(box, *shapes, align_corners=align_corners)
    np.testing.assert_allclose(back, theta, atol=1e-5)


def test_a_scale_below_zero_crops_the_same_box():
    theta = np.float32([[0.3, 0.2, -0.1], [-0.3, 0.2, -0.1]])
    box = geometry.attention_to_box(theta, (5, 5), (20, 30))
    np.testing.assert_array_equal(box[0], box[1])
    assert (box[:, :2] < box[:, 2:]).all()


def test_overlap_against_counted_pixels():
    rng = np.random.default_rng(2)
    corners = rng.integers(0, 15, (400, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 12, (400, 2))], axis=-1)
    rows, cols = np.mgrid[:30, :30]

    def filled(box):
        left, top, right, bottom = box
        return (left <= cols) & (cols < right) & (top <= rows) & (rows < bottom)

    expected = []
    for a, b in boxes.reshape(200, 2, 4):
        a, b = filled(a), filled(b)
        expected.append((a & b).sum() / (a | b).sum())
    first, second = boxes.astype(np.float32).reshape(200, 2, 4).swapaxes(0, 1)
    actual = geometry.intersection_over_union(first, second)
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    assert 0 in expected and max(expected) > 0.4


def test_overlap_is_symmetric_and_one_with_itself():
    a, b = np.float32([[0, 0, 3, 2]]), np.float32([[1, 1, 5, 4]])
    overlap = geometry.intersection_over_union
    assert overlap(a, b) == overlap(b, a) == pytest.approx(2 / 16)
    assert overlap(a, a) == 1


def test_jit_equals_eager():
    theta = jnp.float32([[0.3, 0.2, -0.1]])
    jitted = jax.jit(lambda t: geometry.attention_to_box(t, (28, 28), (84, 84)))
    np.testing.assert_allclose(
        jitted(theta), geometry.attention_to_box(theta, (28, 28), (84, 84)), rtol=1e-6
    )


def test_the_box_around_points_is_cut_off_at_the_image():
    whole = [[0, 0], [40, 0], [0, 20], [40, 20]]
    found = geometry.bounding_box(np.float32([whole]), (21, 41))
    np.testing.assert_allclose(found, [[0, 0, 41, 21]])
    turned = np.float32([[[20, 5], [30, 10], [20, 15], [10, 10]]])
    np.testing.assert_allclose(geometry.bounding_box(turned, (21, 41)), [[10, 5, 31, 16]])
    half_outside = np.float32(whole) + np.float32([20, -10])
    np.testing.assert_allclose(geometry.bounding_box(half_outside, (21, 41)), [20, 0, 41, 11])
    outside = geometry.bounding_box(np.float32(whole) + 100, (21, 41))
    np.testing.assert_allclose(outside, [41, 21, 41, 21])


def test_empty_boxes_share_nothing():
    empty, square = np.float32([3, 3, 3, 5]), np.float32([0, 0, 2, 2])
    for a, b in ((empty, empty), (empty, square), (square, empty)):
        assert geometry.intersection_over_union(a, b) == 0
    slope = jax.grad(lambda b: geometry.intersection_over_union(b, empty))(jnp.asarray(empty))
    assert np.isfinite(slope).all()


def test_whole_pixels_will_do():
    assert geometry.intersection_over_union([0, 0, 2, 2], [0, 1, 2, 3]) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: geometry.attention_to_box([1.0, 0, 0], (1, 1), (4, 4)), "crop needs 2x2 pixels"),
        (lambda: geometry.attention_to_box([1.0, 0], (2, 2), (4, 4)), r"must be \[..., 3\], got"),
        (lambda: geometry.box_to_attention([0, 0, 2], (2, 2), (4, 4)), r"must be \[..., 4\], got"),
        (lambda: geometry.box_to_attention([0, 0, 2, 2], (2, 2), (1, 4)), "image needs 2x2 pixels"),
        (lambda: geometry.bounding_box([0, 0], (2, 2)), r"must be \[..., N, 2\], got \[2\]"),
        (lambda: geometry.intersection_over_union([1, 2], [1, 2]), r"must be \[..., 4\], got"),
    ],
)
def test_what_has_no_box_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
