r"""Train every run of a sweep, here or on a cluster; called again, go on where it stopped.

  python scripts/sweep.py configs/distorted_mnist.py --runs-dir runs/table1
  python scripts/sweep.py configs/distorted_mnist.py:R,E,ST-FCN --runs-dir runs/table1 \
      --workers 4 --minutes 50 -- --config.seeds="(0,1,2)"
  python scripts/sweep.py configs/distorted_mnist.py --runs-dir runs/table1 --status
  python scripts/sweep.py configs/distorted_mnist.py --runs-dir runs/table1 \
      --launcher slurm --partition gpu --gpus 1 --pack 8
  python scripts/sweep.py configs/distorted_mnist.py:R,FCN --runs-dir runs/search --search 20

The config file declares its sweep and says what a selection may name; experiments/NAME.py trains
configs/NAME.py. What follows a -- overrides fields of all runs. A run's directory is named after
its config and what overrides change in it, so call with the same overrides to continue; only those
of config.runtime may differ. Each directory has the run's record, checkpoints and log.txt; the
runs directory's manifest.json has the command of each.

Finished runs are left alone, others begin or continue. When the minutes are over, or on Ctrl-C or
SIGTERM, the running ones save and stop; a second Ctrl-C stops them without saving. On one GPU,
use --workers 1. With --launcher slurm, runs are submitted that neither are done, nor wait or run
already, nor failed too often; docs/clusters.md tells more.

--search tries settings in the ranges that the config declares, and chooses by validation error.
Test errors are measured for what was chosen, and for nothing else.

Exit codes: 0 all runs are done; 1 some failed, the others are done; 2 wrong command line or config,
nothing was started; 75 interrupted, or some run in another process or job: call again for the rest.
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

from stn_jax.launch import search, slurm
from stn_jax.launch.cli import one_line_errors
from stn_jax.launch.local import execute
from stn_jax.launch.manifest import write_manifest
from stn_jax.launch.profile import FLAGS, Profile, add_flags, read_profile
from stn_jax.launch.sweep import LOG, Progress, Run, count_failures, expand, inspect, load_sweep
from stn_jax.training.errors import EXIT_DIVERGED, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE

STATES = ("done", "running", "interrupted", "waiting", "failed")


def main(argv: Sequence[str] | None = None) -> None:
    argv = list(sys.argv[1:] if argv is None else argv)
    cut = argv.index("--") if "--" in argv else len(argv)
    args, overrides = parse(argv[:cut]), argv[cut + 1 :]
    config_file, _, selection = args.config.partition(":")
    with one_line_errors(Exception, code=EXIT_USAGE):
        profile = read_profile(args) if args.launcher == "slurm" else Profile()
        if args.search and looks_only(args) and not (args.runs_dir / search.JOURNAL).exists():
            runs = []  # nothing was tried yet, and looking is not to begin it
        elif args.search:
            searches = open_searches(args, overrides)
            known = [run for found in searches for run in found.known_runs()]
            runs = known if looks_only(args) else next_runs(searches, args, profile)
        else:
            runs = expand(config_file, selection, args.runs_dir, overrides)
    with one_line_errors(OSError, RuntimeError, code=EXIT_FAILED):
        if looks_only(args):
            print(shown(runs, args, profile))
        elif args.search:
            sys.exit(searched(searches, runs, args, profile))
        else:
            sys.exit(trained(runs, args, profile))


def looks_only(args: argparse.Namespace) -> bool:
    """Tell whether nothing is to be trained."""
    return args.status or args.dry_run or args.cancel


def trained(runs: Sequence[Run], args: argparse.Namespace, profile: Profile) -> int:
    """Begin or continue runs, and return the exit code."""
    states = launch(runs, args, profile)
    code = exit_code(states)
    if code == EXIT_INTERRUPTED:
        print("The same command continues.")
    return code


def launch(runs: Sequence[Run], args: argparse.Namespace, profile: Profile) -> dict[str, Progress]:
    """Begin or continue runs; returns when they have ended or, on a cluster, been submitted."""
    write_manifest(args.runs_dir, runs)
    if args.launcher == "slurm":
        states, packs = slurm.submit(runs, profile, runs_dir=args.runs_dir)
        print(f"Submitted {sum(map(len, packs))} runs in {len(packs)} jobs.")
    else:
        before = {run.name: inspect(run) for run in runs}
        print(f"{len(runs)} runs: {counts(before)}.", flush=True)
        seconds = math.inf if args.minutes is None else 60 * args.minutes
        with Display(runs, before) as display:
            workers = args.workers or default_workers()
            states = execute(runs, workers=workers, seconds=seconds, report=display.report)
    print(summary(runs, states))
    return states


def shown(runs: Sequence[Run], args: argparse.Namespace, profile: Profile) -> str:
    """Do as --status, --dry-run or --cancel say, and return what they print."""
    if args.launcher == "local":
        states = {run.name: inspect(run) for run in runs}
        return table(runs, states) if args.status else commands(runs, states)
    if args.cancel:
        jobs = slurm.cancel(runs, runs_dir=args.runs_dir)
        return f"Cancelled jobs: {' '.join(jobs) or 'none'}."
    places = slurm.find_places(args.runs_dir)
    states = {run.name: slurm.inspect_in(places, run) for run in runs}
    if args.status:
        return table(runs, states)
    packs = slurm.plan(runs, profile, places=places)
    options = slurm.sbatch_options(profile, "stn-...")
    return jobs_text(packs, options) + "\n" + summary(runs, states)


def open_searches(args: argparse.Namespace, overrides: Sequence[str]) -> list[search.Search]:
    """Return a search for each run of the sweep."""
    config_file, _, selection = args.config.partition(":")
    return search.open_searches(
        config_file,
        load_sweep(config_file),
        selection,
        args.runs_dir,
        overrides=overrides,
        sampler=args.sampler,
        seed=args.search_seed,
    )


def next_runs(
    searches: Sequence[search.Search], args: argparse.Namespace, profile: Profile
) -> list[Run]:
    """Return the trials that are to be trained next or, once all are known, what was chosen."""
    of_jobs = profile.at_once * profile.pack
    at_once = of_jobs if args.launcher == "slurm" else args.workers or default_workers()
    # Asked before whether it is open: trials that have ended meanwhile close it.
    left = [run for s in searches for run in s.next_runs(args.search, at_once=at_once)]
    return left or [found.final_run() for found in searches if found.has_found]


def searched(
    searches: Sequence[search.Search],
    runs: Sequence[Run],
    args: argparse.Namespace,
    profile: Profile,
) -> int:
    """Train all trials, then what was chosen among them, and return the exit code."""
    while any(found.is_open(args.search) for found in searches):
        states = launch(runs, args, profile)
        # On a cluster, what is still failed after a submission has had all its attempts.
        again = [
            run.name
            for run in runs
            if args.launcher == "local" and may_succeed(run, states[run.name], profile.attempts)
        ]
        for found in searches:
            found.tell({name: state for name, state in states.items() if name not in again})
        if exit_code(states) == EXIT_INTERRUPTED:
            print("The same command continues.")
            return EXIT_INTERRUPTED
        if again:
            print(f"The same command tries {len(again)} of them again.")
            return EXIT_FAILED
        runs = next_runs(searches, args, profile)
    successful = [found for found in searches if found.has_found]
    search.write_chosen(successful, args.runs_dir)
    for found in successful:
        chosen = found.choose()
        print(
            f"{found.name}: {chosen.settings}, validation error {chosen.error:.2f} %, "
            f"the lowest of {chosen.count} trials. Now on the test set:"
        )
    code = trained(runs, args, profile)
    for found in searches:
        if not found.has_found:
            print(f"{found.name}: every trial failed.", file=sys.stderr)
            code = code or EXIT_FAILED
    return code


def may_succeed(run: Run, progress: Progress, attempts: int) -> bool:
    """Tell whether a failed run says nothing about its settings: a full disk, a process killed."""
    if progress.state != "failed" or progress.exit_code == EXIT_DIVERGED:
        return False
    return count_failures(run) < attempts


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse what comes before the overrides."""
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
        help="runs at a time, each on its share of the CPU cores; by default one per two cores: "
        f"{default_workers()}, and on a cluster the profile's",
    )
    parser.add_argument(
        "--minutes",
        metavar="M",
        type=positive(float),
        help="time to stop after; of a Slurm job, its time limit",
    )
    parser.add_argument(
        "--launcher", choices=["local", "slurm"], default="local", help="where runs are trained"
    )
    parser.add_argument(
        "--search", metavar="N", type=positive(int), help="try N settings for each run"
    )
    parser.add_argument(
        "--sampler", choices=search.SAMPLERS, default="tpe", help="how they are chosen; tpe"
    )
    parser.add_argument("--search-seed", metavar="N", type=int, default=0, help="of the sampler; 0")
    add_flags(parser)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--status", action="store_true", help="print how far each run is; no more")
    only.add_argument("--dry-run", action="store_true", help="print what would run; no more")
    only.add_argument("--cancel", action="store_true", help="cancel the runs' Slurm jobs; no more")
    args = parser.parse_args(argv)
    if args.cancel and args.launcher == "local":
        parser.error("--cancel needs --launcher slurm: Ctrl-C stops runs of this machine.")
    of_slurm = [flag for flag in ("profile", *FLAGS) if getattr(args, flag.replace("-", "_"))]
    if args.launcher == "local" and of_slurm:
        parser.error(f"--{of_slurm[0]} is of --launcher slurm, which is not given.")
    return args


