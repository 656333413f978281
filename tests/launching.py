"""Training from the command line, as users do it, in processes of their own."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts import sweep

ROOT = Path(__file__).parents[1]


def train(
    experiment: str,
    selection: str,
    workdir: Path,
    settings: Mapping[str, Any],
    *,
    steps: int | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess:
    """Train a run.

    Args:
      experiment: its file's name in experiments/ and configs/.
      selection: of its config.
      workdir: the run's.
      settings: by field, such as "data.size".
      steps: how many, with log, evaluation and checkpoint at the last; by default the config's.
      check: whether the run has to succeed.
    """
    last = ("training.num_steps", "training.log_every", "training.eval_every")
    last = dict.fromkeys((*last, "runtime.checkpoint_every"), steps) if steps else {}
    command = [
        *(sys.executable, f"experiments/{experiment}.py", "--workdir", workdir),
        *("--config", f"configs/{experiment}.py:{selection}"),
        *(f"--config.{name}={value}" for name, value in {**last, **settings}.items()),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 or not check, done.stderr
    return done


def write_toy(folder: Path, config: str, experiment: str = "") -> Path:
    """Write a config file "toy" and its experiment as in this repository; returns the config's."""
    for name, text in (("configs", config), ("experiments", experiment)):
        (folder / name).mkdir()
        (folder / name / "toy.py").write_text(text)
    return folder / "configs" / "toy.py"


def sweep_toy(*arguments: str, selection: str = "") -> int:
    """Sweep over the toy in the working directory, into "runs" there; returns the exit code."""
    try:
        sweep.main([f"configs/toy.py:{selection}", "--runs-dir", "runs", *arguments])
    except SystemExit as exit_:
        return exit_.code or 0
    return 0
