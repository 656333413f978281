"""Checkpoints of the training state; the only file that knows Orbax."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from stn_jax.training.errors import RunError
from stn_jax.training.state import TrainState


class _Manager(ocp.CheckpointManager):
    """Leaves it to the loop to ask whether the processes are to stop.

    JAX counts who has come how far. The loop tells it the number of its call, Orbax would tell it
    that of the step, and whoever waits for the larger one would not stop.
    """

    def reached_preemption(self, step: int) -> bool:
        return False


class Checkpoints:
    """The checkpoints of one run: saved in the background, complete or absent, a few kept."""

    def __init__(self, directory: Path, *, keep: int = 2, cleanup: bool = False):
        """Open (or create) the directory that holds the checkpoints.

        Args:
          directory: of one run.
          keep: how many; older ones are removed.
          cleanup: whether to remove what was left of saves that were killed; not while another
            process may be saving there.
        """
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=cleanup)
        self._manager = _Manager(directory.absolute(), options=options)

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
        tree = state._asdict()
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(tree),
            progress=ocp.args.JsonSave({"loop": progress, "shapes": _shapes(tree)}),
        )
        with self._saving():
            self._manager.save(step, args=items)

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Return state and progress of the last complete checkpoint.

        Args:
          like: a state (or its shapes) of the run that the checkpoint must belong to.

        Raises:
          RunError: if the checkpoint does not hold such a state, or cannot be read.
        """
        step = self.latest_step
        place = f"checkpoint {step} in {self._manager.directory}"
        before = max((other for other in self._manager.all_steps() if other < step), default=0)
        instead = f"Without its folder the run continues from step {before}."
        tree = like._asdict()
        try:
            progress = self._manager.restore(
                step, args=ocp.args.Composite(progress=ocp.args.JsonRestore())
            ).progress
            if differences := _differences(progress["shapes"], _shapes(tree)):
                raise RunError(f"{place} is of another model: {differences}.")
            target = jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)
            restored = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target))
            )
        except RunError:
            raise
        except Exception as error:  # of no narrower class where Orbax finds an array cut short
            if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                raise RunError(f"{place} cannot be read: {_first_line(error)}") from error
            raise RunError(f"{place} is damaged: {_first_line(error)} {instead}") from error
        return TrainState(**restored.state), progress["loop"]

    def close(self) -> None:
        """Wait until everything is on disk.

        Raises:
          RunError: if that fails, as on a full disk; earlier checkpoints stay as they are.
        """
        with self._saving():
            self._manager.wait_until_finished()
        self._manager.close()

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        """Turn what Orbax raises, from its background threads too, into one line."""
        try:
            yield
        except (ValueError, OSError) as error:
            full = "No space left on device" in str(error)
            reason = "no space left on device" if full else _first_line(error)
            raise RunError(
                f"saving to {self._manager.directory} failed: {reason}. The last complete "
                f"checkpoint is {self.latest_step}; the same command continues from there."
            ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _shapes(tree: Any) -> dict[str, list[int]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): list(leaf.shape)
        for path, leaf in leaves
    }


def _differences(saved: dict[str, list[int]], wanted: dict[str, list[int]]) -> str:
    """Name the first few arrays that differ."""
    names = [name for name in {**saved, **wanted} if saved.get(name) != wanted.get(name)]
    names.sort(key=lambda name: not name.startswith("params"))
    texts = [
        f"{name} {saved.get(name, 'absent')} there, {wanted.get(name, 'absent')} here"
        for name in names[:3]
    ]
    more = len(names) - len(texts)
    return "; ".join(texts) + (f"; and {more} more" if more > 0 else "")
