import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from stn_jax.data.distorted_mnist import (
    TEST_KEY,
    Labelled,
    fixed_keys,
    fixed_set,
    training_batch,
)
from stn_jax.data.distortions import DISTORTIONS

# Compiling takes seconds: these stand for the similarities, the homographies and the clutter.
some_distortions = pytest.mark.parametrize("name", ["RTS", "P", "TC"])


def coded_digits(count=20):
    """Return digits of one grey value each, which tells the label."""
    label = np.arange(count, dtype=np.int32)
    values = (10 * label + 30).astype(np.uint8)
    return Labelled(np.tile(values[:, None, None, None], (1, 28, 28, 1)), label)


def decode(images):
    """Read the labels back from the centre that a rotation leaves in place."""
    return np.rint((255 * np.asarray(images)[..., 14, 14, 0] - 30) / 10).astype(int)


def random_digits(count, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 28, 28, 1), np.uint8)
    return Labelled(images, rng.integers(0, 10, count).astype(np.int32))


def draw_batch(key, digits, name="R", batch_size=64):
    def draw(key, digits):
        return training_batch(key, digits, distortion=DISTORTIONS[name], batch_size=batch_size)

    return jax.jit(draw)(key, digits)


def test_training_images_have_their_labels():
    digits = coded_digits()
    batch = draw_batch(jax.random.key(0), digits, batch_size=500)
    assert batch.image.shape == (500, 28, 28, 1) and batch.image.dtype == jnp.float32
    assert batch.label.shape == (500,) and batch.label.dtype == jnp.int32
    np.testing.assert_array_equal(decode(batch.image), batch.label)


def test_training_digits_are_drawn_uniformly_with_replacement():
    labels = draw_batch(jax.random.key(0), coded_digits(), batch_size=4000).label
    counts = np.bincount(labels, minlength=20)
    assert counts.size == 20 and scipy.stats.chisquare(counts).pvalue > 1e-3
    repeated = np.asarray(labels[1:] == labels[:-1]).mean()
    assert 0.03 < repeated < 0.07  # 1 in 20


def test_keys_decide_the_training_batch():
    digits = random_digits(50)
    batch, again = (draw_batch(jax.random.key(0), digits) for _ in range(2))
    other = draw_batch(jax.random.key(1), digits)
    np.testing.assert_array_equal(batch.image, again.image)
    np.testing.assert_array_equal(batch.label, again.label)
    assert (np.asarray(batch.label) != other.label).any()
    assert np.abs(batch.image - other.image).max(axis=(1, 2, 3)).min() > 0.1


def test_each_training_example_is_distorted_afresh():
    digits = random_digits(1)
    images = np.asarray(draw_batch(jax.random.key(0), digits, batch_size=50).image)
    assert len(np.unique(images.reshape(50, -1), axis=0)) == 50


@some_distortions
def test_training_batches_of_seeds_can_be_vmapped(name):
    digits, keys = random_digits(9), jax.random.split(jax.random.key(2), 3)

    def draw(key):
        return training_batch(key, digits, distortion=DISTORTIONS[name], batch_size=4)

    digits = Labelled(*map(jnp.asarray, digits))
    together, alone = jax.jit(jax.vmap(draw))(keys), jax.jit(draw)
    for i, key in enumerate(keys):
        batch = alone(key)
        np.testing.assert_array_equal(together.label[i], batch.label)
        np.testing.assert_allclose(together.image[i], batch.image, atol=1e-5)


def test_a_training_digit_never_clutters_itself():
    digits = coded_digits(3)
    batch = draw_batch(jax.random.key(0), digits, "TC", batch_size=300)
    values = np.rint(255 * np.asarray(batch.image)).astype(int)
    for label in range(3):
        images = values[batch.label == label]
        own = 10 * label + 30
        assert set(np.unique(images)) == {0, 30, 40, 50}
        # All that is of its own value lies in one box of the digit's size.
        for image in images[..., 0]:
            rows, cols = np.nonzero(image == own)
            assert np.ptp(rows) <= 27 and np.ptp(cols) <= 27
            assert rows.size > 28 * 28 - 6 * 36 - 1


@some_distortions
def test_fixed_set_is_every_digit_once_whatever_the_chunk(name):
    digits, clutter = random_digits(8), random_digits(5, seed=1).image
    whole = fixed_set(digits, clutter, distortion=DISTORTIONS[name])
    assert whole.image.shape == (8, *DISTORTIONS[name].image_shape)
    assert whole.image.dtype == jnp.float32
    np.testing.assert_array_equal(whole.label, digits.label)
    parts = fixed_set(digits, clutter, distortion=DISTORTIONS[name], chunk=4)
    np.testing.assert_array_equal(parts.label, digits.label)
    np.testing.assert_allclose(parts.image, whole.image, atol=1e-5)


def test_fixed_set_has_a_key_of_its_own_for_each_digit():
    digits = coded_digits()
    test = fixed_set(digits, digits.image, distortion=DISTORTIONS["RTS"])
    index = np.arange(20, dtype=np.int32)
    key = jax.random.key(TEST_KEY)
    keys = fixed_keys(index)
    assert all(keys[i] == jax.random.fold_in(key, i) for i in (0, 1, 19))
    images = digits.image.astype(np.float32) / 255
    distort = jax.jit(lambda *args: DISTORTIONS["RTS"](*args, digits=digits.image, own=index))
    np.testing.assert_allclose(test.image, distort(keys, images), atol=1e-5)
    support = np.asarray(test.image).reshape(20, -1) > 0
    assert len(np.unique(support, axis=0)) == 20


def test_fixed_set_of_some_digits_has_them_as_the_whole_set_does():
    digits = random_digits(8)
    whole, some = (
        fixed_set(digits, digits.image, distortion=DISTORTIONS["TC"], index=index, chunk=4)
        for index in (None, [6, 1, 5, 6])
    )
    np.testing.assert_array_equal(some.label, digits.label[[6, 1, 5, 6]])
    np.testing.assert_allclose(some.image, whole.image[np.array([6, 1, 5, 6])], atol=1e-5)


def test_fixed_set_images_have_their_labels():
    digits = coded_digits()
    test = fixed_set(digits, digits.image, distortion=DISTORTIONS["R"], chunk=7)
    np.testing.assert_array_equal(decode(test.image), test.label)


def test_fixed_set_takes_its_clutter_from_the_training_digits():
    """D7: also where there are fewer of them than test digits."""
    digits = Labelled(np.zeros((30, 28, 28, 1), np.uint8), np.zeros(30, np.int32))
    clutter = np.tile(np.array([51, 102, 153], np.uint8)[:, None, None, None], (1, 28, 28, 1))
    test = fixed_set(digits, clutter, distortion=DISTORTIONS["TC"])
    values, counts = np.unique(np.rint(255 * np.asarray(test.image)), return_counts=True)
    np.testing.assert_array_equal(values, [0, 51, 102, 153])
    assert 30 * 6 * 36 * 0.8 < counts[1:].sum() <= 30 * 6 * 36
