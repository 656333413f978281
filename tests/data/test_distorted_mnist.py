import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from stn_jax.data.distorted_mnist import (
    TEST_KEY,
    Labelled,
    fixed_keys,
    fixed_set,
    training_batch,
)
from stn_jax.data.distortions import DISTORTIONS

BATCH = 300


def coded_digits(count=20):
    """Return digits of one grey value each, which tells the label."""
    label = np.arange(count, dtype=np.int32)
    values = (10 * label + 30).astype(np.uint8)
    return Labelled(np.tile(values[:, None, None, None], (1, 28, 28, 1)), label)


def decode(images):
    """Read the labels back from the centre that a rotation leaves in place."""
    return np.rint((255 * np.asarray(images)[..., 14, 14, 0] - 30) / 10).astype(int)


def random_digits(count=20):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 28, 28, 1), np.uint8)
    return Labelled(images, rng.integers(0, 10, count).astype(np.int32))


# Compiling takes most of the time: tests share shapes.
@functools.partial(jax.jit, static_argnums=0)
def compiled(name, key, digits):
    return training_batch(key, digits, distortion=DISTORTIONS[name], batch_size=BATCH)


def draw_batch(name, digits, *, seed=0):
    return jax.tree.map(np.asarray, compiled(name, jax.random.key(seed), digits))


def test_training_images_have_their_labels():
    image, label = draw_batch("R", coded_digits())
    assert image.shape == (BATCH, 28, 28, 1) and image.dtype == np.float32
    assert label.shape == (BATCH,) and label.dtype == np.int32
    assert len(np.unique(label)) == 20
    np.testing.assert_array_equal(decode(image), label)


def test_training_digits_are_drawn_uniformly_with_replacement():
    labels = np.stack([draw_batch("R", coded_digits(), seed=seed).label for seed in range(20)])
    counts = np.bincount(labels.ravel(), minlength=20)
    assert counts.size == 20 and scipy.stats.chisquare(counts).pvalue > 1e-3
    repeated = (labels[:, 1:] == labels[:, :-1]).mean()
    assert 0.04 < repeated < 0.06  # 1 in 20


def test_keys_decide_the_training_batch_and_every_distortion_in_it():
    digits = random_digits()
    batch, again, other = (draw_batch("R", digits, seed=seed) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, batch, again)
    assert (batch.label != other.label).any()
    images = np.concatenate([batch.image, other.image]).reshape(2 * BATCH, -1)
    assert len(np.unique(images, axis=0)) == 2 * BATCH


def test_training_batches_of_seeds_can_be_vmapped():
    digits = coded_digits()
    keys = jnp.stack([jax.random.key(seed) for seed in range(3)])
    together = jax.jit(jax.vmap(functools.partial(compiled, "TC"), (0, None)))(keys, digits)
    for seed in range(3):
        alone = draw_batch("TC", digits, seed=seed)
        np.testing.assert_array_equal(together.label[seed], alone.label)
        np.testing.assert_allclose(together.image[seed], alone.image, atol=1e-5)


def test_a_training_digit_never_clutters_itself():
    image, label = draw_batch("TC", coded_digits())
    values = np.rint(255 * image[..., 0]).astype(int)
    clutter = 0
    for canvas, own in zip(values, 10 * label + 30, strict=True):
        # All that is of its own value lies in one box of the digit's size.
        rows, cols = np.nonzero(canvas == own)
        assert np.ptp(rows) <= 27 and np.ptp(cols) <= 27
        assert rows.size >= 28 * 28 - 6 * 36
        clutter += np.count_nonzero((canvas != own) & (canvas != 0))
    assert clutter > 3 * 36 * BATCH


def test_fixed_set_is_every_digit_once_whatever_the_chunk_and_the_selection():
    digits, clutter = random_digits(8), random_digits(5).image
    draw = functools.partial(fixed_set, digits, clutter, distortion=DISTORTIONS["TC"])
    whole = draw()
    assert whole.image.shape == (8, 60, 60, 1) and whole.image.dtype == jnp.float32
    np.testing.assert_array_equal(whole.label, digits.label)
    parts = draw(chunk=4)
    np.testing.assert_array_equal(parts.label, digits.label)
    np.testing.assert_allclose(parts.image, whole.image, atol=1e-5)
    chosen = np.array([6, 1, 5, 6])
    some = draw(index=chosen)
    np.testing.assert_array_equal(some.label, digits.label[chosen])
    np.testing.assert_allclose(some.image, np.asarray(whole.image)[chosen], atol=1e-5)


def test_fixed_set_has_its_labels_and_a_key_of_its_own_for_each_digit():
    digits = coded_digits()
    test = fixed_set(digits, digits.image, distortion=DISTORTIONS["R"])
    np.testing.assert_array_equal(decode(test.image), test.label)
    np.testing.assert_array_equal(test.label, digits.label)

    index = np.arange(20, dtype=np.int32)
    keys = fixed_keys(index)
    assert all(keys[i] == jax.random.fold_in(jax.random.key(TEST_KEY), i) for i in (0, 1, 19))
    images = digits.image.astype(np.float32) / 255
    distort = jax.jit(lambda *args: DISTORTIONS["R"](*args, digits=digits.image, own=index))
    np.testing.assert_allclose(test.image, distort(keys, images), atol=1e-5)
    assert len(np.unique(jax.random.key_data(keys), axis=0)) == 20


def test_fixed_set_takes_its_clutter_from_the_training_digits():
    """D7: also where there are fewer of them than test digits."""
    digits = Labelled(np.zeros((30, 28, 28, 1), np.uint8), np.zeros(30, np.int32))
    clutter = np.tile(np.array([51, 102, 153], np.uint8)[:, None, None, None], (1, 28, 28, 1))
    test = fixed_set(digits, clutter, distortion=DISTORTIONS["TC"])
    values, counts = np.unique(np.rint(255 * np.asarray(test.image)), return_counts=True)
    np.testing.assert_array_equal(values, [0, 51, 102, 153])
    assert 30 * 6 * 36 * 0.8 < counts[1:].sum() <= 30 * 6 * 36
