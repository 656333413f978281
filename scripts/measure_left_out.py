"""Measure networks of birds without test images that a file names, as those ImageNet also has.

  python scripts/measure_left_out.py runs/table3 --leave-out IDS.txt --out left_out.md

The paper's second number (Sect. 4.3) is without 22 test images that are in ImageNet's training set,
too; it does not list them. The file has the number of an image as in the publisher's images.txt on
each line; what follows a # is a comment. For every finished run on the test set with a checkpoint,
a row: test accuracy of the first seed in %, on all images and on those that are kept.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stn_jax.launch import birds, measuring
from stn_jax.launch.bird_examples import classes
from stn_jax.reporting.runs import Run, find_runs
from stn_jax.training.errors import RunError

COLUMNS = ("run", "seed", "images", "accuracy", "kept", "accuracy of those")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    measuring.add_arguments(parser)
    parser.add_argument("--leave-out", type=Path, metavar="IDS.txt", required=True)
    args = parser.parse_args(argv)
    try:
        rows = [
            row(run, args.leave_out)
            for run in find_runs(args.runs)
            if run.experiment == "birds"
            and run.config["data"]["evaluate_on"] == "test"
            and measuring.can_be_opened(run)
        ]
    except (RunError, OSError, ValueError) as error:
        sys.exit(f"{parser.prog}: {error}")
    measuring.write(rows, COLUMNS, args.out, description=__doc__)


def row(run: Run, leave_out: Path) -> list:
    """Return the row of a run's first seed."""
    opened = birds.open_evaluation(run.config, run.fingerprint)
    kept = birds.kept_of(run.config, leave_out)
    right = classes(run, opened.birds) == opened.birds.label
    numbers = (len(right), 100 * np.mean(right), int(kept.sum()), 100 * np.mean(right[kept]))
    return [run.label, run.seeds[0], *numbers]


if __name__ == "__main__":
    main()
