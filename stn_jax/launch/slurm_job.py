"""What a Slurm job does: train some runs, save when it is signalled, and come back for the rest."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stn_jax.launch.local import execute, open_log
from stn_jax.launch.slurm_queue import is_running, requeue_job
from stn_jax.launch.sweep import Progress, Run, inspect, is_locked, note_exit

ANSWER_SECONDS = 20  # that the controller may be away
TOGETHER = ("--distributed", "--config.runtime.num_devices=0")


@dataclass(frozen=True, kw_only=True)
class Pack:
    """The runs of a job, to be called within it.

    Before the time limit Slurm sends SIGUSR2, and SIGTERM when it is about to take the nodes for
    others: the runs save and stop, and the job puts itself back into the queue, for one that ends
    by itself is not put back. One that was cancelled gets SIGTERM, too, but is ending already.

    Attributes:
      runs: in order.
      workers: how many train at the same time, each on its share of the job's cores.
      restarts: how often the job comes back without having done a step.
    """

    runs: Sequence[Run]
    workers: int
    restarts: int

    def __call__(self) -> None:
        """Begin or continue the runs that are not done."""
        before = {run.name: inspect(run) for run in self.runs}
        _pass_warnings_on()
        if int(os.environ.get("SLURM_NTASKS", 1)) > 1:
            after = _train_together(*self.runs)
            leads = os.environ["SLURM_PROCID"] == "0"
        else:
            seconds, leads = float("inf"), True
            after = execute(self.runs, workers=self.workers, seconds=seconds, report=_Report())
        if leads and self._comes_back(before, after):
            _requeue(_job_id())

    def _comes_back(self, before: Mapping[str, Progress], after: Mapping[str, Progress]) -> bool:
        # Runs are left over only if a signal stopped them.
        left = any(progress.state in ("waiting", "interrupted") for progress in after.values())
        moved = any(after[name].step > before[name].step for name in after)
        # A job that is too short for a single step would come back for ever.
        return left and (moved or int(os.environ.get("SLURM_RESTART_COUNT", 0)) < self.restarts)


def _requeue(id: str) -> None:
    """Put this job back into the queue unless it is ending; if Slurm does not answer, ask again."""
    for waited in range(ANSWER_SECONDS):
        try:
            if is_running(id):
                print("There is more to do: back into the queue.", flush=True)
                requeue_job(id)
            return
        except RuntimeError as error:
            print(f"{error} (for {waited} s)", flush=True)
            time.sleep(1)
    print("There is more to do: call the sweep again.", flush=True)


def _pass_warnings_on() -> None:
    """Turn SIGUSR2 into SIGTERM, which stops runs."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # but for the time that runs take
    signal.signal(signal.SIGUSR2, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


def _train_together(run: Run) -> dict[str, Progress]:
    """Train one run in all tasks of the job; returns when this task's process has ended."""
    rank = os.environ["SLURM_PROCID"]
    command = (*run.command, *TOGETHER)
    with open_log(run, command, suffix="" if rank == "0" else f"-{rank}") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
    signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    code = process.wait()
    if rank == "0" and not is_locked(run):  # it is, if another process came first
        note_exit(run, code)
    return {run.name: inspect(run)}


def _job_id() -> str:
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]


class _Report:
    """Prints what happens to the runs into the job's log, a line each."""

    def __init__(self):
        self._states: dict[str, str] = {}

    def __call__(self, run: Run, now: Progress) -> None:
        if now.message or now.state != self._states.get(run.name):
            self._states[run.name] = now.state
            print(f"{run.name}: {now.state} at step {now.step}. {now.message}", flush=True)
