"""Run records as tables and figures read them; `stn_jax.training.records` says what is in them."""

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE_NAME = "record.jsonl"
# What the first line of a record says of the data themselves.
OF_DATA = ("name", "fingerprint", "train", "test")
# Fields of the config that say which seeds and how to run and watch, not what is computed.
INCIDENTAL = (
    "experiment",
    "name",
    "seeds",
    "runtime",
    "training.log_every",
    "training.eval_every",
    "training.eval_batch_size",
)


class RecordError(ValueError):
    """Records that cannot be reported; the message is one line and names the file."""


@dataclass
class Measurements:
    """What was measured along a run.

    Attributes:
      steps: [N].
      loss: [N][seeds].
      error: [N][seeds], in percent.
      others: name -> step -> [seeds]: what was measured beside these, where it was.
    """

    steps: list[int] = field(default_factory=list)
    loss: list[list[float]] = field(default_factory=list)
    error: list[list[float]] = field(default_factory=list)
    others: dict[str, dict[int, list[float]]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class Run:
    """One run, of one or several seeds.

    Attributes:
      label: the run's folder, relative to the folders that were searched.
      path: the record file.
      name: runs of the same settings and other seeds share it.
      config: the config as nested dicts.
      seeds: in the order of every list of measurements.
      parameters: the number of trainable scalars.
      fingerprint: of the data.
      data: what the record calls the data; None where it does not.
      beside: what else was given to the run, such as the weights that it began with.
      num_trained: examples that are trained on; None where the record does not say.
      num_tested: examples of the set that is evaluated on; likewise.
      status: "finished", "diverged" or "unfinished".
      step: the last step that the record knows of.
      seconds: time in training, of all seeds together.
      commits: the versions of the code, one a session unless the same.
      devices: the devices, likewise.
      measured: by "train" or the split's name.
    """

    label: str
    path: Path
    name: str
    config: dict[str, Any]
    seeds: list[int]
    parameters: int
    fingerprint: str
    data: str | None
    beside: dict[str, Any]
    num_trained: int | None
    num_tested: int | None
    status: str
    step: int
    seconds: float
    commits: list[str]
    devices: list[str]
    measured: dict[str, Measurements]

    @property
    def experiment(self) -> str:
        """What was trained; records of distorted MNIST, which came first, do not say it."""
        return self.config.get("experiment", "distorted_mnist")

    @property
    def folder(self) -> Path:
        """The run's work directory."""
        return self.path.parent

    @property
    def num_steps(self) -> int:
        """The steps that the run is to take."""
        return self.config["training"]["num_steps"]

    def final_errors(self, split: str) -> dict[int, float]:
        """Return the last step's error by seed; {} unless the run finished and measured `split`."""
        measured = self.measured.get(split, Measurements())
        if self.status != "finished" or self.num_steps not in measured.steps:
            return {}
        return dict(
            zip(self.seeds, measured.error[measured.steps.index(self.num_steps)], strict=True)
        )

    def final_others(self, split: str, name: str) -> dict[int, float]:
        """Return another measure of the last step by seed; {} as with errors, or if there is none.

        Args:
          split: that it was measured on.
          name: of the measure, as the record has it.
        """
        steps = self.measured.get(split, Measurements()).others.get(name, {})
        if self.status != "finished" or self.num_steps not in steps:
            return {}
        return dict(zip(self.seeds, steps[self.num_steps], strict=True))


def find_runs(folders: Iterable[str | Path]) -> list[Run]:
    """Read every record below some folders.

    Raises:
      RecordError: if a folder or all records are missing, or a file is not a run record.
    """
    folders = [Path(folder).resolve() for folder in folders]
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        raise RecordError(f"there is no folder {', '.join(missing)}.")
    # Folders may overlap: each record counts once.
    paths = sorted({path for folder in folders for path in folder.rglob(FILE_NAME)})
    if not paths:
        raise RecordError(f"there is no {FILE_NAME} below {', '.join(map(str, folders))}.")
    return [read_run(path, relative_to=Path(os.path.commonpath(folders))) for path in paths]


def read_run(path: Path, *, relative_to: Path) -> Run:
    """Read one record; a last line that was cut off by a crash is left out.

    Args:
      path: the file.
      relative_to: a folder above it, which labels leave out.

    Raises:
      RecordError: if the file is not a run record.
    """
    lines = _read_lines(path)
    label = path.parent.relative_to(relative_to).as_posix()
    try:
        run, sessions = lines[0], [line for line in lines if line["kind"] == "session"]
        config = run["config"]
        config["training"]["num_steps"], config["recipe"]  # noqa: B018
        devices = [line["device"] for line in sessions]
        result = Run(
            label=path.parent.name if label == "." else label,
            path=path,
            name=run["name"],
            config=config,
            seeds=list(config["seeds"]),
            parameters=run["parameters"],
            fingerprint=run["data"]["fingerprint"],
            data=run["data"].get("name"),
            beside={k: v for k, v in run["data"].items() if k not in OF_DATA},
            num_trained=run["data"].get("train"),
            num_tested=run["data"].get("test"),
            status=_status(lines),
            step=max(line.get("step", 0) for line in lines),
            seconds=max(line.get("seconds", 0.0) for line in lines),
            commits=_distinct(line["code"] for line in sessions),
            devices=_distinct(d["cpu"] if d["platform"] == "cpu" else d["kind"] for d in devices),
            measured=_measurements(lines),
        )
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise RecordError(f"{path}: not a run record ({type(error).__name__}: {error}).") from error
    rows = [row for m in result.measured.values() for row in (*m.loss, *m.error)]
    others = [steps for m in result.measured.values() for steps in m.others.values()]
    rows += [row for steps in others for row in steps.values()]
    if any(len(row) != len(result.seeds) for row in rows):
        raise RecordError(f"{path}: the measurements are not one a seed, of {result.seeds}.")
    return result


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a config that decide what is computed, by their dotted names."""

    def flat(fields: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for key, value in fields.items():
            name = prefix + key
            if name in INCIDENTAL:
                continue
            if isinstance(value, dict):
                yield from flat(value, name + ".")
            else:
                yield name, value

    return dict(flat(config, ""))


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: cannot be read ({error}).") from error
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError as error:
            if number == len(texts) > 1:
                break
            raise RecordError(f"{path}, line {number}: not JSON ({error.msg}).") from error
    return lines


def _status(lines: list[dict[str, Any]]) -> str:
    kinds = {line["kind"] for line in lines}
    losses = [value for line in lines if line["kind"] == "eval" for value in line["loss"]]
    # The last update can spoil the parameters too late for training to notice.
    if "diverged" in kinds or not all(map(math.isfinite, losses)):
        return "diverged"
    return "finished" if "end" in kinds else "unfinished"


def _measurements(lines: list[dict[str, Any]]) -> dict[str, Measurements]:
    measured: dict[str, Measurements] = {}
    for line in lines:
        if line["kind"] in ("train", "eval"):
            series = measured.setdefault(line.get("split", "train"), Measurements())
            series.steps.append(line["step"])
            series.loss.append(line["loss"])
            series.error.append(line["error"])
            for name in line.keys() - {"kind", "split", "step", "loss", "error"}:
                series.others.setdefault(name, {})[line["step"]] = line[name]
    return measured


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
