"""Runs as processes of this machine."""

import contextlib
import datetime
import itertools
import os
import shlex
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from stn_jax.launch.sweep import LOG, Progress, Run, inspect, is_locked, note_exit, read_progress

POLL_SECONDS = 0.1
REPORT_SECONDS = 1.0


@dataclass(frozen=True)
class _Worker:
    run: Run
    process: subprocess.Popen
    cpus: Sequence[int]


def execute(
    runs: Sequence[Run],
    *,
    workers: int,
    seconds: float,
    report: Callable[[Run, Progress], None],
) -> dict[str, Progress]:
    """Begin or continue each run that is not done, some at a time.

    When the time is up, or on SIGTERM, SIGHUP or Ctrl-C, the processes get SIGTERM: they save and
    end. A second Ctrl-C ends them at once; further SIGTERMs do not, for schedulers send several. A
    run that fails leaves the others alone, and one that another process trains already is left to
    that.

    Args:
      runs: the runs.
      workers: how many run at the same time; each has its share of the CPU cores for itself.
      seconds: how long; may be infinite.
      report: called when the state of a run changed, and each second for each that is running.

    Returns:
      By name, how far each run has come.
    """
    deadline = time.monotonic() + seconds
    states: dict[str, Progress] = {}

    def note(run: Run, progress: Progress) -> None:
        states[run.name] = progress
        report(run, progress)

    waiting = deque(runs)
    free = deque(cpu_shares(workers))
    active: list[_Worker] = []
    reported = 0.0
    with _stop_requests() as stops, _no_orphans(active):
        asked = killed = False
        while active or (waiting and not asked):
            if not asked and (stops or time.monotonic() >= deadline):
                asked = True
                for worker in active:
                    worker.process.terminate()
                    note(worker.run, _running(worker.run, "asked to save and stop"))
            if stops.count(signal.SIGINT) > 1 and not killed:
                killed = True
                for worker in active:
                    worker.process.kill()
            while waiting and free and not asked:
                run = waiting.popleft()
                progress = inspect(run)
                if progress.state not in ("done", "running"):
                    try:
                        active.append(_start(run, free[0], workers))
                        free.popleft()
                        progress = _running(run)
                    except OSError as error:  # of this run's directory: the others go on
                        progress = Progress("failed", message=str(error))
                note(run, progress)
            for worker in [w for w in active if w.process.poll() is not None]:
                active.remove(worker)
                free.append(worker.cpus)
                note(worker.run, _end(worker, killed=killed))
            if time.monotonic() >= reported + REPORT_SECONDS:
                reported = time.monotonic()
                for worker in active:
                    note(worker.run, _running(worker.run))
            time.sleep(POLL_SECONDS)
    return states | {run.name: inspect(run) for run in waiting}


def cpu_shares(workers: int) -> list[list[int]]:
    """Divide the cores that this process may use; with more workers than cores, some share one.

    Returns:
      A list of cores for each worker; empty where the system does not pin processes to cores.
    """
    if not hasattr(os, "sched_getaffinity"):
        return [[]] * workers
    cores = sorted(os.sched_getaffinity(0))
    bounds = [i * len(cores) // workers for i in range(workers + 1)]
    return [cores[begin : max(end, begin + 1)] for begin, end in itertools.pairwise(bounds)]


def _start(run: Run, cpus: Sequence[int], workers: int) -> _Worker:
    # JAX would take most of a GPU for the first run alone.
    share = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / workers:.2f}"} if workers > 1 else {}
    with open_log(run, run.command) as log, _pinned(cpus):
        process = subprocess.Popen(
            run.command,
            env={**share, **os.environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the sweep alone, which then asks to stop.
        )
    return _Worker(run, process, cpus)


def open_log(run: Run, command: Sequence[str], *, suffix: str = "") -> TextIO:
    """Open a run's log for a process that begins.

    Args:
      run: the run.
      command: of the process.
      suffix: tells logs of several processes apart.
    """
    run.workdir.mkdir(parents=True, exist_ok=True)
    path = (run.workdir / LOG).with_stem(Path(LOG).stem + suffix)
    now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
    log = path.open("a")
    print(f"sweep: {now} {shlex.join(command)}", file=log, flush=True)
    return log


def _running(run: Run, message: str = "") -> Progress:
    return replace(read_progress(run), state="running", message=message)


def _end(worker: _Worker, *, killed: bool) -> Progress:
    # A run that is locked failed because another process came first; one killed did not fail.
    if not killed and not is_locked(worker.run):
        note_exit(worker.run, worker.process.returncode)
    return inspect(worker.run)


@contextlib.contextmanager
def _pinned(cpus: Sequence[int]) -> Iterator[None]:
    """Let processes started here use these cores only; XLA has as many threads as that."""
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """Collect SIGTERM, SIGHUP (the terminal was closed) and Ctrl-C instead of ending."""
    received: list[int] = []
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup leaves it
        numbers.append(signal.SIGHUP)
    previous = {n: signal.signal(n, lambda number, _: received.append(number)) for n in numbers}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _no_orphans(active: list[_Worker]) -> Iterator[None]:
    """Stop what still runs if the sweep itself fails."""
    try:
        yield
    finally:
        for worker in active:
            worker.process.terminate()
        for worker in active:
            worker.process.wait()
