"""Batches of traffic signs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.transform import SimilarityTransform, warp

from stn_jax.data.distorted_mnist import Labelled
from stn_jax.data.gtsrb_views import Jitter, training_batch

RNG = np.random.default_rng(0)
SIGNS = Labelled(
    jnp.asarray(RNG.integers(0, 255, (5, 12, 12, 3)), jnp.uint8), jnp.arange(5, dtype=jnp.int32)
)


def batch(seed=0, size=64, **jitter):
    draw = jax.jit(lambda key: training_batch(key, SIGNS, jitter=Jitter(**jitter), batch_size=size))
    return draw(jax.random.key(seed))


def test_without_jitter_images_are_as_they_were_published():
    """G1: no augmentation."""
    found = batch()
    np.testing.assert_array_equal(found.image, SIGNS.image[found.label].astype(jnp.float32) / 255)
    assert set(np.asarray(found.label)) == set(range(5))
    assert np.any(batch(seed=1).label != found.label)


def test_brightness_is_a_factor_within_its_bounds():
    found = batch(brightness=1.2, size=200)
    plain = np.asarray(SIGNS.image[found.label], np.float32) / 255
    inside = (plain > 0.1) & (plain < 0.8)
    factor = np.asarray(found.image)[inside] / plain[inside]
    assert 1 / 1.2 - 1e-3 <= factor.min() < 0.85 and 1.18 < factor.max() <= 1.2 + 1e-3
    np.testing.assert_allclose(found.image.max(), 1)


def test_motions_are_scikit_images(monkeypatch):
    """The corners of the bounds, in pixels about the middle of the image."""
    draws = np.float32([[1, 1, 1, -1, 0], [-1, -1, 0, 1, 0]])
    index = jnp.array([3, 1])
    monkeypatch.setattr(jax.random, "uniform", lambda *_, **__: jnp.asarray(draws))
    monkeypatch.setattr(jax.random, "randint", lambda *_, **__: index)
    jitter = Jitter(rotation=20, scale=1.25, shift=0.1)
    found = training_batch(jax.random.key(0), SIGNS, jitter=jitter, batch_size=2)
    middle = SimilarityTransform(translation=(-5.5, -5.5))
    for image, out, draw in zip(SIGNS.image[index], found.image, draws, strict=True):
        motion = SimilarityTransform(
            rotation=np.radians(20) * draw[0],
            scale=1.25 ** draw[1],
            translation=draw[2:4] * 0.1 * 12,
        )
        back = SimilarityTransform(translation=(5.5, 5.5))
        whole = middle + motion + back
        expected = warp(np.asarray(image) / 255, whole, order=1, mode="edge")
        np.testing.assert_allclose(out, expected, atol=1e-4)


@pytest.mark.parametrize("field", [{"rotation": -1}, {"shift": -0.1}, {"scale": 0.9}])
def test_bounds_that_make_no_sense_are_named(field):
    with pytest.raises(ValueError, match="must not be negative, scale and brightness are factors"):
        Jitter(**field)
