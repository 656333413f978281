"""Sweeps on Slurm: job arrays of packs of runs, through submitit.

What was submitted stands in runs_dir/slurm/submissions.jsonl: an array's name, which no other one
has, and which runs each of its jobs has. It is written before the array is submitted: a run is
never in the queue without it being known, whenever this program is killed.
"""

import contextlib
import datetime
import math
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stn_jax.launch.files import append_json, exclusive, read_json_lines
from stn_jax.launch.profile import Profile
from stn_jax.launch.slurm_job import Pack
from stn_jax.launch.slurm_queue import Job, active_jobs, cancel_jobs, ended_jobs
from stn_jax.launch.sweep import Progress, Run, count_failures, inspect
from stn_jax.training.errors import EXIT_DIVERGED

FOLDER = "slurm"
SUBMISSIONS = "submissions.jsonl"
# States of jobs that ended through no fault of ours do not count: those of preempted jobs, of
# nodes that died, of time limits, and of jobs that were cancelled.
FAULTS = ("FAILED", "OUT_OF_MEMORY", "BOOT_FAIL")


@dataclass(frozen=True)
class Place:
    """Where in the cluster a run is, or was last.

    Attributes:
      job: the job that it belongs to.
      active: whether that job waits or runs.
      faults: jobs that died under the run.
      log: what that job printed.
    """

    job: Job
    active: bool
    faults: int
    log: Path


def find_places(runs_dir: Path) -> dict[str, Place]:
    """Ask Slurm where the runs of a directory are; those that were never submitted are left out.

    Raises:
      RuntimeError: if Slurm does not answer.
    """
    submissions = _read(runs_dir)
    if not submissions:
        return {}
    active = [job for job in active_jobs() if job.name in submissions]
    ids = [submission["job"] for submission in submissions.values() if submission["job"]]
    ended = [job for job in ended_jobs(ids) if job.name in submissions]
    places: dict[str, Place] = {}
    by_position = {(job.name, job.index): (job, False) for job in ended}
    by_position |= {(job.name, job.index): (job, True) for job in active}
    for name, submission in submissions.items():  # the oldest first
        packs = submission["packs"]
        for index, pack in enumerate(packs):
            if not submission["job"] and (name, index) not in by_position:
                continue  # sbatch refused it
            id = f"{submission['job']}_{index}" if len(packs) > 1 else submission["job"]
            unknown = Job(id, name, "UNKNOWN")
            job, is_active = by_position.get((name, index), (unknown, False))
            log = runs_dir / FOLDER / name / f"{job.id}_0_log.out"
            for run in pack:
                before = places.get(run)
                faults = (before.faults if before else 0) + (job.state in FAULTS)
                if before and before.active:
                    places[run] = replace(before, faults=faults)
                else:
                    places[run] = Place(job, is_active, faults, log)
    return places


def cancel(runs: Sequence[Run], *, runs_dir: Path) -> list[str]:
    """Cancel all jobs that have one of the runs, and return their ids.

    Raises:
      RuntimeError: if Slurm does not answer or refuses, or if another process submits runs of this
        directory.
    """
    names = {run.name for run in runs}
    with _submitting(runs_dir):
        submissions = _read(runs_dir)
        ids = [
            job.id
            for job in (active_jobs() if submissions else ())
            if job.name in submissions and names & {*submissions[job.name]["packs"][job.index]}
        ]
        cancel_jobs(ids)
    return ids


def inspect_in(places: Mapping[str, Place], run: Run) -> Progress:
    """Tell how far a run has come, and what its job does; to be asked after the places."""
    progress = inspect(run)
    place = places.get(run.name)
    if place is None or progress.state == "done":
        return progress
    job = place.job
    if progress.state == "running":
        return replace(progress, message=f"in job {job.id}" if place.active else progress.message)
    if place.active:
        state = "waiting" if progress.state == "failed" else progress.state
        why = f" ({job.reason})" if job.reason else ""
        return replace(progress, state=state, message=f"job {job.id} {job.state.lower()}{why}")
    if progress.state == "failed":
        return progress
    ended = f"job {job.id} ended: {job.state}; its log is {place.log}"
    state = "failed" if job.state in FAULTS else progress.state
    return replace(progress, state=state, message=ended)


def submit(
    runs: Sequence[Run], profile: Profile, *, runs_dir: Path
) -> tuple[dict[str, Progress], list[list[Run]]]:
    """Submit the runs that are not done, not in the queue, and have not failed too often.

    Args:
      runs: the runs.
      profile: what their jobs need.
      runs_dir: their directory.

    Returns:
      How far each run is, and the packs that were submitted.

    Raises:
      RuntimeError: if Slurm does not answer or refuses, or if submitit is missing, or if another
        process submits runs of this directory.
    """
    folder = runs_dir / FOLDER
    with _submitting(runs_dir):
        packs = plan(runs, profile, places=find_places(runs_dir))
        if packs:
            name = f"stn-{secrets.token_hex(4)}"
            names = [[run.name for run in pack] for pack in packs]
            append_json(folder / SUBMISSIONS, {"name": name, "time": _now(), "packs": names})
            job = _sbatch(packs, profile, folder / name)
            append_json(folder / SUBMISSIONS, {"name": name, "job": job})
        places = find_places(runs_dir)
    states = {run.name: inspect_in(places, run) for run in runs}
    for run in runs:
        now, failures = states[run.name], attempts(run, places.get(run.name))
        if is_left_alone(now, failures, profile):
            diverged = now.exit_code == EXIT_DIVERGED
            often = f"after {failures} attempts (--attempts)"
            why = "as it would diverge again" if diverged else often
            states[run.name] = replace(now, message=f"{now.message} Left alone {why}.")
    return states, packs


