"""The training state: everything a run needs to continue, as one pytree of arrays."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

# Independent uses of a run's seed.
INIT_STREAM, STEP_STREAM = 0, 1


class TrainState(NamedTuple):
    """State of one seed, or of several with a leading axis on every leaf.

    Attributes:
      step: updates done, int32.
      seed: the run's seed, int32; every random number derives from it and the step.
      params: trainable variables.
      model_state: what the model updates by itself (batch statistics).
      opt_state: the optimiser's.
    """

    step: jax.Array
    seed: jax.Array
    params: Any
    model_state: Any
    opt_state: Any


def create_state(
    init: Callable[[jax.Array], tuple[Any, Any]],
    optimizer: optax.GradientTransformation,
    seeds: Sequence[int],
) -> TrainState:
    """Initialise one state a seed, stacked along a leading axis.

    Args:
      init: function of a key giving (params, model_state).
      optimizer: whose state is initialised too.
      seeds: the seeds; each decides its own run, whatever the others are.
    """

    def create(seed: jax.Array) -> TrainState:
        key = jax.random.fold_in(jax.random.key(seed), INIT_STREAM)
        params, model_state = init(key)
        return TrainState(jnp.int32(0), seed, params, model_state, optimizer.init(params))

    return jax.jit(jax.vmap(create))(jnp.asarray(seeds, jnp.int32))
