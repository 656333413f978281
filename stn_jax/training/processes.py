"""Several processes that train one run together, on one machine or many.

Each runs the same program and computes on its own devices, so all must make the same calls in the
same order. The first one alone writes the record, holds the work directory and shows progress;
Orbax sees to it that checkpoints are written once. The processes share a file system.
"""

import jax
from jax.experimental import multihost_utils

from stn_jax.training.errors import ConfigError


def join(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Join the other processes; to be called before JAX computes anything.

    Args:
      coordinator: "host:port" of the first process.
      num_processes: how many there are.
      process_id: which this one is, from 0. What is None comes from the environment: that of Slurm,
        Open MPI, a TPU pod or Kubernetes.

    Raises:
      ConfigError: if the environment does not tell, or the others do not come.
    """
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"the processes of the run did not find each other: {reason}") from error


def leads() -> bool:
    """Tell whether this process writes for all."""
    return jax.process_index() == 0


def several() -> bool:
    """Tell whether there are others."""
    return jax.process_count() > 1


def must_wait() -> bool:
    """Tell whether each call has to be over before the next one is made.

    Collectives of several CPU processes meet in the order in which threads come to them: with two
    calls under way they may wait for each other for ever.
    """
    return several() and jax.default_backend() == "cpu"


def agree_to_stop(call: int) -> bool:
    """Tell whether all processes are to stop now, because one or more got SIGTERM.

    JAX catches the signal and chooses a call that none of them has come to.

    Args:
      call: its number; each process must ask for every one.
    """
    return multihost_utils.reached_preemption_sync_point(call)
