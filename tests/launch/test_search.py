"""Searches over a toy whose error is known; nothing is trained."""

import functools
import json
import re
import shutil
from pathlib import Path

import pytest

from stn_jax.launch.cli import load_config_module
from stn_jax.launch.expand import Range
from stn_jax.launch.search import JOURNAL, SAMPLERS, open_searches, write_chosen
from stn_jax.launch.sweep import Progress
from tests.launching import write_toy

pytest.importorskip("optuna")

CONFIG = """
from ml_collections import ConfigDict
from stn_jax.launch.expand import Range

def get_config(selection=""):
    config = ConfigDict()
    config.name = selection or "toy"
    config.data = ConfigDict({"evaluate_on": "test"})
    config.training = ConfigDict({"num_steps": 4, "rate": 0.1, "size": 3, "order": (1,)})
    return config

def sweep(selection=""):
    return ["a", "b"]

def search(selection=""):
    return {
        "training.rate": Range(low=0.0, high=1.0),
        "training.size": Range(low=1, high=9, whole=True),
        "training.order": [(1,), (2, 3)],
    }
"""


@pytest.fixture
def config_file(tmp_path):
    return write_toy(tmp_path, CONFIG)


def open_all(config_file, **options):
    module = load_config_module(config_file)
    return open_searches(config_file, module, "", config_file.parents[1] / "runs", **options)


def rewrite(config_file, text):
    """Change a config file, and what Python compiled: it is known by its second and size alone."""
    config_file.write_text(text)
    shutil.rmtree(config_file.parent / "__pycache__", ignore_errors=True)


def rate(run):
    found = re.search(r"training.rate=([\d.e-]+)", run.name)
    return float(found[1]) if found else 0.1


def train(run, *lines):
    """Leave the record of a run whose error is lowest at the rate 0.3."""
    error = 100 * abs(rate(run) - 0.3)
    lines = lines or (
        {"kind": "run"},
        {"kind": "eval", "step": 4, "split": "validation", "loss": [1.0], "error": [error]},
        {"kind": "end", "step": 4, "seconds": 1.0},
    )
    run.workdir.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run.workdir / "record.jsonl").write_text(text)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_finds_the_lowest_validation_error(config_file, sampler):
    search, _ = open_all(config_file, sampler=sampler, seed=1)
    tried = []
    while search.is_open(12):
        runs = search.next_runs(12, at_once=5)
        assert 1 <= len(runs) <= 5
        for run in runs:
            train(run)
        tried += runs
        search.next_runs(12, at_once=0)  # what is done is told
    assert len({run.name for run in tried}) == len(tried) == 12
    assert all("+data.evaluate_on=validation" in run.name for run in tried)
    known = [run.name for run in search.known_runs()]
    assert sorted(known) == sorted(run.name for run in [*tried, search.final_run()])

    chosen = search.choose()
    best = min(tried, key=lambda run: abs(rate(run) - 0.3))
    assert chosen.trial == best and chosen.count == 12
    final = search.final_run()
    assert "validation" not in " ".join(final.command)
    assert final.name == best.name.replace("+data.evaluate_on=validation", "")


def test_a_search_goes_on_where_it_stopped(config_file):
    def names(searches):
        return [run.name for search in searches for run in search.next_runs(3, at_once=2)]

    first = names(open_all(config_file))
    assert len(first) == 4 and first == names(open_all(config_file))
    searches = open_all(config_file)
    for search in searches:
        train(search.next_runs(3, at_once=2)[0])
    second = names(open_all(config_file))
    assert len(second) == 4 and len({*first} - {*second}) == 2
    assert (config_file.parents[1] / "runs" / JOURNAL).exists()


