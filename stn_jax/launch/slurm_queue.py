"""What Slurm says of jobs, and the commands that it takes; the only file that runs its programs.

Submission alone is submitit's.
"""

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

TIMEOUT = 60  # seconds; the controller answers slowly while it restarts


@dataclass(frozen=True)
class Job:
    """A job, or one element of a job array.

    Attributes:
      id: "12", or "12_3" of an array.
      name: of the job, or of its array.
      state: as Slurm calls it: PENDING, RUNNING, NODE_FAIL and so on.
      reason: why it waits, "" if unknown.
    """

    id: str
    name: str
    state: str
    reason: str = ""

    @property
    def index(self) -> int:
        """Which element of its array it is."""
        return int(self.id.partition("_")[2] or 0)


def active_jobs() -> list[Job]:
    """Return this user's jobs that wait, run, or are about to end.

    Raises:
      RuntimeError: if Slurm does not answer: nothing is known then.
    """
    lines = _ask("squeue", "--me", "--noheader", "--array", "--format=%i|%j|%T|%r").splitlines()
    found = [line.strip().split("|", 3) for line in lines if line.strip()]
    return [Job(*parts, "" if reason == "None" else reason) for *parts, reason in found]


def ended_jobs(ids: Iterable[str]) -> list[Job]:
    """Return what accounting knows of jobs and all elements of arrays; nothing without accounting.

    Args:
      ids: of jobs and of whole arrays.
    """
    ids = list(ids)
    if not ids:
        return []
    options = ("--noheader", "--parsable2", "--allocations", "--format=JobID,JobName,State")
    try:
        lines = _ask("sacct", *options, f"--jobs={','.join(ids)}").splitlines()
    except RuntimeError:
        return []
    found = [line.split("|") for line in lines]
    # Elements that never began are summed up in one line, as 12_[3-7].
    return [
        Job(id, name, state.split()[0])
        for id, name, state in found
        if re.fullmatch(r"\d+(_\d+)?", id) and state
    ]


def is_running(id: str) -> bool:
    """Tell whether a job may go on, though it may have been told to stop: false once it is ending.

    Raises:
      RuntimeError: if Slurm does not answer.
    """
    return _ask("squeue", f"--jobs={id}", "--noheader", "--format=%T").strip() == "RUNNING"


def cancel_jobs(ids: Iterable[str]) -> None:
    """Cancel jobs: those that run are asked to save first.

    Raises:
      RuntimeError: if Slurm refuses.
    """
    if ids := list(ids):
        _ask("scancel", *ids)


def requeue_job(id: str) -> None:
    """Put a job back into the queue; called within it, that ends it.

    Raises:
      RuntimeError: if Slurm refuses.
    """
    _ask("scontrol", "requeue", id)


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"{command[0]}: {error}") from error
    if done.returncode:
        reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise RuntimeError(f"{command[0]} failed: {reason}")
    return done.stdout
