"""Co-localisation's sets of images (C5, C6, C7)."""

import functools

import jax
import numpy as np
import pytest

from stn_jax.data.colocalisation import CANVASES, draw_set, ink_box

RNG = np.random.default_rng(0)
# Every digit has a value of its own at its centre and is black at the edges; clutter is darker.
MEMBERS = np.zeros((40, 28, 28, 1), np.uint8)
MEMBERS[:, 6:22, 9:19] = RNG.integers(128, 200, (40, 16, 10, 1))
MEMBERS[:, 14, 14, 0] = 200 + np.arange(40)
CLUTTER = RNG.integers(1, 100, (60, 28, 28, 1)).astype(np.uint8)
INDEX = np.arange(40)


@functools.cache
def drawer(canvas, count):
    return jax.jit(functools.partial(draw_set, canvas=CANVASES[canvas], count=count))


@functools.cache
def image_set(canvas, seed=0, count=30):
    result = drawer(canvas, count)(jax.random.key(seed), MEMBERS, INDEX, CLUTTER)
    return jax.tree.map(np.asarray, result)


def pasted(images, n):
    """Return what lies in the square of image n, as grey values."""
    left, top, right, bottom = images.square[n].astype(int)
    assert (right - left, bottom - top) == (28, 28)
    return np.rint(255 * images.image[n, top:bottom, left:right, 0]).astype(int)


def chosen(images):
    return [pasted(images, n)[14, 14] - 200 for n in range(len(images.image))]


def test_t_is_a_digit_each_on_black():
    images = image_set("T")
    assert images.image.shape == (30, 84, 84, 1) and images.image.dtype == np.float32
    for n, member in enumerate(chosen(images)):
        np.testing.assert_array_equal(pasted(images, n), MEMBERS[member, :, :, 0])
        rest = images.image[n].sum() - MEMBERS[member].sum() / 255
        assert abs(rest) < 1e-3


def test_no_digit_comes_twice():
    members = chosen(image_set("T"))
    assert len(set(members)) == 30


def test_places_are_uniform_over_the_canvas():
    corners = np.concatenate([image_set("T", seed).square[:, :2] for seed in range(40)])
    assert corners.min() == 0 and corners.max() == 56
    # Of 1,200 draws of a uniform law on 0 to 56: 4 standard deviations.
    assert np.abs(corners.mean(0) - 28).max() < 4 * np.sqrt((57**2 - 1) / 12 / len(corners))
    assert abs(np.corrcoef(corners.T)[0, 1]) < 4 / np.sqrt(len(corners))


def test_tc_is_t_with_sixteen_patches_of_clutter_on_top():
    plain, cluttered = image_set("T"), image_set("TC")
    np.testing.assert_array_equal(plain.square, cluttered.square)
    assert (cluttered.image >= plain.image).all()
    black = plain.image == 0
    added = (cluttered.image > 0) & black
    counts = added.sum(axis=(1, 2, 3))
    # Patches overlap each other and the digit now and then, and never leave the canvas.
    assert counts.max() <= 16 * 36
    assert 12 * 36 < counts.mean() < 16 * 36
    assert cluttered.image[black].max() < 100 / 255 + 1e-6


def test_ink_is_the_box_around_what_is_not_black():
    images = image_set("T")
    np.testing.assert_array_equal(images.ink - images.square, np.tile([9, 6, -9, -6], (30, 1)))


def test_ink_box_against_argwhere():
    for seed in range(5):
        image = np.random.default_rng(seed).uniform(size=(9, 12)) > 0.9
        places = np.argwhere(image)
        (top, left), (bottom, right) = places.min(0), places.max(0) + 1
        np.testing.assert_array_equal(ink_box(image.astype(np.float32)), [left, top, right, bottom])


def test_a_key_gives_one_set_and_another_key_another():
    first, other = image_set("TC", 0), image_set("TC", 1)
    again = image_set.__wrapped__("TC", 0)  # drawn, not remembered
    np.testing.assert_array_equal(first.image, again.image)
    assert np.abs(first.image - other.image).max() > 0.5


def test_too_few_digits():
    with pytest.raises(ValueError, match="41 images needs as many digits, got 40"):
        image_set("T", count=41)
