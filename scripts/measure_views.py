"""Measure how well co-localisation does from one side, as the paper's network looks (A.2).

  python scripts/measure_views.py runs/table5 --out results/tables/views.md

The network sees an image from eight sides, and the image takes the box with the least loss among
its eight. Correct boxes in %, of each run's seeds as mean and standard deviation (n - 1):

  upright  from one side, the image as it is;
  alone    from one side, the mean over the eight;
  chosen   of the boxes with the least loss, as Table 5 has them;
  any      share of images with a correct box among the eight: no choice does better.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from stn_jax.launch import colocalisation, measuring
from stn_jax.launch.cli import load_config_module
from stn_jax.launch.saved import open_states
from stn_jax.models.pure import Model
from stn_jax.reporting.runs import Run

ENCODERS = Path(__file__).parents[1] / "configs" / "distorted_mnist.py"
MEASURES = ("upright", "alone", "chosen", "any")
COLUMNS = ("run", *(f"{name}{part}" for name in MEASURES for part in ("", " ±")))


def main(argv: Sequence[str] | None = None) -> None:
    measuring.run(
        rows, experiment="colocalisation", columns=COLUMNS, description=__doc__, argv=argv
    )


def rows(run: Run) -> list[list]:
    """Return a run's row of the table."""
    found = np.array(list(measure(run)))
    spread = found.std(axis=0, ddof=1) if len(found) > 1 else [None] * len(MEASURES)
    values = zip(found.mean(axis=0), spread, strict=True)
    return [[run.name, *(part for pair in values for part in pair)]]


def measure(run: Run) -> Iterator[list[float]]:
    """Yield the measures of each seed of a run; see the module's docstring."""
    problem = colocalisation.problem_of(run, load_config_module(ENCODERS).get_config)
    model = colocalisation.make_model(ConfigDict(run.config))
    states = open_states(Model(problem.init, model.apply), run.config, run.folder)

    @jax.jit
    def look(params, images):
        theta = colocalisation.from_all_views(model, params, images.image)
        wrong = jax.vmap(partial(colocalisation.wrong, true_boxes=images.square))(theta)
        return wrong, problem.find(params, images)[1]

    for number in range(len(run.seeds)):
        state = jax.tree.map(lambda leaf, number=number: leaf[number], states)
        wrong, view = map(np.asarray, look(state.params, state.model_state))
        yield shares(wrong == 0, view)


def shares(right: np.ndarray, view: np.ndarray) -> list[float]:
    """Return the measures of one set in %, in the order of `MEASURES`.

    Args:
      right: bool [V, N], whether an image's box from a view is.
      view: int [N], that whose box the image takes.
    """
    chosen = right[view, np.arange(len(view))]
    parts = (right[0], right, chosen, right.any(axis=0))
    return [100 * float(part.mean()) for part in parts]


if __name__ == "__main__":
    main()
