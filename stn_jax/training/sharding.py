"""Data parallel training: batches are divided among devices, all else is copied to each.

The compiler derives the rest from where the arrays lie: each device computes the gradient of its
share, and their sum is exchanged. The numbers are those of one device, up to rounding, dropout
included.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from stn_jax.training.errors import ConfigError
from stn_jax.training.processes import several

AXIS = "batch"


def make_mesh(num_devices: int) -> Mesh | None:
    """Return the devices that share each batch.

    Args:
      num_devices: how many; 0 for all that there are.

    Returns:
      A mesh of one axis; None for one device, which needs none.

    Raises:
      ConfigError: if there are not so many, or if several processes are not to use all of theirs.
    """
    devices = jax.devices()
    if not 0 <= num_devices <= len(devices):
        raise ConfigError(
            f"runtime.num_devices={num_devices}, but there are {len(devices)} devices "
            f"({devices[0].platform}); 0 takes all."
        )
    if several() and num_devices not in (0, len(devices)):
        raise ConfigError(
            f"{jax.process_count()} processes train on all of their devices: set "
            f"runtime.num_devices to 0, not {num_devices}."
        )
    devices = devices[: num_devices or len(devices)]
    if len(devices) == 1:
        return None
    return jax.make_mesh((len(devices),), (AXIS,), devices=devices, axis_types=(AxisType.Auto,))


def copy_to_all(tree: Any, mesh: Mesh | None) -> Any:
    """Put arrays [...] on every device of a mesh, whole; each process has them all."""
    return tree if mesh is None else _put(tree, NamedSharding(mesh, PartitionSpec()))


def feed(batch: Any, mesh: Mesh | None) -> Any:
    """Put arrays [B, ...], of which each process has all, where compiled code can divide them.

    Within one process that takes care of itself.
    """
    return _put(batch, NamedSharding(mesh, PartitionSpec(AXIS))) if several() else batch


def divide(batch: Any, mesh: Mesh | None) -> Any:
    """Divide arrays [B, ...] within compiled code, so that each device computes on its share."""
    if mesh is None:
        return batch
    return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, PartitionSpec(AXIS)))


def compile_for(
    function: Callable[..., Any], mesh: Mesh | None, *, donate: int | None = None
) -> Callable[..., Any]:
    """Compile a function whose results every device gets whole.

    Args:
      function: of pytrees of arrays; it divides its batches itself.
      mesh: the devices.
      donate: number of the argument whose memory the results may take.
    """
    results = None if mesh is None else NamedSharding(mesh, PartitionSpec())
    return jax.jit(function, out_shardings=results, donate_argnums=donate)


def _put(tree: Any, sharding: NamedSharding) -> Any:
    """Put arrays on devices, on this process's share of them if there are several processes."""
    if not several():
        return jax.device_put(tree, sharding)

    def put(leaf: Any) -> jax.Array:
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(put, tree)
