"""Evaluation over every example of a set."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from stn_jax.training.processes import must_wait
from stn_jax.training.sharding import compile_for, divide, feed
from stn_jax.training.state import TrainState
from stn_jax.training.step import over_seeds
from stn_jax.training.streaming import Streamed, positions, stream_examples


def make_evaluation(
    measure: Callable[[Any, Any, Any], dict[str, jax.Array]],
    *,
    batch_size: int,
    vmap_seeds: bool,
    mesh: Mesh | None = None,
) -> Callable[[TrainState, Any], dict[str, list[float]]]:
    """Compile the mean of per-example measurements over a whole set.

    The last batch is filled up and the filling masked: every example counts exactly once.

    Args:
      measure: function of (params, model_state, batch), giving values [batch] by name.
      batch_size: examples measured at a time.
      vmap_seeds: as in `make_train_call`.
      mesh: as there.

    Returns:
      A function of (state, data) giving means by name, one a seed; data is a pytree of arrays
      with the same leading size, or `Streamed`, which gives the same numbers.
    """

    def total(state: TrainState, batch_and_mask: tuple[Any, jax.Array]) -> dict[str, jax.Array]:
        batch, mask = divide(batch_and_mask, mesh)
        values = measure(state.params, state.model_state, batch)
        return {name: jnp.sum(jnp.where(mask, v, 0)) for name, v in values.items()}

    totals = compile_for(over_seeds(total, vmap=vmap_seeds), mesh)

    def evaluate(state: TrainState, data: Any) -> dict[str, list[float]]:
        if isinstance(data, Streamed):
            count, batches = data.count, stream_examples(data, batch_size)
        else:
            count = jax.tree.leaves(data)[0].shape[0]
            batches = _batches(data, count, batch_size)
        sums: list[dict[str, jax.Array]] = []
        for batch_and_mask in batches:
            sums.append(totals(state, feed(batch_and_mask, mesh)))
            # One batch waits while another is measured, and no more: their images need memory.
            jax.block_until_ready(sums[-1:] if must_wait() else sums[-2:-1])
        fetched = jax.device_get(sums)
        return {
            name: (sum(np.float64(part[name]) for part in fetched) / count).tolist()
            for name in fetched[0]
        }

    return evaluate


def _batches(data: Any, count: int, batch_size: int) -> Iterator[tuple[Any, np.ndarray]]:
    for start in range(0, count, batch_size):
        index, mask = positions(start, batch_size, count)
        yield jax.tree.map(lambda x: x[index], data), mask  # noqa: B023
