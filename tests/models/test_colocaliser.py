"""Co-localisation's networks and loss (C1, C2, C3, C8, C9)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

from stn_jax import geometry
from stn_jax.models.colocaliser import (
    VIEWS,
    Colocaliser,
    Encoder,
    descriptor,
    triplet_hinge,
    turn,
    turn_back,
)
from stn_jax.models.mnist import CNN
from stn_jax.models.pure import count_params, functional

SCALES = {"initial_scale": 0.5, "min_scale": 0.2, "max_scale": 0.9, "scale_rate": 0.5}


def colocaliser(**options):
    return Colocaliser((84, 84, 1), **SCALES | options, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(("stride", "count"), [(4, 5_947), (1, 93_179)])
def test_the_layers_of_a2_have_fewer_parameters_than_its_text_says(stride, count):
    build = functional(lambda rngs: Colocaliser((84, 84, 1), stride=stride, **SCALES, rngs=rngs))
    params, _ = jax.eval_shape(build.init, jax.random.key(0))
    assert count_params(params) == count


def test_every_image_starts_with_the_same_box_in_the_middle():
    images = np.random.default_rng(0).uniform(size=(3, 84, 84, 1)).astype(np.float32)
    np.testing.assert_allclose(colocaliser()(images), np.tile([0.5, 0, 0], (3, 1)), atol=1e-6)


@pytest.mark.parametrize("size", [1.0, 100.0])
def test_boxes_stay_on_the_image_and_between_the_scales(size):
    module = colocaliser()
    kernel = size * jax.random.normal(jax.random.key(1), module.regression.kernel.shape)
    module.regression.kernel[...] = kernel
    images = np.random.default_rng(0).uniform(size=(20, 84, 84, 1)).astype(np.float32)
    scale, *shift = np.asarray(module(images)).T
    assert np.abs(scale - 0.5).max() > 0.05
    assert scale.min() >= 0.2 - 1e-6 and scale.max() <= 0.9 + 1e-6
    assert np.all(np.abs(shift) + scale <= 1 + 1e-6)


@pytest.mark.parametrize(
    "scales",
    [{"initial_scale": 0.1}, {"initial_scale": 1.0}, {"min_scale": 0.0}, {"max_scale": 1.1}],
)
def test_impossible_scales(scales):
    with pytest.raises(ValueError, match="0 < min_scale < initial_scale < max_scale <= 1, got"):
        colocaliser(**scales)


def test_the_eight_views_are_numpy_s_turns_and_mirrorings():
    image = np.random.default_rng(0).uniform(size=(5, 5, 2)).astype(np.float32)
    views = turn(np.tile(image, (8, 1, 1, 1)), VIEWS)
    expected = [np.rot90(i, k) for i in (image, image[::-1]) for k in range(4)]
    np.testing.assert_array_equal(views[0], image)
    assert {np.asarray(v).tobytes() for v in views} == {e.tobytes() for e in expected}


def test_a_view_s_transform_turned_back_crops_the_same():
    rng = np.random.default_rng(0)
    image = rng.uniform(size=(1, 20, 20, 1)).astype(np.float32)
    images = jnp.tile(image, (8, 1, 1, 1))
    theta = jnp.stack([rng.uniform(0.2, 0.9, 8), *rng.uniform(-0.5, 0.5, (2, 8))], axis=-1)

    def crop(images, theta):
        return geometry.sample(images, geometry.attention_grid(theta.astype(jnp.float32), (7, 7)))

    of_views = crop(turn(images, VIEWS), theta)
    np.testing.assert_allclose(
        turn(crop(images, turn_back(theta, VIEWS)), VIEWS), of_views, atol=1e-5
    )


def test_the_encoder_has_both_hidden_layers_and_the_logits():
    classifier = CNN((28, 28, 1), width=4, rngs=nnx.Rngs(0))
    images = np.random.default_rng(0).uniform(size=(2, 28, 28, 1)).astype(np.float32)
    first, second, logits = jax.jit(lambda x: Encoder(classifier)(x))(images)
    assert first.shape == (2, 10 * 10 * 4) and second.shape == (2, 2 * 2 * 4)
    assert min(first.min(), second.min()) >= 0
    whole = jax.jit(lambda x: classifier(x))(images)
    np.testing.assert_allclose(logits, whole, rtol=1e-6)
    # The second layer's output is all that the last one reads.
    np.testing.assert_allclose(classifier.classifier(second), logits, rtol=1e-5, atol=1e-5)


def test_layers_of_a_descriptor_weigh_the_same():
    rng = np.random.default_rng(0)
    weights = [size * rng.normal(size=(9, width)) for size, width in ((100, 50), (1, 3), (7, 20))]

    def activations(x):
        return [x.reshape(-1, 9) @ w.astype(np.float32) for w in weights]

    images = rng.normal(size=(40, 3, 3, 1)).astype(np.float32)
    descriptors = descriptor(activations, images)(images)
    assert descriptors.shape == (40, 73)
    parts = np.split(np.asarray(descriptors) ** 2, [50, 53], axis=1)
    np.testing.assert_allclose([part.sum(1).mean() for part in parts], 1 / 3, rtol=1e-5)


def literal_loss(found, others, random, margin):
    """Eq. 8 as it is written, for each n, over the number of pairs."""
    count, values = len(found), []
    for n in range(count):
        total = 0.0
        for m in range(count):
            if m != n:
                to_other = sum((found[n] - others[m]) ** 2)
                to_random = sum((found[n] - random[n]) ** 2)
                total += max(0.0, to_other - to_random + margin)
        values.append(total / (count - 1))
    return values


@pytest.mark.parametrize("margin", [0.0, 1.0, 30.0])
def test_the_loss_against_eq_8(margin):
    found, others, random = np.random.default_rng(0).normal(size=(3, 6, 4))
    expected = literal_loss(found, others, random, margin)
    actual = triplet_hinge(*map(jnp.float32, (found, others, random)), margin=margin)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    if margin == 1:
        pairs = [max(0, v) for v in expected]
        assert min(pairs) < max(pairs)


def test_the_loss_is_zero_when_all_are_apart_by_the_margin():
    found = jnp.zeros((5, 3))
    assert triplet_hinge(found, found, found + 1, margin=2.9).sum() == 0
    np.testing.assert_allclose(triplet_hinge(found, found, found + 1, margin=3.5), 0.5)


def test_gradients_of_the_loss_are_the_numeric_ones():
    arrays = np.random.default_rng(1).normal(size=(3, 5, 4)).astype(np.float32)
    check_grads(lambda *a: triplet_hinge(*a).sum(), tuple(arrays), 1, ["rev"], atol=2e-2, rtol=2e-2)
