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
      description: of --help, and of the table; see `write`.
      argv: the command line; by default the process's own.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        rows = [
            row for run in find_runs(args.runs) if is_meant(run, experiment) for row in measure(run)
        ]
    except (RunError, OSError, ValueError) as error:
        sys.exit(f"{parser.prog}: {error}")
    write(rows, columns, args.out, description=description)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which runs are measured, and where the table goes."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="folders with runs")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table there too")


def write(
    rows: Sequence[Sequence],
    columns: Sequence[str],
    out: Path | None,
    *,
    description: str,
    formats: str | Sequence[str] = ".2f",
) -> None:
    """Print a Markdown table and what its columns mean; write both to a file if one is given.

    Args:
      rows: of the table.
      columns: its heads.
      out: the file.
      description: a sentence, the command, and what is measured, with empty lines between them.
      formats: of all numbers, or those of each column.

    Raises:
      SystemExit: without rows: a file that is there stays as it is.
    """
    if not rows:
        sys.exit("nothing is measured: no finished run with checkpoints that this is meant for.")
    sentence, _, meaning = description.strip().split("\n\n", 2)
    table = tabulate(rows, columns, tablefmt="github", floatfmt=formats, missingval="–")
    page = f"{sentence}\n\n{table}\n\n```text\n{meaning}\n```"
    print(page)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(f"{page}\n", encoding="utf-8")


def is_meant(run: Run, experiment: str) -> bool:
    """Tell whether a run is of the experiment and has a transformer; see `can_be_opened`."""
    # Co-localisation has no choice of transforms.
    if run.experiment != experiment or not run.config["model"].get("transform", "attention"):
        return False
    return can_be_opened(run)


def can_be_opened(run: Run) -> bool:
    """Tell whether a run is finished and has a checkpoint; say so if not."""
    if lack := why_not_opened(run):
        print(f"{run.label} {lack}: left out.", file=sys.stderr)
    return not lack
