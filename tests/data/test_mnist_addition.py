"""MNIST addition's pairs (A1, A2)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from stn_jax.data.distorted_mnist import Labelled, fixed_keys
from stn_jax.data.distortions import DISTORTIONS
from stn_jax.data.mnist_addition import NUM_CLASSES, fixed_pairs, fixed_set, training_batch

RTS = DISTORTIONS["RTS"]
BATCH = 1000


def squares():
    """Digits that are squares of one grey value each, which tells the label, 0 to 9."""
    label = np.arange(10, dtype=np.int32)
    values = (20 * label + 60).astype(np.uint8)
    return Labelled(np.tile(values[:, None, None, None], (1, 28, 28, 1)), label)


def decode(images):
    """Read the labels [N, 2] back."""
    return np.rint((255 * np.asarray(images).max(axis=(1, 2)) - 60) / 20).astype(int)


@functools.cache
def batch(seed):
    draw = functools.partial(training_batch, distortion=RTS, batch_size=BATCH)
    return jax.tree.map(np.asarray, jax.jit(draw)(jax.random.key(seed), squares()))


@functools.cache
def poses():
    """The centres [N, 2, 2] and areas [N, 2] of the squares of some batches, in pixels."""
    images = np.concatenate([batch(seed).image for seed in range(4)])
    ink = images / images.max(axis=(1, 2), keepdims=True)
    area = ink.sum(axis=(1, 2))
    y, x = np.mgrid[:42, :42] - 20.5
    centre = [np.einsum("nhwc,hw->nc", ink, axis) / area for axis in (x, y)]
    return np.stack(centre, axis=-1), area


def test_labels_are_the_sums_of_the_channels():
    image, label = batch(0)
    assert image.shape == (BATCH, 42, 42, 2) and image.dtype == np.float32
    assert label.shape == (BATCH,) and label.dtype == np.int32
    np.testing.assert_array_equal(decode(image).sum(axis=1), label)
    assert NUM_CLASSES == len(set(label)) == 19


def test_sums_of_independent_uniform_digits_have_the_triangular_law():
    labels = np.concatenate([batch(seed).label for seed in range(4)])
    expected = np.array([10 - abs(total - 9) for total in range(19)]) / 100
    counts = np.bincount(labels, minlength=19)
    assert scipy.stats.chisquare(counts, labels.size * expected).pvalue > 1e-3
    first, second = np.concatenate([decode(batch(seed).image) for seed in range(4)]).T
    pairs = np.bincount(10 * first + second, minlength=100)
    assert scipy.stats.chisquare(pairs).pvalue > 1e-3


def test_channels_are_distorted_apart():
    """Each has the poses of RTS, and they are uncorrelated."""
    centre, area = poses()
    scale = np.sqrt(area) / 28
    for channel in (0, 1):
        assert scale[:, channel].min() == pytest.approx(0.7, abs=0.03)
        assert scale[:, channel].max() == pytest.approx(1.2, abs=0.03)
        assert np.abs(centre[:, channel]).max() > 9
    for first in (scale[:, 0], *centre[:, 0].T):
        for second in (scale[:, 1], *centre[:, 1].T):
            assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(len(first))


def test_keys_decide_the_batch():
    again = jax.tree.map(np.asarray, batch.__wrapped__(0))
    jax.tree.map(np.testing.assert_array_equal, batch(0), again)
    assert np.abs(batch(0).image - batch(1).image).max() > 0.1
    channels = np.moveaxis(batch(0).image, -1, 0).reshape(2 * BATCH, -1)
    assert len(np.unique(channels, axis=0)) == 2 * BATCH


# The test set.


def random_digits(count=30):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 28, 28, 1), np.uint8)
    return Labelled(images, rng.integers(0, 10, count).astype(np.int32))


@pytest.mark.parametrize("count", [2, 3, 30, 10_000])
def test_every_digit_is_once_in_either_channel_and_never_with_itself(count):
    first, second = np.asarray(fixed_pairs(count)).T
    np.testing.assert_array_equal(first, np.arange(count))
    np.testing.assert_array_equal(np.sort(second), np.arange(count))
    assert np.all(first != second)
    if count > 100:
        assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(count)
        assert len(np.unique(np.sort([first, second], axis=0), axis=1).T) == count


def test_fixed_set_against_direct_construction():
    digits = random_digits()
    test = fixed_set(digits, digits.image, distortion=RTS)
    assert test.image.shape == (30, 42, 42, 2) and test.image.dtype == jnp.float32
    distort = jax.jit(lambda *args: RTS(*args, digits=digits.image, own=jnp.arange(30)))
    for channel, index in enumerate(np.asarray(fixed_pairs(30)).T):
        images = digits.image[index].astype(np.float32) / 255
        expected = distort(fixed_keys(jnp.asarray(index)), images)
        np.testing.assert_allclose(test.image[..., channel], expected[..., 0], atol=1e-5)
    first, second = np.asarray(fixed_pairs(30)).T
    np.testing.assert_array_equal(test.label, digits.label[first] + digits.label[second])


def test_fixed_set_is_the_same_whatever_the_chunk_and_the_selection():
    digits = random_digits()
    draw = functools.partial(fixed_set, digits, digits.image, distortion=RTS)
    whole, parts, some = draw(), draw(chunk=10), draw(index=[7, 2, 29])
    np.testing.assert_array_equal(parts.label, whole.label)
    np.testing.assert_allclose(parts.image, whole.image, atol=1e-5)
    np.testing.assert_array_equal(some.label, np.asarray(whole.label)[[7, 2, 29]])
    np.testing.assert_allclose(some.image, np.asarray(whole.image)[[7, 2, 29]], atol=1e-5)


def test_poses_of_test_pairs_are_uncorrelated():
    drawn = [RTS.poses(fixed_keys(index)) for index in fixed_pairs(10_000).T]
    first, second = (
        np.column_stack([pose["angle"], pose["scale"], pose["centre"]]).T for pose in drawn
    )
    assert np.abs(np.corrcoef(first, second)[:4, 4:]).max() < 5 / np.sqrt(10_000)
