"""Measure how well co-localisation's networks do alone, which the paper trains one of (A.2).

  python scripts/measure_networks.py runs/table5 --out results/tables/networks.md

Several networks are trained on each set, and an image takes the box with the least loss among
theirs. Correct boxes in %, of each run's seeds as mean and standard deviation (n - 1):

  alone   of one network, the mean over those of a set;
  chosen  of the boxes with the least loss, as Table 5 has them;
  any     share of images with a correct box among those of all networks: no choice does better.
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
MEASURES = ("alone", "chosen", "any")
COLUMNS = ("run", "networks", *(f"{name}{part}" for name in MEASURES for part in ("", " ±")))


def main(argv: Sequence[str] | None = None) -> None:
    measuring.run(
        rows, experiment="colocalisation", columns=COLUMNS, description=__doc__, argv=argv
    )


def rows(run: Run) -> list[list]:
    """Return a run's row of the table."""
    found = np.array(list(measure(run)))
    spread = found.std(axis=0, ddof=1) if len(found) > 1 else [None] * len(MEASURES)
    values = zip(found.mean(axis=0), spread, strict=True)
    return [[run.name, run.config["restarts"], *(part for pair in values for part in pair)]]


def measure(run: Run) -> Iterator[list[float]]:
    """Yield the measures of each seed of a run; see the module's docstring."""
    problem = colocalisation.problem_of(run, load_config_module(ENCODERS).get_config)
    model = colocalisation.make_model(ConfigDict(run.config))
    states = open_states(Model(problem.init, model.apply), run.config, run.folder)

    @jax.jit
    def look(params, images):
        theta = jax.vmap(lambda p: model.apply(p, {}, images.image)[0])(params)
        wrong = jax.vmap(partial(colocalisation.wrong, true_boxes=images.square))(theta)
        return wrong, problem.find(params, images)[1]

    for number in range(len(run.seeds)):
        state = jax.tree.map(lambda leaf, number=number: leaf[number], states)
        wrong, network = map(np.asarray, look(state.params, state.model_state))
        yield shares(wrong == 0, network)


def shares(right: np.ndarray, network: np.ndarray) -> list[float]:
    """Return the measures of one set in %, in the order of `MEASURES`.

    Args:
      right: bool [R, N], whether a network's box of an image is.
      network: int [N], that whose box the image takes.
    """
    chosen = right[network, np.arange(len(network))]
    return [100 * float(part) for part in (right.mean(), chosen.mean(), right.any(axis=0).mean())]


if __name__ == "__main__":
    main()
