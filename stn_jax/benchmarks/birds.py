"""What networks of birds cost: 448 px against 224 px, and the transformers (A.6, Table 3)."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from stn_jax.benchmarks.timing import Contender, Row
from stn_jax.data.distorted_mnist import Labelled
from stn_jax.launch.birds import make_model
from stn_jax.models.pure import count_params
from stn_jax.training.metrics import classification_loss
from stn_jax.training.optim import make_optimizer
from stn_jax.training.state import create_state
from stn_jax.training.step import make_train_call

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
        "birds",
        f"batch {batch_size}",
        "forward and backward",
        {name: forward_and_backward(config, batch_size) for name, config in configs.items()},
        {"flops": {name: step_cost(config, 8)["flops"] / 8 for name, config in configs.items()}},
    )


def forward_and_backward(config: ConfigDict, batch_size: int) -> Contender:
    """Return the loss and its gradient of a config's network, on images of noise."""
    rng, side = np.random.default_rng(0), config.data.crop
    batch = Labelled(
        jnp.asarray(rng.integers(0, 256, (batch_size, side, side, 3)), jnp.uint8),
        jnp.asarray(rng.integers(0, config.model.num_classes, batch_size), jnp.int32),
    )
    model = make_model(config)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params, state = jax.tree_util.tree_map_with_path(partial(_draw, rng), shapes)
    step = jax.jit(jax.value_and_grad(classification_loss(model.apply), has_aux=True))
    return Contender(partial(step, params, state, batch, jax.random.key(1)), jax.block_until_ready)


def step_cost(config: ConfigDict, batch_size: int, *, compiled: bool = False) -> dict[str, Any]:
    """Return what a whole training step costs, without taking it: forward, backward, update.

    Args:
      config: of birds.
      batch_size: images in the step.
      compiled: whether to compile it, too, which takes minutes and gives the memory.

    Returns:
      `parameters` that are trained, `flops` of the step as the compiler counts them before it
      optimises; and `arguments` and `temporary` memory in bytes, if compiled, on this device.
    """
    model = make_model(config)
    optimizer = make_optimizer(config.optimizer, config.training.num_steps)
    state = jax.eval_shape(lambda: create_state(model.init, optimizer, (0,)))
    step = make_train_call(
        lambda key, batch: batch,
        classification_loss(model.apply),
        optimizer,
        steps_per_call=1,
        vmap_seeds=False,
        streamed=True,
    )
    side, leading = config.data.crop, (1, 1, batch_size)  # seeds, steps, images
    batch = Labelled(
        jax.ShapeDtypeStruct((*leading, side, side, 3), jnp.uint8),
        jax.ShapeDtypeStruct(leading, jnp.int32),
    )
    lowered = step.lower(state, batch)
    cost = {
        "parameters": count_params(state.params),
        "flops": lowered.cost_analysis()["flops"],
    }
    if compiled:
        memory = lowered.compile().memory_analysis()
        cost["arguments"] = memory.argument_size_in_bytes
        cost["temporary"] = memory.temp_size_in_bytes
    return cost


def _draw(rng: np.random.Generator, path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """Return a variable of a network as it could be, without waiting for JAX to compile that."""
    name = path[-1].key
    if name == "kernel":
        deviation = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return jnp.asarray(deviation * rng.standard_normal(leaf.shape, np.float32), leaf.dtype)
    return jnp.full(leaf.shape, 1.0 if name in ("scale", "var") else 0.0, leaf.dtype)
