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
      steps_per_call: steps scanned in one call; more of them hide the cost of a call, and take the
        memory of as many batches.
      vmap_seeds: whether seeds are batched with vmap or run one after the other.
      streamed: whether each step of each seed has data of its own, with leading axes [seeds,
        steps_per_call], instead of sharing them all.
      mesh: the devices that share each batch, if there are several.

    Returns:
      A jitted function of (state, data) giving the new state (the old one is donated) and
      metrics [seeds, steps_per_call], with "loss" and "gradient_norm" among them.
    """

    def draw_batch(key: jax.Array, data: Any) -> Any:
        return divide(draw(key, data), mesh)

    def train_step(state: TrainState, batch_and_key: tuple) -> tuple[TrainState, Metrics]:
        batch, loss_key = batch_and_key
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
            draw_key, loss_key = step_keys(state.seed, state.step)
            batch = draw_batch(draw_key, jax.tree.map(lambda x: x[0], data) if streamed else data)
            state, metrics = train_step(state, (batch, loss_key))
            return state, jax.tree.map(lambda x: x[None], metrics)
        steps = state.step + jnp.arange(steps_per_call)
        draw_keys, loss_keys = jax.vmap(step_keys, in_axes=(None, 0))(state.seed, steps)
        # All batches before the first step: in one loop with it, XLA's code for CPUs makes an image
        # anew for each layer that reads it, and ST-FCN's steps take 1.2 to 1.5 times as long.
        if streamed:
            batches = jax.lax.map(lambda inputs: draw_batch(*inputs), (draw_keys, data))
        else:
            batches = jax.lax.map(lambda key: draw_batch(key, data), draw_keys)
        return jax.lax.scan(train_step, state, (batches, loss_keys))

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
