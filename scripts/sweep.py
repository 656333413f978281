r"""Train every run of a sweep on this machine; called again, go on where it stopped.

  python scripts/sweep.py configs/distorted_mnist.py --runs-dir runs/table1
  python scripts/sweep.py configs/distorted_mnist.py:R,E,ST-FCN --runs-dir runs/table1 \
      --workers 4 --minutes 50 -- --config.seeds="(0,1,2)"
  python scripts/sweep.py configs/distorted_mnist.py --runs-dir runs/table1 --status

The config file declares its sweep and says what a selection may name; experiments/NAME.py trains
configs/NAME.py. What follows a -- overrides fields of all runs. A run's directory is named after
its config and what overrides change in it, so call with the same overrides to continue; only those
of config.runtime may differ. Each directory has the run's record, checkpoints and log.txt.

Finished runs are left alone, others begin or continue. When the minutes are over, or on Ctrl-C or
SIGTERM, the running ones save and stop; a second Ctrl-C stops them without saving. On one GPU,
use --workers 1.

Exit codes: 0 all runs are done; 1 some failed, the others are done; 2 wrong command line or config,
nothing was started; 75 interrupted, or some run in another process: call again for the rest.
"""

import argparse
import math
import os
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tabulate import tabulate
from tqdm import tqdm

from stn_jax.launch.cli import one_line_errors
from stn_jax.launch.local import execute
from stn_jax.launch.sweep import LOG, Progress, Run, expand, inspect
from stn_jax.training.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE

STATES = ("done", "running", "interrupted", "waiting", "failed")


def main(argv: Sequence[str] | None = None) -> None:
    argv = list(sys.argv[1:] if argv is None else argv)
    cut = argv.index("--") if "--" in argv else len(argv)
    args, overrides = parse(argv[:cut]), argv[cut + 1 :]
    config_file, _, selection = args.config.partition(":")
    with one_line_errors(Exception, code=EXIT_USAGE):
        runs = expand(config_file, selection, args.runs_dir, overrides)
    with one_line_errors(OSError, code=EXIT_FAILED):
        before = {run.name: inspect(run) for run in runs}
        if args.status:
            print(table(runs, before))
        elif args.dry_run:
            print(commands(runs, before))
        else:
            print(f"{len(runs)} runs: {counts(before)}.", flush=True)
            with Display(runs, before) as display:
                after = execute(
                    runs, workers=args.workers, seconds=60 * args.minutes, report=display.report
                )
            print(summary(runs, after))
            code = exit_code(after)
            if code == EXIT_INTERRUPTED:
                print("The same command continues.")
            sys.exit(code)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse what comes before the overrides."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = max(1, (cores or 1) // 2)
    parser = argparse.ArgumentParser(
        usage="%(prog)s CONFIG[:SELECTION] --runs-dir DIR [options] [-- --config.FIELD=VALUE ...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", metavar="CONFIG[:SELECTION]", help="the sweep, or a part of it")
    parser.add_argument(
        "--runs-dir", metavar="DIR", type=Path, required=True, help="holds a directory for each run"
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=positive(int),
        default=workers,
        help=f"runs at a time, each on its share of the CPU cores; one per two cores: {workers}",
    )
    parser.add_argument(
        "--minutes", metavar="M", type=positive(float), default=math.inf, help="time to stop after"
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--status", action="store_true", help="print how far each run is; no more")
    only.add_argument("--dry-run", action="store_true", help="print what would run; no more")
    return parser.parse_args(argv)


def positive(kind: type):
    """Return a parser of positive numbers."""

    def parse_number(text: str):
        number = kind(text)
        if not number > 0:
            raise ValueError
        return number

    parse_number.__name__ = f"positive {kind.__name__}"  # for argparse's message
    return parse_number


class Display:
    """A line for each event and, on a terminal, a bar below that counts the steps of all runs."""

    def __init__(self, runs: Sequence[Run], before: dict[str, Progress]):
        # What another process trains is reported when its turn comes.
        self._known = {
            name: replace(progress, state="waiting") if progress.state == "running" else progress
            for name, progress in before.items()
        }
        self._total = len(runs)
        self._bar = tqdm(
            total=sum(run.num_steps for run in runs),
            initial=sum(progress.step for progress in before.values()),
            unit="step",
            unit_scale=True,
            smoothing=0.01,
            dynamic_ncols=True,
            disable=None,  # where there is no terminal
        )

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._bar.close()

    def report(self, run: Run, now: Progress) -> None:
        """Show what happened to a run since the last call."""
        before, self._known[run.name] = self._known[run.name], now
        self._bar.update(now.step - before.step)
        self._bar.set_postfix_str(counts(self._known))  # refreshes, too
        if now.state != before.state or now.message not in ("", before.message):
            done = sum(progress.state == "done" for progress in self._known.values())
            with tqdm.external_write_mode():
                print(f"[{done}/{self._total}] {run.name}: {event(now, before)}", flush=True)


def event(now: Progress, before: Progress) -> str:
    """Say how a run came into a state."""
    if now.state == "running":
        if now.message:
            return now.message
        return "started" if before.state == "waiting" else f"continues after step {now.step}"
    if now.state == "done":
        return f"finished{measured(now)} ({tqdm.format_interval(now.seconds)})"
    if now.state == "failed":
        return f"failed: {now.message}"
    return f"interrupted at step {now.step}"


def measured(progress: Progress) -> str:
    """Return the last error, as the end of a sentence."""
    return "" if progress.error is None else f", {progress.split} error {progress.error:.2f} %"


def counts(states: dict[str, Progress]) -> str:
    """Return how many runs are in each state."""
    number = Counter(progress.state for progress in states.values())
    return ", ".join(f"{number[state]} {state}" for state in STATES if number[state])


def summary(runs: Sequence[Run], states: dict[str, Progress]) -> str:
    """Return what became of the runs, and where to read why some failed."""
    lines = [f"{len(runs)} runs: {counts(states)}."]
    for run in runs:
        if states[run.name].state == "failed":
            lines.append(f"{run.name} failed ({run.workdir / LOG}): {states[run.name].message}")
    return "\n".join(lines)


def exit_code(states: dict[str, Progress]) -> int:
    """Return what tells a caller whether to call again."""
    found = {progress.state for progress in states.values()}
    if found - {"done", "failed"}:
        return EXIT_INTERRUPTED
    return EXIT_FAILED if "failed" in found else 0


def table(runs: Sequence[Run], states: dict[str, Progress]) -> str:
    """Return the runs as a table, with the messages of failed ones below."""
    rows = []
    for run in runs:
        progress = states[run.name]
        error = None if progress.error is None else f"{progress.error:.2f}"
        time = tqdm.format_interval(progress.seconds) if progress.seconds else None
        rows.append([run.name, progress.state, f"{progress.step}/{run.num_steps}", error, time])
    grid = tabulate(
        rows,
        ["run", "state", "steps", "error %", "time"],
        colalign=("left", "left", "right", "right", "right"),
        disable_numparse=True,
        missingval="-",
    )
    return f"{grid}\n\n{summary(runs, states)}"


def commands(runs: Sequence[Run], states: dict[str, Progress]) -> str:
    """Return the commands of the runs that are left, as a shell takes them."""
    return "\n".join(
        f"# {run.name}: {states[run.name].state}"
        + ("" if states[run.name].state in ("done", "running") else f"\n{shlex.join(run.command)}")
        for run in runs
    )


if __name__ == "__main__":
    main()