def test_a_search_that_was_interrupted_tries_what_it_would_have_tried(config_file):
    def names(at_once):
        (config_file.parents[1] / "runs" / JOURNAL).unlink(missing_ok=True)
        found = []
        while len(found) < 6:
            search, _ = open_all(config_file, sampler="random", seed=3)
            runs = search.next_runs(6, at_once=at_once)
            search.tell({run.name: Progress("failed") for run in runs})
            found += [run.name for run in runs]
        return found

    assert names(1) == names(4) == names(6)


def test_a_range_may_grow_but_not_leave_out_what_was_tried(config_file):
    search, _ = open_all(config_file)
    names = [run.name for run in search.next_runs(5, at_once=5)]
    rewrite(config_file, CONFIG.replace("high=1.0", "high=2.0").replace("high=9", "high=12"))
    assert names == [run.name for run in open_all(config_file)[0].next_runs(5, at_once=5)]
    for narrow in (("low=0.0", "low=0.99"), ("high=9", "high=2")):
        rewrite(config_file, CONFIG.replace(*narrow))
        with pytest.raises(ValueError, match="search.journal has a trial with training"):
            open_all(config_file)[0].next_runs(5, at_once=5)


def test_choices_may_change_places_but_not_go(config_file):
    def orders():
        search, _ = open_all(config_file)
        found = [run.name for run in search.next_runs(8, at_once=8)]
        return [re.search(r"training.order=([\d,]+)", name) for name in found]

    first = orders()
    assert len({bool(found) for found in first}) == 2  # both (1,), the default, and (2, 3)
    rewrite(config_file, CONFIG.replace("[(1,), (2, 3)]", "[(2, 3), (1,)]"))
    assert [bool(found) for found in orders()] == [bool(found) for found in first]
    rewrite(config_file, CONFIG.replace("[(1,), (2, 3)]", "[(1,), (4,)]"))
    with pytest.raises(ValueError, match=r"search.journal has a trial with .*order=\(2, 3\)"):
        orders()


def test_failed_trials_count_and_are_never_chosen(config_file):
    searches = open_all(config_file)
    for search in searches:
        bad, good = search.next_runs(2, at_once=2)
        train(good)
        search.tell({bad.name: Progress("failed"), good.name: Progress("interrupted")})
        search.next_runs(2, at_once=0)
        assert not search.is_open(2)
        assert search.choose().trial == good
    write_chosen(searches, config_file.parents[1])
    found = json.loads((config_file.parents[1] / "chosen.json").read_text())
    assert list(found) == ["a", "b"] and found["a"]["of"] == 1
    assert set(found["a"]["settings"]) == {"training.rate", "training.size", "training.order"}


def test_a_search_in_which_all_failed_chooses_nothing(config_file):
    search, _ = open_all(config_file)
    (run,) = search.next_runs(1, at_once=1)
    search.tell({run.name: Progress("failed")})
    with pytest.raises(RuntimeError, match="a: every trial failed"):
        search.choose()


def test_what_cannot_be_validated_is_not_searched(config_file):
    with pytest.raises(ValueError, match=r"a search sets data.evaluate_on by itself"):
        open_all(config_file, overrides=["--config.data.evaluate_on=test"])
    config_file.write_text(CONFIG.replace('{"evaluate_on": "test"}', "{}"))
    with pytest.raises(ValueError, match="has no data.evaluate_on: its runs cannot be validated"):
        open_all(config_file)
    config_file.write_text(CONFIG.replace("def search", "def find"))
    with pytest.raises(ValueError, match=r"toy.py declares no search\(selection\)"):
        open_all(config_file)


CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))
SEARCHED = [path for path in CONFIGS if "def search(" in path.read_text()]


@pytest.mark.parametrize("path", SEARCHED, ids=lambda path: path.stem)
def test_configs_have_the_fields_that_they_search(path):
    module = load_config_module(path)
    config = module.get_config()
    assert config.data.evaluate_on == "test"
    for field, choices in module.search("").items():
        assert isinstance(choices, Range | list)
        assert functools.reduce(getattr, field.split("."), config) is not None