def default_workers() -> int:
    """Return how many runs this machine trains at a time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // 2)


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
        progress = states[run.name]
        if progress.state == "failed":
            lines.append(f"{run.name} failed ({run.workdir / LOG}): {progress.message}")
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
        error = None if progress.error is None else f"{progress.error:.2f} ({progress.split})"
        time = tqdm.format_interval(progress.seconds) if progress.seconds else None
        rows.append([run.name, progress.state, f"{progress.step}/{run.num_steps}", error, time])
    head = ["run", "state", "steps", "error %", "time"]
    align = ["left", "left", "right", "right", "right"]
    # Why some failed stands below the table.
    others = {name: now.message for name, now in states.items() if now.state != "failed"}
    if any(others.values()):
        head, align = [*head, "where"], [*align, "left"]
        rows = [[*row, others.get(row[0]) or None] for row in rows]
    grid = tabulate(rows, head, colalign=align, disable_numparse=True, missingval="-")
    return f"{grid}\n\n{summary(runs, states)}"


def commands(runs: Sequence[Run], states: dict[str, Progress]) -> str:
    """Return the commands of the runs that are left, as a shell takes them."""
    return "\n".join(
        f"# {run.name}: {states[run.name].state}"
        + ("" if states[run.name].state in ("done", "running") else f"\n{shlex.join(run.command)}")
        for run in runs
    )


def jobs_text(packs: Sequence[Sequence[Run]], options: dict[str, object]) -> str:
    """Return the jobs that would be submitted: what they ask for, and their runs' commands."""
    lines = [f"# sbatch: {name}={value}" for name, value in options.items()]
    for number, pack in enumerate(packs):
        lines.append(f"# job {number}: {', '.join(run.name for run in pack)}")
        lines += [shlex.join(run.command) for run in pack]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
