"""Batches read on the host, ahead of the steps that need them: for data larger than a device."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from stn_jax.training.errors import ConfigError
from stn_jax.training.step import step_keys

NUM_THREADS = 8
NUM_AHEAD = 8  # calls


@dataclass(frozen=True)
class Streamed:
    """Examples to be evaluated on that are read batch by batch, in place of arrays of all of them.

    Attributes:
      count: how many there are.
      read: function of int [n], which of them, giving a pytree of host arrays with n leading rows;
        called ahead, in threads.
    """

    count: int
    read: Callable[[np.ndarray], Any]


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

    return _read_ahead(read_call, range(start, stop, steps_per_call))


def stream_examples(examples: Streamed, batch_size: int) -> Iterator[tuple[Any, np.ndarray]]:
    """Iterate over batches of examples, in order, each with a mask of those that count: bool [B].

    The last batch is filled up with the last example.
    """

    def read_batch(start: int) -> tuple[Any, np.ndarray]:
        index, mask = positions(start, batch_size, examples.count)
        return examples.read(index), mask

    return _read_ahead(read_batch, range(0, examples.count, batch_size))


def positions(start: int, batch_size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which of `count` examples the batch from `start` on has, and a mask of those."""
    position = np.arange(start, start + batch_size)
    # Positions past the end read the last example, and are masked.
    return np.minimum(position, count - 1), position < count


def _read_ahead(read: Callable[[int], Any], firsts: range) -> Iterator[Any]:
    """Iterate over what is read for each number, in order, several of them at a time."""
    import grain  # Takes most of a second, and only data of this size need it.

    options = grain.ReadOptions(num_threads=NUM_THREADS, prefetch_buffer_size=NUM_AHEAD)
    numbers = grain.MapDataset.range(firsts.start, firsts.stop, firsts.step)
    return iter(numbers.map(read).to_iter_dataset(options))


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
