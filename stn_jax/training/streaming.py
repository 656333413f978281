"""Batches read on the host, ahead of the steps that need them: for data larger than a device."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from stn_jax.training.errors import ConfigError
from stn_jax.training.step import step_keys

NUM_THREADS = 8
NUM_AHEAD = 8  # calls


def stream(
    read: Callable[[jax.Array], Any],
    seeds: Sequence[int],
    *,
    start: int,
    stop: int,
    steps_per_call: int,
) -> Iterator[Any]:
    """Iterate over what the training calls from step `start` on need, in order.

    What is read depends on seed and step alone: a resumed run reads what an undisturbed one does,
    and a streamed run trains on the same batches as one whose data lie on the device.

    Args:
      read: function of the key that `Problem.draw` gets, giving a pytree of host arrays.
      seeds: the run's seeds.
      start: the first step.
      stop: the step after the last.
      steps_per_call: steps of one call.

    Returns:
      For each call the pytree, its leaves with leading axes [seeds, steps_per_call].

    Raises:
      ConfigError: if JAX may not use the host's processor.
    """
    import grain  # Takes most of a second, and only data of this size need it.

    try:
        # Keys on the accelerator would wait in line behind the training steps.
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise ConfigError(
            "reading batches on the host needs JAX's CPU backend: set JAX_PLATFORMS=cuda,cpu."
        ) from error

    def read_call(first: int) -> Any:
        with jax.default_device(host):
            of_seeds = [
                _stack([read(step_keys(seed, first + i)[0]) for i in range(steps_per_call)])
                for seed in seeds
            ]
        return _stack(of_seeds)

    options = grain.ReadOptions(num_threads=NUM_THREADS, prefetch_buffer_size=NUM_AHEAD)
    return iter(
        grain.MapDataset.range(start, stop, steps_per_call).map(read_call).to_iter_dataset(options)
    )


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