def plan(runs: Sequence[Run], profile: Profile, *, places: Mapping[str, Place]) -> list[list[Run]]:
    """Divide what is to be submitted into packs, as even as they can be.

    Args:
      runs: all runs.
      profile: says how many share a job.
      places: where they are now.
    """
    left = []
    for run in runs:
        place = places.get(run.name)
        progress = inspect_in(places, run)
        active = place is not None and place.active
        if progress.state in ("done", "running") or active:
            continue
        if not is_left_alone(progress, attempts(run, place), profile):
            left.append(run)
    count = math.ceil(len(left) / profile.pack)
    bounds = [i * len(left) // count for i in range(count + 1)] if count else [0]
    return [left[begin:end] for begin, end in zip(bounds, bounds[1:], strict=False)]


def attempts(run: Run, place: Place | None) -> int:
    """Count how often a run failed: by itself, or because its job could not begin."""
    return max(count_failures(run), place.faults if place else 0)


def is_left_alone(progress: Progress, failures: int, profile: Profile) -> bool:
    """Tell whether a failed run is not to be submitted again."""
    again = progress.exit_code != EXIT_DIVERGED and failures < profile.attempts
    return progress.state == "failed" and not again


def sbatch_options(profile: Profile, name: str) -> dict[str, object]:
    """Return what submitit is to ask for."""
    options = {
        "job_name": name,
        "time": profile.minutes,
        "signal_delay_s": profile.grace,
        "nodes": profile.nodes,
        "ntasks_per_node": profile.tasks_per_node,
        "cpus_per_task": profile.cpus,
        "array_parallelism": profile.at_once,
        "setup": profile.setup or None,
        "stderr_to_stdout": True,  # one log a job
        # Since Slurm 22.05 a step does not have the cores of its job by itself.
        "srun_args": [f"--cpus-per-task={profile.cpus}"],
        # A node that dies gives its jobs back to the queue.
        "additional_parameters": {"requeue": True, **profile.more},
    }
    for field in ("partition", "account", "qos"):
        options[field] = getattr(profile, field) or None
    options["gpus_per_node"] = profile.gpus or None
    options["mem"] = f"{round(1024 * profile.memory_gb)}M" if profile.memory_gb else None
    return {field: value for field, value in options.items() if value is not None}


def _sbatch(packs: Sequence[Sequence[Run]], profile: Profile, folder: Path) -> str:
    """Submit an array, or a single job, and return its id."""
    try:
        import submitit
    except ImportError as error:
        raise RuntimeError(
            '--launcher slurm needs submitit: pip install "stn-jax[cluster]".'
        ) from error
    # A folder of its own: Slurm may give an old id anew, and submitit's files go by ids.
    executor = submitit.SlurmExecutor(folder)
    executor.update_parameters(**sbatch_options(profile, folder.name))
    jobs = [Pack(runs=pack, workers=profile.workers, restarts=profile.attempts) for pack in packs]
    try:
        with _without_sbatch_variables(profile), executor.batch():
            submitted = [executor.submit(job) for job in jobs]
    except submitit.core.utils.FailedJobError as error:
        reason = str(error).strip().splitlines()[-1]
        raise RuntimeError(f"sbatch failed: {reason}") from error
    return submitted[0].job_id.partition("_")[0]


@contextlib.contextmanager
def _without_sbatch_variables(profile: Profile) -> Iterator[None]:
    """Hide from sbatch the variables that would go before what is asked for here."""
    set_here = {"JOB_NAME", "ARRAY_INX", "SIGNAL", "TIMELIMIT", "REQUEUE", "NO_REQUEUE"}
    set_here |= {"OUTPUT", "ERROR"}
    set_here |= {name.upper() for name in ("partition", "account", "qos") if getattr(profile, name)}
    hidden = {f"SBATCH_{name}" for name in set_here} & set(os.environ)
    before = {name: os.environ.pop(name) for name in hidden}
    try:
        yield
    finally:
        os.environ |= before


def _submitting(runs_dir: Path) -> contextlib.AbstractContextManager[None]:
    busy = f"another process submits runs of {runs_dir}."
    return exclusive(runs_dir / FOLDER / "lock", busy=busy)


def _read(runs_dir: Path) -> dict[str, dict]:
    """Return what was submitted, by name, the oldest first."""
    found: dict[str, dict] = {}
    for line in read_json_lines(runs_dir / FOLDER / SUBMISSIONS):
        found.setdefault(line["name"], {"job": ""}).update(line)
    return {name: submission for name, submission in found.items() if "packs" in submission}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
