"""What a cluster is asked for: a profile, from a small TOML file and from flags."""

import argparse
import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Options of sbatch that a profile has fields for, or that jobs are recognised and stopped by.
RESERVED = {
    *("job_name", "array", "output", "error", "signal", "requeue", "no_requeue", "time", "nodes"),
    *("ntasks", "ntasks_per_node", "cpus_per_task", "gpus_per_node", "mem"),
    *("partition", "account", "qos"),
}


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Resources of each job, and how many jobs there are.

    Attributes:
      partition, account, qos: as Slurm calls them; "" leaves the cluster's default.
      minutes: a job's time limit; before that the runs save, and the job is requeued.
      grace: seconds between the signal to save and the end of the job.
      nodes: computers of a job.
      tasks_per_node: processes of a job on each; if there are several in all, they train one run
        together.
      cpus: of each process.
      gpus: on each node.
      memory_gb: on each node; 0 leaves the cluster's default.
      at_once: how many jobs run at the same time.
      pack: runs that share a job.
      workers: how many of these run at the same time.
      attempts: how often a run may fail before it is left alone.
      setup: shell commands that go before everything else, such as loading modules.
      more: further options of sbatch, by name.
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    minutes: int = 60
    grace: int = 90
    nodes: int = 1
    tasks_per_node: int = 1
    cpus: int = 1
    gpus: int = 0
    memory_gb: float = 0.0
    at_once: int = 8
    pack: int = 1
    workers: int = 1
    attempts: int = 3
    setup: list[str] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def tasks(self) -> int:
        """Processes of a job."""
        return self.nodes * self.tasks_per_node

    def __post_init__(self):
        counts = ("minutes", "grace", "nodes", "tasks_per_node", "cpus", "at_once", "pack")
        for name in (*counts, "workers", "attempts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} of the profile must be 1 or more.")
        for name in ("gpus", "memory_gb"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} of the profile must be 0 or more.")
        if self.grace >= 60 * self.minutes:
            raise ValueError(
                f"grace={self.grace} seconds of the profile are no less than its minutes="
                f"{self.minutes}: runs would be told to save at once."
            )
        if self.tasks > 1 and self.gpus not in (0, self.tasks_per_node):
            raise ValueError(
                f"each of tasks_per_node={self.tasks_per_node} trains on one GPU, but gpus="
                f"{self.gpus}."
            )
        if self.tasks == 1 and self.gpus > 1 and self.workers > 1:
            raise ValueError(
                f"workers={self.workers} would all train on the first of gpus={self.gpus}: ask for "
                "gpus = 1, or for workers = 1 with config.runtime.num_devices=0."
            )
        if clashes := {name.replace("-", "_") for name in self.more} & RESERVED:
            raise ValueError(
                f"{', '.join(sorted(clashes))} cannot stand in [more]: sweeps set it, or the "
                "profile has a field for it."
            )
        if self.tasks > 1 and self.pack * self.workers > 1:
            raise ValueError(
                f"{self.tasks} tasks train one run together: pack and workers must be 1."
            )


# What the command line may set; the rest is for the file.
FLAGS = {
    "partition": "queue of the cluster",
    "account": "who pays",
    "nodes": "nodes of a job",
    "tasks-per-node": "processes of a job on each node; several in all train one run together",
    "cpus": "cores of each process",
    "gpus": "GPUs on each node",
    "memory-gb": "memory on each node",
    "at-once": "jobs that run at the same time",
    "pack": "runs that share a job",
    "attempts": "how often a run may fail before it is left alone",
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Let a command line say what a profile has."""
    defaults = Profile()
    group = parser.add_argument_group("with --launcher slurm")
    group.add_argument("--profile", metavar="FILE", type=Path, help="TOML; flags go before it")
    for flag, text in FLAGS.items():
        default = getattr(defaults, flag.replace("-", "_"))
        if default:
            text += f"; {default:g}"
        group.add_argument(
            f"--{flag}", metavar="X" if default == "" else "N", type=type(default), help=text
        )


def read_profile(args: argparse.Namespace) -> Profile:
    """Return the profile of a command line.

    Raises:
      FileNotFoundError: if its file is not there.
      ValueError: if the file is not TOML, or has fields or values that a profile has not.
    """
    chosen: dict[str, Any] = {}
    if args.profile:
        with args.profile.open("rb") as file:
            try:
                chosen = tomllib.load(file)
            except ValueError as error:
                raise ValueError(f"{args.profile}: {error}") from error
    kinds = {f.name: type(getattr(Profile(), f.name)) for f in dataclasses.fields(Profile)}
    for name, value in chosen.items():
        if name not in kinds:
            raise ValueError(
                f"{args.profile}: no {name!r} in a profile; it has {', '.join(kinds)}."
            )
        kind = kinds[name]
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise ValueError(f"{args.profile}: {name}={value!r} is not of type {kind.__name__}.")
    flags = {flag.replace("-", "_") for flag in FLAGS}
    given = {name: value for name in flags if (value := getattr(args, name)) is not None}
    if args.minutes is not None:
        given["minutes"] = max(1, round(args.minutes))
    if args.workers is not None:
        given["workers"] = args.workers
    return Profile(**{**chosen, **given})
