r"""Run records: one JSON-lines file a run, from which every reported number can be traced.

Lines, by "kind":

    run      first line: name, config, seeds, parameters, data. What must not change on resuming.
    session  one a process: code and package versions, device, time, the step it began at.
    train    means since the last such line: {"step", "loss": [one a seed], "error": [...]}.
    eval     {"step", "split", "loss": [...], "error": [...]}, over every example of the split.
    timing   {"step", "seconds", "memory"}: time in training so far, over all sessions, and the
             most bytes that this one has held: of its first device, or of the process on a CPU.
    diverged {"step"}: loss or gradient were not finite in the steps before it, and the run stopped.
    end      the run is finished: {"step", "seconds"}.

A run that was killed and resumed has the same run, train and eval lines as an undisturbed one.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

from stn_jax.training.errors import ConfigError, RunError

FILE_NAME = "record.jsonl"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class Record:
    """The record of one run, opened for writing."""

    def __init__(self, workdir: Path, header: dict[str, Any], *, writes: bool = True):
        """Open the record in a work directory, or begin it.

        Args:
          workdir: where the record lies.
          header: the content of the "run" line.
          writes: whether the file changes; of several processes that train the run, one does that.

        Raises:
          ConfigError: if the directory holds the record of a different run; the message names
            the fields that differ.
        """
        self.path = Path(workdir) / FILE_NAME
        self._writes = writes
        header = json.loads(json.dumps({"kind": "run", **header}))
        self._lines = read_lines(self.path) if self.path.exists() else []
        if self._lines:
            _check_same_run(self._lines[0], header, self.path)
        else:
            self._lines = [header]
            self._rewrite()

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self._lines[-1]["kind"] == "end"

    @property
    def seconds(self) -> float:
        """Time in training so far."""
        times = [line["seconds"] for line in self._lines if line["kind"] == "timing"]
        return times[-1] if times else 0.0

    def resume(self, step: int) -> None:
        """Drop what was written after `step`, and begin a session there.

        Raises:
          RunError: if the record has nothing of that step: it is not the one of the checkpoint.
        """
        steps = {line["step"] for line in self._lines if line["kind"] == "timing"}
        if step and step not in steps:
            last = f"ends at step {max(steps)}" if steps else "was begun anew"
            raise RunError(
                f"{self.path} {last}, but the checkpoint beside it is of step {step}: they are not "
                "of one run. Put back the record that belongs to it, or remove the checkpoints."
            )
        self._lines = [line for line in self._lines if line.get("step", 0) <= step]
        self._lines.append(
            {
                "kind": "session",
                "step": step,
                "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                **environment(),
            }
        )
        self._rewrite()

    def write(self, kind: str, step: int, **fields: Any) -> None:
        """Append a line; numbers are rounded to 6 significant digits."""
        line = {"kind": kind, "step": step, **_rounded(fields)}
        self._lines.append(line)
        if not self._writes:
            return
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _rewrite(self) -> None:
        if not self._writes:
            return
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("w") as file:
            file.writelines(json.dumps(line) + "\n" for line in self._lines)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a record; a last line that was cut off by a crash is left out."""
    texts = Path(path).read_text().splitlines()
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError as error:
            if number == len(texts):
                break
            raise ConfigError(f"{path}, line {number}: not a record ({error.msg}).") from error
    return lines


def environment() -> dict[str, Any]:
    """Return what a number can depend on besides the config: code, packages and device."""
    device = jax.devices()[0]
    return {
        "code": _code_version(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
            "processes": jax.process_count(),
            "cpu": _cpu_name(),
            "cores": os.cpu_count(),
        },
    }


def peak_memory() -> int:
    """Return the most bytes held so far: of the first device or, where that is a CPU, in all."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics:
        return statistics["peak_bytes_in_use"]
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _code_version() -> str:
    """Return the commit of this package, marked if files differ from it.

    Of a copy without a repository STN_JAX_COMMIT can name it; otherwise there is the version of
    the installed package, if it is installed.
    """
    folder = Path(__file__).parents[1]
    git = ["git", "-C", str(folder)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no", "--", "."],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        commit, changes = os.environ.get("STN_JAX_COMMIT", ""), ""
    if not commit:
        try:
            return importlib.metadata.version("stn-jax")
        except importlib.metadata.PackageNotFoundError:
            return "unknown"
    return commit + ("+changes" if changes else "")


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _check_same_run(found: dict[str, Any], wanted: dict[str, Any], path: Path) -> None:
    differences = [
        f"{name}: {_show(old)} there, {_show(new)} now"
        for name, old, new in _differences(found, wanted)
        if not name.startswith("config.runtime.")
    ]
    if differences:
        raise ConfigError(
            f"{path.parent} holds a different run ({'; '.join(differences)}). "
            "Use another work directory, or remove this one."
        )


def _differences(a: Any, b: Any, prefix: str = ""):
    if isinstance(a, dict) and isinstance(b, dict):
        for name in [*a, *(name for name in b if name not in a)]:
            yield from _differences(
                a.get(name, _ABSENT), b.get(name, _ABSENT), f"{prefix}.{name}".lstrip(".")
            )
    elif a != b:
        yield prefix, a, b


_ABSENT = object()


def _show(value: Any) -> str:
    return "absent" if value is _ABSENT else json.dumps(value)
