"""One compiled call: several training steps of several seeds."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from stn_jax.training.sharding import compile_for, divide
from stn_jax.training.state import STEP_STREAM, TrainState

Metrics = dict[str, jax.Array]


def make_train_call(
    draw: Callable[[jax.Array, Any], Any],
    loss: Callable[..., tuple[jax.Array, tuple[Any, Metrics]]],
    optimizer: optax.GradientTransformation,
    *,
    steps_per_call: int,
    vmap_seeds: bool,
    streamed: bool = False,
    mesh: Mesh | None = None,
) -> Callable[[TrainState, Any], tuple[TrainState, Metrics]]:
    """Compile the training steps.

    Args:
      draw: function of (key, data), giving the batch of one step.
      loss: function of (params, model_state, batch, key), giving the scalar loss and
        (model_state, metrics), metrics being scalars.
      optimizer: the Optax transformation.
      steps_per_call: steps scanned in one call; more of them hide the cost of a call.
      vmap_seeds: whether seeds are batched with vmap or run one after the other.
      streamed: whether each step of each seed has data of its own, with leading axes [seeds,
        steps_per_call], instead of sharing them all.
      mesh: the devices that share each batch, if there are several.

    Returns:
      A jitted function of (state, data) giving the new state (the old one is donated) and
      metrics [seeds, steps_per_call], with "loss" and "gradient_norm" among them.
    """

    def train_step(state: TrainState, data: Any) -> tuple[TrainState, Metrics]:
        draw_key, loss_key = step_keys(state.seed, state.step)
        batch = divide(draw(draw_key, data), mesh)
        gradient = jax.value_and_grad(loss, has_aux=True)
        (value, (model_state, metrics)), grads = gradient(
            state.params, state.model_state, batch, loss_key
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": value, "gradient_norm": optax.tree.norm(grads), **metrics}
        return TrainState(state.step + 1, state.seed, params, model_state, opt_state), metrics

    def train_steps(state: TrainState, data: Any) -> tuple[TrainState, Metrics]:
        if steps_per_call == 1:
            # On a CPU, Inception's convolutions take four times as long within a scan, even of one.
            batch_data = jax.tree.map(lambda x: x[0], data) if streamed else data
            state, metrics = train_step(state, batch_data)
            return state, jax.tree.map(lambda x: x[None], metrics)
        if streamed:
            return jax.lax.scan(train_step, state, data, length=steps_per_call)
        return jax.lax.scan(lambda s, _: train_step(s, data), state, length=steps_per_call)

    train_seeds = over_seeds(train_steps, vmap=vmap_seeds, shared=not streamed)
    return compile_for(train_seeds, mesh, donate=0)


def step_keys(seed: jax.Array | int, step: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    """Return the keys of one training step: of its batch, and of its loss."""
    stream = jax.random.fold_in(jax.random.key(seed), STEP_STREAM)
    draw_key, loss_key = jax.random.split(jax.random.fold_in(stream, step))
    return draw_key, loss_key


def over_seeds(
    function: Callable[..., Any], *, vmap: bool, shared: bool = True
) -> Callable[..., Any]:
    """Map a function of (state, data) over the leading axis of the state.

    Args:
      function: of the state of one seed and its data.
      vmap: batched, or else unrolled one seed after the other.
      shared: whether all seeds have the same data; if not, data have that leading axis too.
    """
    if vmap:
        return jax.vmap(function, in_axes=(0, None if shared else 0))

    def unrolled(states: Any, data: Any) -> Any:
        def of_seed(tree: Any, number: int) -> Any:
            return jax.tree.map(lambda x: x[number], tree)

        results = [
            function(of_seed(states, i), data if shared else of_seed(data, i))
            for i in range(jax.tree.leaves(states)[0].shape[0])
        ]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)

    return unrolled
