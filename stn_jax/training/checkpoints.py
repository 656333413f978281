"""Checkpoints of the training state; the only file that knows Orbax."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from stn_jax.training.errors import RunError
from stn_jax.training.state import TrainState


class Checkpoints:
    """The checkpoints of one run: saved in the background, complete or absent, the last few kept."""

    def __init__(self, directory: Path, *, keep: int = 2):
        """Open (or create) the directory that holds the checkpoints."""
        self._manager = ocp.CheckpointManager(
            directory.absolute(), options=ocp.CheckpointManagerOptions(max_to_keep=keep)
        )

    @property
    def latest_step(self) -> int | None:
        """The step of the last complete checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, progress: dict[str, Any]) -> None:
        """Save the run after `step` updates; returns before the files are complete.

        Args:
          step: updates done.
          state: the training state.
          progress: what else the loop continues with, as JSON values.
        """
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state._asdict()), progress=ocp.args.JsonSave(progress)
        )
        self._manager.save(step, args=items)

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Return state and progress of the last complete checkpoint.

        Args:
          like: a state (or its shapes) of the run that the checkpoint must belong to.

        Raises:
          RunError: if the checkpoint does not hold such a state.
        """
        step = self.latest_step
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like._asdict())
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(target), progress=ocp.args.JsonRestore()
        )
        try:
            restored = self._manager.restore(step, args=items)
        except (ValueError, KeyError, TypeError, OSError) as error:
            first_line = str(error).strip().splitlines()[0]
            raise RunError(
                f"checkpoint {step} in {self._manager.directory} does not fit this model, or is "
                f"damaged: {first_line}"
            ) from error
        return TrainState(**restored.state), restored.progress

    def close(self) -> None:
        """Wait until everything is on disk."""
        self._manager.wait_until_finished()
        self._manager.close()
