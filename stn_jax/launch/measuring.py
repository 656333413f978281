"""The command line that scripts share which measure the transformers of finished runs."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tabulate import tabulate

from stn_jax.launch.examples import why_not_opened
from stn_jax.reporting.runs import Run, find_runs
from stn_jax.training.errors import RunError


def run(
    measure: Callable[[Run], list[list]],
    *,
    experiment: str,
    columns: Sequence[str],
    description: str,
    argv: Sequence[str] | None,
) -> None:
    """Measure every finished run with a transformer, and print one Markdown table.

    Args:
      measure: gives a run's rows.
      experiment: only its runs are measured.
      columns: heads of the table.
      description: of --help.
      argv: the command line; by default the process's own.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="folders with runs")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table there too")
    args = parser.parse_args(argv)
    try:
        rows = [
            row for run in find_runs(args.runs) if is_meant(run, experiment) for row in measure(run)
        ]
    except (RunError, OSError, ValueError) as error:
        sys.exit(f"{parser.prog}: {error}")
    table = tabulate(rows, columns, tablefmt="github", floatfmt=".2f", missingval="–")
    print(table)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(f"{table}\n", encoding="utf-8")


def is_meant(run: Run, experiment: str) -> bool:
    """Tell whether a run is one to measure; say so if it is, but cannot be opened."""
    if run.experiment != experiment or not run.config["model"]["transform"]:
        return False
    if lack := why_not_opened(run):
        print(f"{run.label} {lack}: left out.", file=sys.stderr)
    return not lack
