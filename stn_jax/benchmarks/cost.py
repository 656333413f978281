"""What a training step of a large network costs: counted, compiled, or taken on noise."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from stn_jax.data.distorted_mnist import Labelled
from stn_jax.data.gtsrb import NUM_CLASSES as SIGN_CLASSES
from stn_jax.launch import birds, gtsrb, svhn
from stn_jax.models.pure import Model, count_params
from stn_jax.models.svhn import NUM_CLASSES, NUM_POSITIONS
from stn_jax.training.metrics import classification_loss, sequence_loss
from stn_jax.training.optim import make_optimizer
from stn_jax.training.state import create_state
from stn_jax.training.step import make_train_call


class Training(NamedTuple):
    """A network, its loss, and noise for a batch on the host."""

    model: Model
    loss: Callable[..., Any]
    noise: Callable[[np.random.Generator, int], Labelled]


def birds_training(config: ConfigDict) -> Training:
    """Return what is trained with a config of birds."""
    model, side = birds.make_model(config), config.data.crop

    def noise(rng: np.random.Generator, batch_size: int) -> Labelled:
        images = rng.integers(0, 256, (batch_size, side, side, 3), np.uint8)
        return Labelled(images, rng.integers(0, config.model.num_classes, batch_size, np.int32))

    return Training(model, classification_loss(model.apply), noise)


def svhn_training(config: ConfigDict) -> Training:
    """Return what is trained with a config of house numbers."""
    model, side = svhn.make_model(config), svhn.view_of(config).input_size(config.data.size)

    def noise(rng: np.random.Generator, batch_size: int) -> Labelled:
        images = rng.standard_normal((batch_size, side, side, 3), np.float32)
        return Labelled(images, rng.integers(0, NUM_CLASSES, (batch_size, NUM_POSITIONS), np.int32))

    return Training(model, sequence_loss(model.apply), noise)


def signs_training(config: ConfigDict) -> Training:
    """Return what is trained with a config of traffic signs."""
    model, side = gtsrb.make_model(config), config.data.size

    def noise(rng: np.random.Generator, batch_size: int) -> Labelled:
        images = rng.standard_normal((batch_size, side, side, 3), np.float32)
        return Labelled(images, rng.integers(0, SIGN_CLASSES, batch_size, np.int32))

    return Training(model, classification_loss(model.apply), noise)


# By config.experiment.
TRAININGS = {"birds": birds_training, "svhn": svhn_training, "gtsrb": signs_training}


def step_cost(
    config: ConfigDict, batch_size: int, *, compiled: bool = False, steps: int = 0
) -> dict[str, Any]:
    """Return what a whole training step costs: forward, backward, update.

    Args:
      config: of an experiment in `TRAININGS`.
      batch_size: images in the step.
      compiled: whether to compile it, which can take minutes and gives the memory.
      steps: how many to take, after a first one that is not timed; compiled for it anyway.

    Returns:
      `parameters` that are trained, `flops` of the step on a GPU, as the compiler counts them
      before it optimises; if compiled `arguments` and `temporary` memory in bytes, on this device;
      if taken `seconds` (the median).
    """
    training = TRAININGS[config.experiment](config)
    optimizer = make_optimizer(config.optimizer, config.training.num_steps)
    step = make_train_call(
        lambda key, batch: batch,
        training.loss,
        optimizer,
        steps_per_call=1,
        vmap_seeds=False,
        streamed=True,
    )
    # Leading axes of seeds and steps, one each.
    host = training.noise(np.random.default_rng(0), batch_size)
    batch = jax.tree.map(lambda leaf: jnp.asarray(leaf[None, None]), host)
    state = jax.eval_shape(lambda: create_state(training.model.init, optimizer, (0,)))
    traced = step.trace(state, batch)
    # As for a GPU, wherever this is: on a CPU our own convolutions take other operations.
    lowered = traced.lower(lowering_platforms=("cuda",))
    cost = {
        "parameters": count_params(state.params),
        "flops": lowered.cost_analysis()["flops"],
    }
    if compiled or steps:
        call = traced.lower().compile()
        memory = call.memory_analysis()
        cost["arguments"] = memory.argument_size_in_bytes
        cost["temporary"] = memory.temp_size_in_bytes
    if steps:
        state = create_state(training.model.init, optimizer, (0,))
        times = []
        for _ in range(1 + steps):
            start = time.perf_counter()
            state, metrics = call(state, batch)
            jax.block_until_ready(metrics)
            times.append(time.perf_counter() - start)
        cost["seconds"] = float(np.median(times[1:]))
    return cost
