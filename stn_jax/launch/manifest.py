"""The manifest of a runs directory: what was to be run in it, and by which commands."""

import json
from collections.abc import Sequence
from pathlib import Path

from stn_jax.launch.files import write_json
from stn_jax.launch.sweep import Run

FILE_NAME = "manifest.json"


def write_manifest(runs_dir: Path, runs: Sequence[Run]) -> None:
    """Add runs to the manifest, by name; what other sweeps declared in the directory stays.

    Args:
      runs_dir: the directory.
      runs: what is to be run.
    """
    runs_dir.mkdir(parents=True, exist_ok=True)
    path = runs_dir / FILE_NAME
    known = json.loads(path.read_text()) if path.exists() else {}
    added = {run.name: {"steps": run.num_steps, "command": list(run.command)} for run in runs}
    write_json(path, known | added)
