"""Searches and manifests of scripts/sweep.py, over a toy experiment that needs no JAX."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stn_jax.launch.cli import load_config_module
from stn_jax.launch.search import open_searches
from tests.launching import sweep_toy, write_toy

CONFIG = """
from ml_collections import ConfigDict
from stn_jax.launch.expand import Range, grid, select, seeds

def get_config(selection=""):
    config = ConfigDict()
    config.name = selection or "toy"
    config.seeds = (0,)
    config.data = ConfigDict({"evaluate_on": "test"})
    config.training = ConfigDict({"num_steps": 4, "rate": 0.1})
    return config

def sweep(selection=""):
    return grid(select("a"), seeds(2)) if selection == "seeds" else ["a", "b"]

def search(selection=""):
    return {"training.rate": Range(low=0.0, high=1.0)}
"""

# Its error is lowest at the rate 0.3; rates above 0.9 diverge.
EXPERIMENT = """
import json, sys
from pathlib import Path
flag1, config, flag2, workdir, *texts = sys.argv[1:]
fields = dict(text.split("=", 1) for text in texts)
rate = float(fields.get("--config.training.rate", 0.1))
split = fields.get("--config.data.evaluate_on", "test")
error = 100 * abs(rate - 0.3)
lines = [
    {"kind": "run"},
    {"kind": "eval", "step": 4, "split": split, "loss": [1.0], "error": [error]},
    {"kind": "end", "step": 4, "seconds": 1.0},
]
lines = lines[:1] if rate > 0.9 else lines
Path(workdir, "record.jsonl").write_text("".join(json.dumps(x) + chr(10) for x in lines))
sys.exit(3 if rate > 0.9 else 0)
"""


@pytest.fixture(autouse=True)
def toy(tmp_path, monkeypatch):
    write_toy(tmp_path, CONFIG, EXPERIMENT)
    monkeypatch.chdir(tmp_path)


def splits():
    """Return what the runs were evaluated on, by name."""
    found = {}
    for path in Path("runs").glob("*/record.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found[path.parent.name] = {line["split"] for line in lines if "split" in line}
    return found


def test_a_search_measures_test_errors_of_what_was_chosen_alone(capsys):
    pytest.importorskip("optuna")
    assert sweep_toy("--search", "6", "--workers", "2") == 0
    on = splits()
    tested = [name for name, found in on.items() if found == {"test"}]
    assert len(on) == 14 and len(tested) == 2
    chosen = json.loads(Path("runs/chosen.json").read_text())
    for name, found in chosen.items():
        trials = [run for run in on if run.startswith(f"{name}+data.evaluate_on=validation")]
        rates = [float(re.search(r"rate=([\d.e-]+)", run)[1]) for run in trials]
        best = min(rates, key=lambda rate: abs(rate - 0.3))
        assert f"{name}+training.rate={best}" in tested
        assert found["settings"] == {"training.rate": best}
    out = capsys.readouterr().out
    assert re.search(r"a: .*validation error .* the lowest of \d trials. Now on the test set:", out)

    assert sweep_toy("--search", "6", "--workers", "2") == 0
    assert splits() == on
    assert sweep_toy("--search", "6", "--status") == 0
    out = capsys.readouterr().out
    assert out.count("done") >= 10


def test_trials_that_ended_while_nobody_looked_lead_to_the_test_set():
    """As those of jobs do, between two calls."""
    pytest.importorskip("optuna")
    module = load_config_module("configs/toy.py")
    for search in open_searches("configs/toy.py", module, "", Path("runs")):
        for run in search.next_runs(2, at_once=2):
            run.workdir.mkdir()
            subprocess.run(run.command)
    assert sweep_toy("--search", "2") == 0
    on = splits()
    assert len(on) == 6 and [*on.values()].count({"test"}) == 2


def test_one_search_without_a_result_leaves_the_other_alone(capsys):
    pytest.importorskip("optuna")
    toy = Path("experiments/toy.py")
    toy.write_text(EXPERIMENT.replace("rate > 0.9", 'rate > 0.9 or "/b" in workdir'))
    assert sweep_toy("--search", "2") == 1
    assert "b: every trial failed." in capsys.readouterr().err
    assert list(json.loads(Path("runs/chosen.json").read_text())) == ["a"]
    assert [*splits().values()].count({"test"}) == 1


def test_what_says_nothing_about_the_settings_is_tried_again(capsys):
    """A run that diverges is a trial; one that is killed, say, only after three of them."""
    pytest.importorskip("optuna")
    toy = Path("experiments/toy.py")
    toy.write_text("import sys; print('no space left'); sys.exit(1)")
    for _ in range(2):
        assert sweep_toy("--search", "2", "--workers", "2", selection="") == 1
        assert "The same command tries 4 of them again." in capsys.readouterr().out
    first = {path.parent.name for path in Path("runs").glob("*/log.txt")}
    toy.write_text(EXPERIMENT)
    assert sweep_toy("--search", "2", "--workers", "2") == 0
    assert json.loads(Path("runs/chosen.json").read_text())["a"]["trial"] in first

    toy.write_text("import sys; sys.exit(1)")
    said = []
    for code in (1, 1, 0):
        assert sweep_toy("--search", "3", "--workers", "2") == code
        said.append(capsys.readouterr().out)
    assert "tries 2 of them again" in said[1] and "of 2 trials" in said[2]


def test_a_search_without_ranges_or_optuna_starts_nothing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert sweep_toy("--search", "2") == 2
    assert '--search needs Optuna: pip install "stn-jax[cluster]"' in capsys.readouterr().err
    Path("configs/toy.py").write_text(CONFIG.replace("def search", "def find"))
    assert sweep_toy("--search", "2") == 2
    assert "declares no search(selection)" in capsys.readouterr().err


def test_the_manifest_has_the_commands_of_all_sweeps_of_a_directory():
    assert sweep_toy(selection="seeds") == 0
    assert sweep_toy() == 0
    manifest = json.loads(Path("runs/manifest.json").read_text())
    assert list(manifest) == ["a", "a+seeds=1", "b"]
    entry = manifest["a+seeds=1"]
    assert entry["steps"] == 4 and entry["command"][-1] == "--config.seeds=(1,)"
    assert set(splits()) == set(manifest)


def test_only_slurm_jobs_are_cancelled(capsys):
    assert sweep_toy("--cancel") == 2
    assert "--cancel needs --launcher slurm" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--partition=gpu", "--gpus=1", "--profile=profile.toml"])
def test_what_is_of_slurm_is_not_ignored_elsewhere(flag, capsys):
    assert sweep_toy(flag) == 2
    name = flag.partition("=")[0]
    assert f"{name} is of --launcher slurm, which is not given" in capsys.readouterr().err
