"""Fixtures of the networks' tests."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stn_jax.models import layers


@pytest.fixture
def numpy_weights(monkeypatch):
    """Draw the initial weights in NumPy: JAX compiles for a second for each network's."""
    rng = np.random.default_rng(0)

    def he_normal(key, shape, dtype=jnp.float32):
        scale = np.sqrt(2 / np.prod(shape[:-1]))
        return jnp.asarray(rng.normal(scale=scale, size=shape), dtype)

    monkeypatch.setattr(layers, "he_normal", he_normal)


@pytest.fixture
def dropouts(monkeypatch):
    """List the rate and the shape of what each dropout is called with, and drop nothing."""
    seen = []

    def note(self, x, *, rngs=None):
        seen.append((self.rate, x.shape))
        return x

    monkeypatch.setattr(nnx.Dropout, "__call__", note)
    return seen
