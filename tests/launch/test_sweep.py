import itertools
import json
import os
import re
import sys
from pathlib import Path

import pytest

from stn_jax.launch.cli import load_config_module
from stn_jax.launch.local import cpu_shares
from stn_jax.launch.sweep import LOG, Progress, Run, expand, inspect, note_exit
from stn_jax.training.loop import _exclusive
from tests.launching import write_toy

CONFIG = Path(__file__).parents[2] / "configs" / "distorted_mnist.py"

TOY_CONFIG = """
from ml_collections import ConfigDict

def get_config(selection=""):
    config = ConfigDict()
    config.name = selection[:3]
    config.data = selection
    config.training = ConfigDict({"num_steps": 4})
    return config

def sweep(selection=""):
    return selection.split(",")
"""


@pytest.fixture
def toy_config(tmp_path):
    return write_toy(tmp_path, TOY_CONFIG)


def name(*overrides):
    (run,) = expand(CONFIG, "R,FCN", "runs", overrides)
    return run.name


def test_a_sweep_has_the_declared_runs():
    runs = expand(CONFIG, "", "runs/all")
    module = load_config_module(CONFIG)
    assert [run.name for run in runs] == [module.get_config(s).name for s in module.sweep()]
    assert len({run.workdir for run in runs}) == len(runs) == 40
    assert {run.num_steps for run in runs} == {20_000}


def test_a_command_trains_one_run_in_its_directory():
    overrides = ["--config.seeds=(0,1)", "--config.training.num_steps=50"]
    run = expand(CONFIG, "quickstart,ST-FCN,FCN", "runs", overrides)[0]
    config_file, experiment = str(CONFIG), str(CONFIG.parents[1] / "experiments" / CONFIG.name)
    assert run.command == (
        *(sys.executable, experiment),
        *("--config", f"{config_file}:R,FCN,quickstart", "--workdir", str(run.workdir)),
        *overrides,
    )
    assert run.workdir == Path("runs/R-FCN-quickstart+seeds=0,1+training.num_steps=50")
    assert run.num_steps == 50


def test_the_experiment_is_found_from_relative_paths(toy_config, monkeypatch):
    for folder, path in ((toy_config.parents[1], "configs/toy.py"), (toy_config.parent, "toy.py")):
        monkeypatch.chdir(folder)
        (run,) = expand(path, "one", "runs")
        assert Path(run.command[1]).resolve() == toy_config.parents[1] / "experiments" / "toy.py"


def test_names_say_what_is_computed_however_it_is_written():
    rate, steps = "--config.optimizer.learning_rate=", "--config.training.num_steps="
    assert name() == name(rate + "0.001") == name(steps + "20000") == "R-FCN-fast"
    expected = "R-FCN-fast+optimizer.learning_rate=0.0003+training.num_steps=70"
    assert name(rate + "3e-4", steps + "70") == expected
    assert name(steps + "70", rate + "0.0003") == expected
    assert name(steps + "5", steps + "70", rate + "0.0003") == expected
    assert name("--config.runtime.steps_per_call=1") == "R-FCN-fast"


@pytest.mark.parametrize(
    "field", ["name=../../etc/x y", "name=" + "a" * 400, "data.digits=$(ls); *", "name=ü\n\t:"]
)
def test_names_are_safe_for_file_systems_and_shells(field):
    names = {name(f"--config.{field}"), name(f"--config.{field}?"), name(f"--config.{field}!")}
    assert len(names) == 3
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.,=+_-]{,199}", n) for n in names)


@pytest.mark.parametrize(
    ("selection", "override", "message"),
    [
        ("", "--config.training.num_step=1", 'Did you mean "num_steps"'),
        ("", "--config.training.num_steps=many", "many"),
        ("", "--config.training.num_steps", "--config.FIELD=VALUE, not '--config.training"),
        ("", "--workdir=x", "--config.FIELD=VALUE, not '--workdir=x'"),
        ("", "extra", "not 'extra'"),
        ("", "--config=other.py", "not '--config=other.py'"),
        ("R,ST-FNC", "--config.training.num_steps=1", "Did you mean ST-FCN?"),
    ],
)
def test_wrong_selections_and_overrides_are_named(selection, override, message):
    with pytest.raises(Exception, match=re.escape(message)):
        expand(CONFIG, selection, "runs", [override])


def test_a_run_that_is_named_twice_is_one_run(toy_config):
    assert [run.name for run in expand(toy_config, "one,two,one", "runs")] == ["one", "two"]


