"""Sweeps: the runs that a config declares, and how far each has come; not where they run.

A config file declares its sweep as `sweep(selection)`, which gives selections of its `get_config`,
or settings with values of fields as well (see `stn_jax.launch.expand`). Its experiment has the same
name: configs/x.py is trained by experiments/x.py beside it.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import re
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from absl import flags
from ml_collections import ConfigDict, config_flags

from stn_jax.launch.cli import fields, load_config_module
from stn_jax.launch.expand import SELECTION, Settings, as_overrides, as_settings
from stn_jax.training.errors import EXIT_INTERRUPTED, RunError
from stn_jax.training.loop import LOCK
from stn_jax.training.records import FILE_NAME, read_lines

LOG = "log.txt"
EXIT_NOTE = "sweep: exit code "
# A run that was asked to stop, before or after it could save, did not fail.
HARMLESS = (EXIT_INTERRUPTED, -signal.SIGTERM, -signal.SIGUSR2)
MAX_NAME_LENGTH = 150  # file systems allow 255 bytes


@dataclass(frozen=True)
class Run:
    """One run of a sweep.

    Attributes:
      name: of the run, and of its directory.
      workdir: its directory, below that of the sweep.
      num_steps: how many it takes.
      command: begins or continues it.
    """

    name: str
    workdir: Path
    num_steps: int
    command: tuple[str, ...]


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
      state: "waiting", "running", "interrupted" (continues where it stopped), "failed" or "done".
      step: the last that its record knows of.
      split: what was evaluated last, "" before the first evaluation.
      error: of that evaluation, in percent, mean over seeds; None where there is none.
      seconds: time in training.
      message: why it failed, or what else there is to say.
      exit_code: of the process that failed; 0 where none did, or it is not known.
    """

    state: str
    step: int = 0
    split: str = ""
    error: float | None = None
    seconds: float = 0.0
    message: str = ""
    exit_code: int = 0


def expand(
    config_file: str | Path, selection: str, runs_dir: str | Path, overrides: Sequence[str] = ()
) -> list[Run]:
    """Return the runs of the sweep that a config file declares.

    Args:
      config_file: the config file.
      selection: the part of the sweep; "" is all of it.
      runs_dir: the directory that holds the runs' directories.
      overrides: "--config.FIELD=VALUE" each, for all runs.

    Raises:
      Exception: of any kind, if a file is missing or if the config does not take the selection or
        an override.
    """
    module = load_sweep(config_file)
    declared = [as_settings(item) for item in module.sweep(selection)]
    return make_runs(config_file, module, declared, runs_dir, overrides)


def load_sweep(config_file: str | Path) -> ModuleType:
    """Import a config file that declares a sweep.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it declares none.
    """
    module = load_config_module(config_file)
    if not hasattr(module, "sweep"):
        raise ValueError(f"{config_file} declares no sweep(selection).")
    return module


def make_runs(
    config_file: str | Path,
    module: ModuleType,
    declared: Sequence[Settings],
    runs_dir: str | Path,
    overrides: Sequence[str] = (),
) -> list[Run]:
    """Return the runs of some settings; those that are the same count once.

    Args:
      config_file: the config file.
      module: what it has, as `load_sweep` gives it.
      declared: the settings of each run.
      runs_dir: as in `expand`.
      overrides: as there; of a field that both set they count.

    Raises:
      Exception: as there.
    """
    config_file = Path(config_file)
    experiment = os.path.normpath(config_file.parent / ".." / "experiments" / config_file.name)
    if not Path(experiment).is_file():
        raise FileNotFoundError(f"{config_file} is trained by {experiment}, which is not there.")
    for override in overrides:
        if not re.match(r"--config\.[^=]+=", override):
            raise ValueError(f"an override is --config.FIELD=VALUE, not {override!r}.")

    runs, configs = [], {}
    for settings in declared:
        part = settings.get(SELECTION, "")
        changes = (*as_overrides(settings), *overrides)
        config = overridden(module.get_config(part), changes)
        name = _name(module.get_config(part), config)
        if name in configs:
            if configs[name] == config:  # the selection named it twice
                continue
            raise ValueError(f"two different runs of the sweep have the name {name}.")
        configs[name] = config
        workdir = Path(runs_dir) / name
        place = ("--config", f"{config_file}:{part}".rstrip(":"), "--workdir", str(workdir))
        command = (sys.executable, experiment, *place, *changes)
        runs.append(Run(name, workdir, config.training.num_steps, command))
    return runs


