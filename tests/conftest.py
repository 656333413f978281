"""Settings shared by all tests; must run before anything starts a JAX backend."""

import os
from pathlib import Path

# Results on CPU are the same everywhere. Set JAX_PLATFORMS=cuda to test on a GPU.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402

# Silent rank promotion hides most broadcasting bugs.
jax.config.update("jax_numpy_rank_promotion", "raise")


# For the programs that tests start in processes of their own: this checkout's package.
os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])


def pytest_configure(config):
    # Compiling takes most of the time: a second run on the same machine takes a third of the first.
    if cache := getattr(config, "cache", None):  # absent with -p no:cacheprovider
        settings = {
            "jax_compilation_cache_dir": str(cache.mkdir("jax")),
            "jax_persistent_cache_min_compile_time_secs": 0,
        }
        for name, value in settings.items():
            jax.config.update(name, value)
            os.environ[name.upper()] = str(value)  # for those programs