def test_two_different_runs_of_one_name_are_an_error(toy_config):
    with pytest.raises(ValueError, match="two different runs of the sweep have the name one"):
        expand(toy_config, "one,one2", "runs")


def test_missing_files_and_sweeps_are_named(toy_config):
    with pytest.raises(FileNotFoundError, match="there is no config file .*tyo.py"):
        expand(toy_config.with_name("tyo.py"), "", "runs")
    experiment = toy_config.parents[1] / "experiments" / "toy.py"
    experiment.unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(f"trained by {experiment}, which is")):
        expand(toy_config, "one", "runs")
    toy_config.write_text("def get_config(): pass")
    with pytest.raises(ValueError, match=r"toy.py declares no sweep\(selection\)"):
        expand(toy_config, "one", "runs")


HEADER = {"kind": "run", "name": "toy"}
SESSION = {"kind": "session", "step": 0}
EVAL = {"kind": "eval", "step": 2, "split": "test", "loss": [1.0, 1.0], "error": [2.0, 4.0]}
TIMING = {"kind": "timing", "step": 2, "seconds": 1.5}
END = {"kind": "end", "step": 4, "seconds": 3.0}


@pytest.fixture
def run(tmp_path):
    return Run("toy", tmp_path / "toy", 4, ("true",))


def write(run, *lines, log=""):
    run.workdir.mkdir(exist_ok=True)
    if lines:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (run.workdir / "record.jsonl").write_text(text)
    (run.workdir / LOG).write_text(log)


def test_records_tell_how_far_a_run_is(run):
    assert inspect(run) == Progress("waiting")
    write(run)
    assert inspect(run) == Progress("waiting")
    write(run, HEADER, SESSION)
    assert inspect(run) == Progress("interrupted")
    write(run, HEADER, SESSION, EVAL, TIMING)
    assert inspect(run) == Progress("interrupted", 2, "test", 3.0, 1.5)
    write(run, HEADER, SESSION, EVAL, TIMING, END)
    assert inspect(run) == Progress("done", 4, "test", 3.0, 3.0)
    (run.workdir / "record.jsonl").write_text("hello\nworld\n")
    progress = inspect(run)
    assert progress.state == "failed" and "record.jsonl, line 1" in progress.message


def test_a_record_cut_off_in_the_middle_of_a_line_counts_up_to_there(run):
    write(run, HEADER, SESSION, EVAL, TIMING)
    with (run.workdir / "record.jsonl").open("a") as file:
        file.write('{"kind": "end", "st')
    assert inspect(run) == Progress("interrupted", 2, "test", 3.0, 1.5)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (75, ""),
        (-15, ""),
        (1, "toy.py: no data."),
        (3, "toy.py: no data."),
        (-9, "killed by signal 9 (Killed)"),
        (0, "it ended without an error, but its record has no end."),
    ],
)
def test_the_end_of_a_process_tells_failed_from_interrupted(run, code, message):
    write(run, HEADER, SESSION, EVAL, log="x\n" * 9000 + "toy.py: no data.\n \n")
    note_exit(run, code)
    progress = inspect(run)
    assert (progress.state, progress.message) == ("failed" if message else "interrupted", message)
    assert progress.step == 2
    with (run.workdir / LOG).open("a") as log:
        log.write("sweep: begun again\n")
    assert inspect(run).state == "interrupted"


def test_a_finished_run_did_not_fail_whatever_its_process_did_later(run):
    write(run, HEADER, SESSION, END, log="Aborted\n")
    note_exit(run, -6)
    assert inspect(run) == Progress("done", 4, seconds=3.0)


def test_a_directory_that_training_holds_is_running(run):
    write(run, HEADER, SESSION, EVAL)
    with _exclusive(run.workdir):
        held = inspect(run)
    assert (held.state, held.step) == ("running", 2)
    assert "another process" in held.message
    assert inspect(run).state == "interrupted"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")
@pytest.mark.parametrize("cores", [1, 2, 7, 16])
def test_workers_share_the_cores(monkeypatch, cores):
    available = set(range(100, 100 + cores))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: available)
    for workers in range(1, 20):
        shares = cpu_shares(workers)
        sizes = [len(share) for share in shares]
        assert len(shares) == workers and min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
        assert set().union(*shares) == available
        if workers <= cores:
            assert not any(set(a) & set(b) for a, b in itertools.combinations(shares, 2))
