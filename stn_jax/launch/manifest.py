"""The manifest of a runs directory: what was to be run in it, and by which commands."""

from collections.abc import Sequence
from pathlib import Path

from stn_jax.launch.files import update_json
from stn_jax.launch.sweep import Run

FILE_NAME = "manifest.json"


def write_manifest(runs_dir: Path, runs: Sequence[Run]) -> None:
    """Add runs to the manifest, by name; what other sweeps declared in the directory stays.

    Args:
      runs_dir: the directory.
      runs: what is to be run.
    """
    added = {run.name: {"steps": run.num_steps, "command": list(run.command)} for run in runs}
    update_json(runs_dir / FILE_NAME, added)
