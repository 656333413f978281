"""What networks of birds cost: 448 px against 224 px, and the transformers (A.6, Table 3)."""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from stn_jax.benchmarks.cost import birds_training, step_cost
from stn_jax.benchmarks.timing import Contender, Row

SELECTIONS = ("CNN,224px", "2xST-CNN,224px", "2xST-CNN,448px", "4xST-CNN,448px")
# A.6 has batches of 256; times are about proportional to the batch, from some size on.
BATCH_SIZES = {"cpu": 2}


def birds_rows(get_config: Callable[[str], ConfigDict]) -> Iterator[Row]:
    """Yield forward and backward of the networks of Table 3.

    Args:
      get_config: of birds.
    """
    batch_size = BATCH_SIZES.get(jax.default_backend(), 64)
    configs = {name.replace(",", " "): get_config(name) for name in SELECTIONS}
    yield Row(
        f"batch {batch_size}",
        "forward and backward",
        {n: partial(forward_and_backward, config, batch_size) for n, config in configs.items()},
        {"flops": {name: step_cost(config, 8)["flops"] / 8 for name, config in configs.items()}},
    )


def forward_and_backward(config: ConfigDict, batch_size: int) -> Contender:
    """Return the loss and its gradient of a config's network, on images of noise."""
    training, rng = birds_training(config), np.random.default_rng(0)
    batch = jax.tree.map(jnp.asarray, training.noise(rng, batch_size))
    shapes = jax.eval_shape(training.model.init, jax.random.key(0))
    params, state = jax.tree_util.tree_map_with_path(partial(_draw, rng), shapes)
    step = jax.jit(jax.value_and_grad(training.loss, has_aux=True))
    return Contender(partial(step, params, state, batch, jax.random.key(1)), jax.block_until_ready)


def _draw(rng: np.random.Generator, path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """Return a variable of a network as it could be, without waiting for JAX to compile that."""
    name = path[-1].key
    if name == "kernel":
        deviation = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return jnp.asarray(deviation * rng.standard_normal(leaf.shape, np.float32), leaf.dtype)
    return jnp.full(leaf.shape, 1.0 if name in ("scale", "var") else 0.0, leaf.dtype)
