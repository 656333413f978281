"""Optional TensorBoard logs, beside the run record."""

import contextlib
from pathlib import Path

from stn_jax.training.errors import ConfigError


class Summaries(contextlib.AbstractContextManager):
    """Writes scalars for TensorBoard; does nothing unless enabled."""

    def __init__(self, workdir: Path, *, step: int, enabled: bool):
        """Open the logs below a work directory, to go on after a step: later ones are dropped.

        Raises:
          ConfigError: if they are wanted and tensorboardX is not installed.
        """
        self._writer = None
        if enabled:
            try:
                from tensorboardX import SummaryWriter
            except ImportError as error:
                raise ConfigError(
                    'runtime.tensorboard needs tensorboardX: pip install "stn-jax[tensorboard]".'
                ) from error
            self._writer = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)

    def write(self, group: str, step: int, means: dict[str, list[float]]) -> None:
        """Write one curve a metric and seed."""
        if self._writer:
            for name, values in means.items():
                for number, value in enumerate(values):
                    self._writer.add_scalar(f"{group}/{name}/{number}", value, step)

    def __exit__(self, *exc_info):
        if self._writer:
            self._writer.close()
