"""Losses and measurements, against literal loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from stn_jax.data.distorted_mnist import Labelled
from stn_jax.training.metrics import sequence_loss, sequence_measure

NULL = 3
# Lengths 2, 1, 4 and 3 of positions with ten digits' worth of classes: 0 to 2, and null.
LABEL = np.array([[0, 2, 3, 3], [1, 3, 3, 3], [2, 2, 0, 1], [0, 1, 2, 3]])
# All right; a digit too many; two of four digits wrong; one digit and the length wrong.
READ = np.array([[0, 2, 3, 3], [1, 0, 3, 3], [2, 1, 2, 1], [0, 0, 2, 1]])


def apply(params, state, image, train=False, key=None):
    return (image, {}), state


@pytest.fixture
def batch():
    logits = np.random.default_rng(0).normal(size=(4, 4, 4)).astype(np.float32)
    np.put_along_axis(logits, READ[..., None], 5.0, axis=-1)
    return Labelled(jnp.asarray(logits), jnp.asarray(LABEL))


def test_the_loss_is_the_sum_of_the_positions_cross_entropies(batch):
    """H16."""
    loss = jax.jit(sequence_loss(apply))
    value, (_, metrics) = loss({}, {}, batch, jax.random.key(0))
    scores = log_softmax(np.asarray(batch.image, np.float64), axis=-1)
    each = [-sum(scores[i, j, LABEL[i, j]] for j in range(4)) for i in range(4)]
    assert value == pytest.approx(np.mean(each), rel=1e-5)
    assert metrics["error"] == 75.0
    values = sequence_measure(apply, null_class=NULL, mean_length=2.5)({}, {}, batch)
    np.testing.assert_allclose(values["loss"], each, rtol=1e-5)


def test_a_sequence_is_right_if_every_digit_and_the_length_are(batch):
    """H18."""
    values = sequence_measure(apply, null_class=NULL, mean_length=2.5)({}, {}, batch)
    np.testing.assert_array_equal(values["error"], [0, 100, 100, 100])


def test_the_digit_error_counts_the_digits_of_the_set(batch):
    """Three of its ten digits are misread; what is read behind the end counts for the sequence."""
    values = sequence_measure(apply, null_class=NULL, mean_length=2.5)({}, {}, batch)
    assert np.mean(values["digit_error"]) == pytest.approx(100 * 3 / 10)
