"""Co-localisation step by step: where a run's boxes were while it was trained (Figure 4)."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from stn_jax import geometry
from stn_jax.launch.colocalisation import CORRECT, boxes, from_all_views, make_model, problem_of
from stn_jax.reporting.boxes import MovingBoxes
from stn_jax.reporting.runs import Run
from stn_jax.training.errors import RunError
from stn_jax.training.optim import make_optimizer
from stn_jax.training.state import create_state
from stn_jax.training.step import make_train_call

FRAMES = 100  # about as many boxes are kept of each image, however many steps a run has


def replay(
    run: Run, encoder_config: Callable[[str], ConfigDict], count: int, *, missed: bool = False
) -> MovingBoxes:
    """Train the first seed of a run again, and note where some of its images' boxes are.

    Args:
      run: of co-localisation.
      encoder_config: as `make_problem` takes it.
      count: how many images, from the set's first on.
      missed: only those whose box is wrong in the end.

    Returns:
      Boxes before training, after every hundredth of it (not more often than after each call of
      `config.runtime.steps_per_call` steps) and at its end, from the view that is chosen for the
      image then.

    Raises:
      ConfigError: if the digits or the encoder here are not those of the run.
      RunError: if images are asked for that are missed, and none is.
    """
    config = ConfigDict(run.config)
    problem, model = problem_of(run, encoder_config), make_model(config)
    optimizer = make_optimizer(config.optimizer, config.training.num_steps)
    state = create_state(problem.init, optimizer, config.seeds[:1])
    train_call = make_train_call(
        problem.draw,
        problem.loss,
        optimizer,
        steps_per_call=config.runtime.steps_per_call,
        vmap_seeds=False,
    )
    images = jax.tree.map(lambda x: x[0], state.model_state)

    @jax.jit
    def find(params: Any) -> jax.Array:  # [V, N, 4]
        first = jax.tree.map(lambda x: x[0], params)
        return boxes(from_all_views(model, first, images.image))

    steps, found = [0], [find(state.params)]
    last = config.training.num_steps
    while steps[-1] < last:
        state, _ = train_call(state, problem.data)
        step = int(state.step[0])
        if step - steps[-1] >= last // FRAMES or step == last:
            steps.append(step)
            found.append(find(state.params))
    _, view, _ = problem.find(jax.tree.map(lambda x: x[0], state.params), images)
    way = np.stack(found)[:, view, np.arange(config.data.count)]
    overlaps = np.asarray(geometry.intersection_over_union(way, images.square[None]))
    shown = np.flatnonzero(overlaps[-1] <= CORRECT) if missed else np.arange(config.data.count)
    shown = shown[:count]
    if not shown.size:
        raise RunError(f"{run.name} finds the digit in all images of seed {config.seeds[0]}.")
    return MovingBoxes(
        name=f"{config.name}, seed {config.seeds[0]}; boxes from the view chosen in the end",
        images=np.asarray(images.image[shown, ..., 0]),
        steps=steps,
        boxes=way[:, shown],
        squares=np.asarray(images.square[shown]),
        overlaps=overlaps[:, shown],
    )
