"""One compiled call: several training steps of several seeds."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from stn_jax.training.state import STEP_STREAM, TrainState

Metrics = dict[str, jax.Array]


def make_train_call(
    draw: Callable[[jax.Array, Any], Any],
    loss: Callable[..., tuple[jax.Array, tuple[Any, Metrics]]],
    optimizer: optax.GradientTransformation,
    *,
    steps_per_call: int,
    vmap_seeds: bool,
) -> Callable[[TrainState, Any], tuple[TrainState, Metrics]]:
    """Compile the training steps.

    Args:
      draw: function of (key, data), giving the batch of one step.
      loss: function of (params, model_state, batch, key), giving the scalar loss and
        (model_state, metrics), metrics being scalars.
      optimizer: the Optax transformation.
      steps_per_call: steps scanned in one call; more of them hide the cost of a call.
      vmap_seeds: whether seeds are batched with vmap or run one after the other.

    Returns:
      A jitted function of (state, data) giving the new state (the old one is donated) and
      metrics [seeds, steps_per_call], with "loss" and "gradient_norm" among them.
    """

    def train_step(state: TrainState, data: Any) -> tuple[TrainState, Metrics]:
        stream = jax.random.fold_in(jax.random.key(state.seed), STEP_STREAM)
        draw_key, loss_key = jax.random.split(jax.random.fold_in(stream, state.step))
        batch = draw(draw_key, data)
        gradient = jax.value_and_grad(loss, has_aux=True)
        (value, (model_state, metrics)), grads = gradient(
            state.params, state.model_state, batch, loss_key
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": value, "gradient_norm": optax.tree.norm(grads), **metrics}
        return TrainState(state.step + 1, state.seed, params, model_state, opt_state), metrics

    def train_steps(state: TrainState, data: Any) -> tuple[TrainState, Metrics]:
        return jax.lax.scan(lambda s, _: train_step(s, data), state, length=steps_per_call)

    return jax.jit(over_seeds(train_steps, vmap=vmap_seeds), donate_argnums=0)


def over_seeds(function: Callable[..., Any], *, vmap: bool) -> Callable[..., Any]:
    """Map a function of (state, data) over the leading axis of the state.

    Args:
      function: of the state of one seed and data that the seeds share.
      vmap: batched, or else unrolled one seed after the other.
    """
    if vmap:
        return jax.vmap(function, in_axes=(0, None))

    def unrolled(states: Any, data: Any) -> Any:
        count = jax.tree.leaves(states)[0].shape[0]
        results = [function(jax.tree.map(lambda x: x[i], states), data) for i in range(count)]  # noqa: B023
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)

    return unrolled
