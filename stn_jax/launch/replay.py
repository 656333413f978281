"""Co-localisation step by step: where a run's boxes were while it was trained (Figure 4)."""

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from stn_jax import geometry
from stn_jax.launch.colocalisation import boxes, make_model, make_problem
from stn_jax.reporting.boxes import MovingBoxes
from stn_jax.reporting.runs import Run
from stn_jax.training.errors import ConfigError
from stn_jax.training.optim import make_optimizer
from stn_jax.training.state import create_state
from stn_jax.training.step import make_train_call


def replay(run: Run, encoder_config: Callable[[str], ConfigDict], count: int) -> MovingBoxes:
    """Train the first seed of a run again, and note where its first images' boxes are.

    Args:
      run: of co-localisation.
      encoder_config: as `make_problem` takes it.
      count: how many images.

    Returns:
      Boxes before training and after each call of `config.runtime.steps_per_call` steps, of the
      network that is chosen for the image at the end.

    Raises:
      ConfigError: if the digits or the encoder here are not those of the run.
    """
    config = ConfigDict(run.config)
    problem, model = make_problem(config, encoder_config), make_model(config)
    recorded = json.loads(run.path.read_text(encoding="utf-8").splitlines()[0])["data"]
    if recorded != problem.description:
        raise ConfigError(
            f"{run.name} saw {recorded}, here are {problem.description}: its steps cannot be "
            "repeated."
        )
    optimizer = make_optimizer(config.optimizer, config.training.num_steps)
    state = create_state(problem.init, optimizer, config.seeds[:1])
    train_call = make_train_call(
        problem.draw,
        problem.loss,
        optimizer,
        steps_per_call=config.runtime.steps_per_call,
        vmap_seeds=False,
    )
    images = jax.tree.map(lambda x: x[0, :count], state.model_state)

    @jax.jit
    def find(params: Any) -> jax.Array:  # [R, N, 4]
        first = jax.tree.map(lambda x: x[0], params)
        return jax.vmap(lambda p: boxes(model.apply(p, {}, images.image)[0]))(first)

    steps, found = [0], [find(state.params)]
    while steps[-1] < config.training.num_steps:
        state, _ = train_call(state, problem.data)
        steps.append(int(state.step[0]))
        found.append(find(state.params))
    params, images_of_seed = jax.tree.map(lambda x: x[0], (state.params, state.model_state))
    _, network, _ = problem.find(params, images_of_seed)
    way = np.stack(found)[:, network[:count], np.arange(count)]
    return MovingBoxes(
        name=f"{config.name}, seed {config.seeds[0]}",
        images=np.asarray(images.image[..., 0]),
        steps=steps,
        boxes=way,
        squares=np.asarray(images.square),
        overlaps=np.asarray(geometry.intersection_over_union(way, images.square[None])),
    )