def overridden(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """Return a config as an experiment sees it that is called with --config.FIELD=VALUE."""
    argv = ["sweep", *overrides]
    values = flags.FlagValues()
    flag = config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
    values(argv)
    return flag.value


def _name(default: ConfigDict, config: ConfigDict) -> str:
    """Name what an overridden config computes, whatever the order and form of the overrides.

    The section `runtime` does not count: a run may continue with another one.
    """
    changed = sorted(set(fields(config)) - set(fields(default)))
    texts = [default.name, *(text for text in changed if not text.startswith("runtime."))]
    plain = "+".join(re.sub(r"[()\[\]'\" ]", "", text).rstrip(",") for text in texts)
    name = re.sub(r"[^A-Za-z0-9.,=+_-]", "_", plain)[:MAX_NAME_LENGTH]
    if name != plain:
        name += "-" + hashlib.sha256(plain.encode()).hexdigest()[:8]
    return name


def inspect(run: Run) -> Progress:
    """Tell how far a run has come, and whether a process is at it, from its directory."""
    try:
        progress = read_progress(run)
        locked = progress.state != "done" and is_locked(run)
    except OSError as error:  # of this directory, not of others
        return Progress("failed", message=str(error))
    if locked:
        message = "another process is training it"
        progress = dataclasses.replace(progress, state="running", message=message)
    return progress


def is_locked(run: Run) -> bool:
    """Tell whether some process is training in the run's directory."""
    try:
        with (run.workdir / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def read_progress(run: Run) -> Progress:
    """Tell how far a run has come, from its record and log only: it is never "running"."""
    path = run.workdir / FILE_NAME
    try:
        lines = read_lines(path) if path.exists() else []
    except RunError as error:
        return Progress("failed", message=str(error))
    last = next((line for line in reversed(lines) if line["kind"] == "eval"), {})
    errors = last.get("error")
    done = bool(lines) and lines[-1]["kind"] == "end"
    message, code = ("", 0) if done else _failure(run.workdir / LOG)
    unfinished = "failed" if message else "interrupted" if lines else "waiting"
    return Progress(
        state="done" if done else unfinished,
        step=max((line.get("step", 0) for line in lines), default=0),
        split=last.get("split", ""),
        error=sum(errors) / len(errors) if errors else None,
        seconds=max((line.get("seconds", 0.0) for line in lines), default=0.0),
        message=message,
        exit_code=code,
    )


def note_exit(run: Run, code: int) -> None:
    """Append to the run's log how its process ended, for `read_progress`.

    Args:
      run: the run.
      code: its exit code, or minus the number of the signal that killed it.
    """
    # On a full disk it cannot be noted: the run counts as interrupted.
    with contextlib.suppress(OSError), (run.workdir / LOG).open("a") as log:
        log.write(f"\n{EXIT_NOTE}{code}\n")


def count_failures(run: Run) -> int:
    """Count how many of the run's processes failed, from its log."""
    log = run.workdir / LOG
    if not log.exists():
        return 0
    codes = re.findall(rf"^{EXIT_NOTE}(-?\d+)$", log.read_text(errors="replace"), re.MULTILINE)
    return sum(int(code) not in HARMLESS for code in codes)


def _failure(log: Path) -> tuple[str, int]:
    """Return why the last process of a run failed, and its exit code; "" and 0 if it did not."""
    if not log.exists():
        return "", 0
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 10_000))
        end = file.read().decode(errors="replace").splitlines()
    end = [line.strip() for line in end if line.strip()]
    if not end or not end[-1].startswith(EXIT_NOTE):
        return "", 0
    code = int(end[-1].removeprefix(EXIT_NOTE))
    if code in HARMLESS:
        return "", 0
    if code < 0:
        return f"killed by signal {-code} ({signal.strsignal(-code)})", code
    if code == 0:
        return "it ended without an error, but its record has no end.", code
    return end[-2] if len(end) > 1 else f"exit code {code}", code
