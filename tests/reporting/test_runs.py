import json
import math

import pytest

from stn_jax.reporting.runs import RecordError, find_runs
from stn_jax.training.records import Record
from tests.reporting.synthetic import config_of, write_record

PLACE = ("R", "FCN", "")


def the_run(folder):
    (run,) = find_runs([folder])
    return run


def test_reads_what_training_writes(tmp_path):
    config = config_of("distorted_mnist", PLACE, "fast") | {"seeds": [3, 5]}
    header = {"name": "n", "config": config, "parameters": 7, "data": {"fingerprint": "f"}}
    (tmp_path / "run").mkdir()
    record = Record(tmp_path / "run", header)
    record.resume(0)
    record.write("train", 1000, loss=[1.0, 2.0], error=[10.0, 20.0])
    record.write("timing", 1000, seconds=9.0)
    assert the_run(tmp_path).status == "unfinished"
    record.write("eval", 1000, split="test", loss=[0.6, 0.3], error=[6.0, 3.0], overlap=[0.5, 0.6])
    final = {"loss": [0.5, 0.25], "error": [5.0, 2.5], "overlap": [0.7, 0.8]}
    record.write("eval", 2000, split="test", **final)
    record.write("end", 2000, seconds=20.0)

    run = the_run(tmp_path)
    assert (run.name, run.parameters, run.fingerprint, run.seeds) == ("n", 7, "f", [3, 5])
    assert (run.status, run.step, run.num_steps, run.seconds) == ("finished", 2000, 2000, 20.0)
    assert run.label == "run" and run.folder == tmp_path / "run"
    assert run.commits and run.devices
    assert run.measured["train"].steps == [1000]
    assert run.measured["train"].loss == [[1.0, 2.0]]
    assert run.measured["test"].error == [[6.0, 3.0], [5.0, 2.5]]
    assert run.measured["test"].others == {"overlap": {1000: [0.5, 0.6], 2000: [0.7, 0.8]}}
    assert run.final_others("test", "overlap") == {3: 0.7, 5: 0.8}
    assert run.final_others("test", "digit_error") == run.final_others("train", "overlap") == {}
    assert run.final_errors("test") == {3: 5.0, 5: 2.5}
    assert run.final_errors("validation") == {}


def test_resumed_elsewhere_lists_both_places(tmp_path):
    device = {"platform": "cpu", "kind": "cpu", "count": 1, "cpu": "A CPU", "cores": 2}
    session = {"kind": "session", "step": 1000, "code": "def456", "device": device}
    write_record(tmp_path / "run", more=[session, session])
    run = the_run(tmp_path)
    assert run.commits == ["abc123", "def456"]
    assert run.devices == ["Fast GPU", "A CPU"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"errors": [math.nan]},
        {"upto": 1000, "more": [{"kind": "diverged", "step": 1300}]},
    ],
)
def test_diverged(tmp_path, arguments):
    write_record(tmp_path / "run", **arguments)
    run = the_run(tmp_path)
    assert run.status == "diverged"
    assert run.final_errors("test") == {}


def test_the_last_step_s_error_needs_an_end(tmp_path):
    write_record(tmp_path / "run", end=False)
    run = the_run(tmp_path)
    assert run.measured["test"].steps == [1000, 2000]
    assert run.status == "unfinished"
    assert run.final_errors("test") == {}


def test_a_last_line_cut_off_by_a_crash_is_left_out(tmp_path):
    path = write_record(tmp_path / "run")
    path.write_text(path.read_text()[:-10])
    assert the_run(tmp_path).status == "unfinished"


def test_labels_are_relative_and_overlapping_folders_count_once(tmp_path):
    for name in ("a/one", "b/two"):
        write_record(tmp_path / name)
    folders = [tmp_path / "a", tmp_path / "b", tmp_path / "b/two"]
    assert [run.label for run in find_runs(folders)] == ["a/one", "b/two"]
    assert [run.label for run in find_runs([tmp_path / "a/one"])] == ["one"]


def without(line, *keys):
    for key in keys[:-1]:
        line = line[key]
    del line[keys[-1]]


@pytest.mark.parametrize(
    "text",
    ["", "\n", "[]", "3", "{}", '{"kind": "run"}', '{"kind": "r', "not a record\n{}\n"],
)
def test_a_foreign_file_is_named(tmp_path, text):
    path = tmp_path / "run" / "record.jsonl"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(RecordError) as caught:
        find_runs([tmp_path])
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_binary_files_are_named(tmp_path):
    path = tmp_path / "record.jsonl"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordError, match=str(path)):
        find_runs([tmp_path])


@pytest.mark.parametrize(
    ("number", "keys"),
    [
        (0, ["config", "seeds"]),
        (0, ["config", "training", "num_steps"]),
        (0, ["config", "recipe"]),
        (0, ["data", "fingerprint"]),
        (0, ["parameters"]),
        (1, ["device"]),
        (2, ["error"]),
        (2, ["kind"]),
    ],
)
def test_a_record_that_lacks_something_is_named(tmp_path, number, keys):
    path = write_record(tmp_path / "run")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    without(lines[number], *keys)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(RecordError, match=rf"{path}: not a run record .*{keys[-1]}"):
        find_runs([tmp_path])


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    path = write_record(tmp_path / "run")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], lines[3][:-5], *lines[4:]]))
    with pytest.raises(RecordError, match=f"{path}, line 4: not JSON"):
        find_runs([tmp_path])


def test_measurements_must_be_one_a_seed(tmp_path):
    path = write_record(tmp_path / "run", seeds=[0, 1], errors=[1.0])
    with pytest.raises(RecordError, match=rf"{path}: .*one a seed, of \[0, 1\]"):
        find_runs([tmp_path])


def test_other_measurements_must_be_one_a_seed_too(tmp_path):
    line = {"kind": "eval", "step": 9, "split": "test", "loss": [1.0], "error": [1.0]}
    write_record(tmp_path / "a", more=[line | {"overlap": [0.5, 0.6]}])
    with pytest.raises(RecordError, match="the measurements are not one a seed"):
        find_runs([tmp_path])


def test_nothing_there(tmp_path):
    with pytest.raises(RecordError, match=f"no record.jsonl below {tmp_path}"):
        find_runs([tmp_path])
    with pytest.raises(RecordError, match=f"no folder {tmp_path}/x"):
        find_runs([tmp_path, tmp_path / "x"])
