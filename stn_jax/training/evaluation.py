"""Evaluation over every example of a set."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from stn_jax.training.sharding import compile_for, divide
from stn_jax.training.state import TrainState
from stn_jax.training.step import over_seeds


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
      with the same leading size.
    """

    def total(state: TrainState, batch_and_mask: tuple[Any, jax.Array]) -> dict[str, jax.Array]:
        batch, mask = divide(batch_and_mask, mesh)
        values = measure(state.params, state.model_state, batch)
        return {name: jnp.sum(jnp.where(mask, v, 0)) for name, v in values.items()}

    totals = compile_for(over_seeds(total, vmap=vmap_seeds), mesh)

    def evaluate(state: TrainState, data: Any) -> dict[str, list[float]]:
        count = jax.tree.leaves(data)[0].shape[0]
        sums = []
        for start in range(0, count, batch_size):
            # Positions past the end read the last example, and are masked.
            position = np.arange(start, start + batch_size)
            index = np.minimum(position, count - 1)
            batch = jax.tree.map(lambda x: x[index], data)  # noqa: B023
            sums.append(totals(state, (batch, position < count)))
        fetched = jax.device_get(sums)
        return {
            name: (sum(np.float64(part[name]) for part in fetched) / count).tolist()
            for name in fetched[0]
        }

    return evaluate
