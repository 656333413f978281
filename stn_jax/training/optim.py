"""Optimisers and learning rate schedules from a config."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from stn_jax.training.errors import ConfigError


def _step_decay(config: ConfigDict, num_steps: int) -> optax.Schedule:
    boundaries = {step: config.decay_factor for step in config.decay_steps if step < num_steps}
    return optax.piecewise_constant_schedule(config.learning_rate, boundaries)


def _cosine(config: ConfigDict, num_steps: int) -> optax.Schedule:
    return optax.cosine_decay_schedule(config.learning_rate, num_steps)


def _sgd(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay),
        optax.sgd(schedule, momentum=config.momentum or None),
    )


def _adam(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    return optax.adamw(schedule, b1=config.momentum, weight_decay=config.weight_decay)


# "step": learning_rate times decay_factor after each of decay_steps. "cosine": to 0 at the end.
SCHEDULES: dict[str, Callable[[ConfigDict, int], optax.Schedule]] = {
    "step": _step_decay,
    "cosine": _cosine,
}
# "sgd": weight decay joins the gradient. "adam": decoupled weight decay; momentum is beta 1.
OPTIMIZERS: dict[str, Callable[[ConfigDict, optax.Schedule], optax.GradientTransformation]] = {
    "sgd": _sgd,
    "adam": _adam,
}


def make_optimizer(config: ConfigDict, num_steps: int) -> optax.GradientTransformation:
    """Build the optimiser that a config's `optimizer` section describes.

    Args:
      config: `name` (a key of `OPTIMIZERS`), `schedule` (of `SCHEDULES`), learning_rate, momentum,
        weight_decay, decay_steps and decay_factor (of "step"), and `multipliers`: factors on the
        learning rate of the parameters below a name, such as {"localisation": 0.1}.
      num_steps: training steps in all.

    Returns:
      An Optax transformation, schedule included.

    Raises:
      ConfigError: on an unknown name, or (at init) a multiplier that no parameter falls under.
    """
    for field, table in (("name", OPTIMIZERS), ("schedule", SCHEDULES)):
        if config[field] not in table:
            raise ConfigError(
                f"unknown optimizer.{field} {config[field]!r}; there are {', '.join(table)}."
            )
    schedule = SCHEDULES[config.schedule](config, num_steps)
    optimizer = OPTIMIZERS[config.name](config, schedule)
    if config.multipliers:
        optimizer = optax.chain(optimizer, scale_by_name(config.multipliers.to_dict()))
    return optimizer


def scale_by_name(multipliers: Mapping[str, float]) -> optax.GradientTransformation:
    """Scale the updates of every parameter that lies below one of the given names.

    Args:
      multipliers: name of a module or parameter, anywhere on the path -> factor. Nested names
        multiply.

    Raises:
      ConfigError: at init, if a name is on no parameter's path.
    """

    def factor(path: tuple[Any, ...]) -> float:
        result = 1.0
        for entry in path:
            result *= multipliers.get(entry.key, 1.0)
        return result

    def init(params):
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        names = {entry.key for path in paths for entry in path}
        if unknown := set(multipliers) - names:
            raise ConfigError(
                f"optimizer.multipliers names {', '.join(sorted(unknown))}, but the parameters' "
                f"names are {', '.join(sorted(names))}."
            )
        return optax.EmptyState()

    def update(updates, state, params=None):
        del params
        scaled = jax.tree_util.tree_map_with_path(lambda p, u: factor(p) * u, updates)
        return scaled, state

    return optax.GradientTransformation(init, update)
