import importlib.metadata
import json

import numpy as np
import pytest

from stn_jax.training import records
from stn_jax.training.errors import ConfigError
from stn_jax.training.records import Record, environment, peak_memory, read_lines

HEADER = {"name": "a", "config": {"seeds": (0, 1), "runtime": {"steps_per_call": 1}}}


def test_lines_are_json_and_numbers_are_short(tmp_path):
    record = Record(tmp_path, HEADER)
    record.resume(0)
    record.write("train", 10, loss=[1 / 3, 2e-12 / 3], error=[0.0, 100.0])
    header, session, train = read_lines(record.path)
    assert header == {"kind": "run", **HEADER, "config": json.loads(json.dumps(HEADER["config"]))}
    assert session["device"]["platform"] and session["packages"]["jax"]
    assert train == {
        "kind": "train",
        "step": 10,
        "loss": [0.333333, 6.66667e-13],
        "error": [0, 100],
    }


def test_resuming_drops_later_lines_and_keeps_earlier_ones(tmp_path):
    record = Record(tmp_path, HEADER)
    record.resume(0)
    for step in (10, 20, 30):
        record.write("train", step, loss=[float(step)])
        record.write("timing", step, seconds=step / 10)
    again = Record(tmp_path, HEADER)
    again.resume(20)
    assert [line["step"] for line in read_lines(again.path) if line["kind"] == "train"] == [10, 20]
    assert again.seconds == 2.0
    assert not again.finished
    again.write("end", 20, seconds=2.0)
    assert Record(tmp_path, HEADER).finished


def test_runtime_settings_may_differ_others_not(tmp_path):
    Record(tmp_path, HEADER)
    Record(tmp_path, {**HEADER, "config": {"seeds": (0, 1), "runtime": {"steps_per_call": 5}}})
    with pytest.raises(ConfigError, match=r"config.seeds: \[0, 1\] there, \[2\] now"):
        Record(tmp_path, {**HEADER, "config": {"seeds": (2,), "runtime": {}}})
    with pytest.raises(ConfigError, match='name: "a" there, absent now; kind|name: "a" there'):
        Record(tmp_path, {"config": HEADER["config"]})


def test_damage_in_the_middle_is_reported_and_a_torn_end_is_not(tmp_path):
    record = Record(tmp_path, HEADER)
    with record.path.open("a") as file:
        file.write('{"kind": "train", "st')
    assert len(read_lines(record.path)) == 1
    with record.path.open("a") as file:
        file.write('\n{"kind": "end", "step": 3}\n')
    with pytest.raises(ConfigError, match=r"record.jsonl, line 2: not a record"):
        read_lines(record.path)


def test_the_most_memory_is_remembered():
    large = np.ones(2**25)  # 256 MiB
    most = peak_memory()
    assert most >= large.nbytes
    del large
    assert peak_memory() >= most


def test_environment_names_no_place():
    assert "/" not in json.dumps({k: v for k, v in environment().items() if k != "device"})


def test_a_copy_without_a_repository_says_its_commit_if_it_was_told(monkeypatch, tmp_path):
    monkeypatch.setattr(records, "__file__", str(tmp_path / "stn_jax" / "training" / "records.py"))
    (tmp_path / "stn_jax").mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("STN_JAX_COMMIT", raising=False)
    installed = importlib.metadata.version

    def version(name):
        if name == "stn-jax":
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "version", version)
        assert environment()["code"] == "unknown"
        patch.setattr(importlib.metadata, "version", lambda name: "1.2.3")
        assert environment()["code"] == "1.2.3"
    monkeypatch.setenv("STN_JAX_COMMIT", "0123456789ab")
    assert environment()["code"] == "0123456789ab"
