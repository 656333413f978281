"""Settings shared by all tests; must run before anything starts a JAX backend."""

import os

# Results on CPU are the same everywhere. Set JAX_PLATFORMS=cuda to test on a GPU.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402

# Silent rank promotion hides most broadcasting bugs.
jax.config.update("jax_numpy_rank_promotion", "raise")
