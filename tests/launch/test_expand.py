import random
import re

import pytest

from stn_jax.launch import expand
from stn_jax.launch.expand import Range, chain, draw, grid, pairs, seeds, select, values
from stn_jax.launch.sweep import expand as expand_config

CONFIG = """
from ml_collections import ConfigDict
from stn_jax.launch.expand import Range, chain, draw, grid, pairs, seeds, select, values

def get_config(selection=""):
    config = ConfigDict()
    config.name = selection.replace(",", "-")
    config.seeds = (0,)
    config.training = ConfigDict({"num_steps": 4, "rate": 0.1, "kind": "plain"})
    return config

def sweep(selection=""):
    return SWEEP
"""


def names(tmp_path, sweep, *overrides):
    for folder, text in (("configs", CONFIG.replace("SWEEP", sweep)), ("experiments", "")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "toy.py").write_text(text)
    return [run.name for run in expand_config(tmp_path / "configs/toy.py", "", "runs", overrides)]


def test_sweeps_are_combined_as_lists():
    rates = values("rate", 1, 2)
    assert grid(select("R", "E"), rates) == [
        {"selection": "R", "rate": 1},
        {"selection": "R", "rate": 2},
        {"selection": "E", "rate": 1},
        {"selection": "E", "rate": 2},
    ]
    assert pairs(rates, values("steps", 10, 20)) == [
        {"rate": 1, "steps": 10},
        {"rate": 2, "steps": 20},
    ]
    assert chain(rates, seeds(1)) == [{"rate": 1}, {"rate": 2}, {"seeds": (0,)}]
    assert grid(select("R"), select("FCN", "")) == [{"selection": "R,FCN"}, {"selection": "R"}]
    assert grid() == [{}] and chain() == []


def test_what_does_not_combine_is_an_error():
    with pytest.raises(ValueError, match=r"sweeps of \[2, 1\] runs do not pair up"):
        pairs(values("a", 1, 2), values("b", 1))
    with pytest.raises(ValueError, match="rate is set twice, to 1 and 2"):
        grid(values("rate", 1), values("rate", 2))
    for wrong in ({"low": 1, "high": 1}, {"low": 0, "high": 1, "log": True}):
        with pytest.raises(ValueError, match="has no numbers between its ends"):
            Range(**wrong)


def test_draws_depend_on_the_seed_alone_and_stay_in_their_ranges():
    ranges = {
        "rate": Range(low=1e-4, high=1e-1, log=True),
        "size": Range(low=2, high=5, whole=True),
        "kind": ("a", "b"),
    }
    drawn = draw(ranges, 200, seed=3)
    assert drawn[:7] == draw(ranges, 7, seed=3) != draw(ranges, 7, seed=4)
    assert {settings["size"] for settings in drawn} == {2, 3, 4, 5}
    assert {settings["kind"] for settings in drawn} == {"a", "b"}
    rates = [settings["rate"] for settings in drawn]
    assert all(1e-4 <= rate <= 1e-1 and len(f"{rate:.2e}") <= 8 for rate in rates)
    # A third of the factors lies in each decade.
    assert all(40 < sum(10**-n <= rate < 10 ** (1 - n) for rate in rates) < 95 for n in (2, 3, 4))
    assert Range(low=0.0, high=0.3).draw(random.Random(0)) == 0.253


def test_settings_become_overrides_and_names(tmp_path):
    sweep = 'grid(select("R"), values("training.rate", 1e-3, 0.1), values("training.kind", "x"))'
    assert names(tmp_path, sweep) == [
        "R+training.kind=x+training.rate=0.001",
        "R+training.kind=x",
    ]
    assert names(tmp_path, f"{sweep}[:1]", "--config.training.rate=7") == [
        "R+training.kind=x+training.rate=7.0"
    ]
    assert names(tmp_path, 'chain(["a"], grid(select("a"), seeds(2)))') == ["a", "a+seeds=1"]


def test_a_command_has_the_settings_before_the_overrides(tmp_path):
    names(tmp_path, 'grid(select("R,FCN"), seeds(1))')
    override = "--config.training.rate=2"
    (run,) = expand_config(tmp_path / "configs/toy.py", "", "runs", [override])
    assert run.command[-2:] == ("--config.seeds=(0,)", override)
    assert run.command[3].endswith("toy.py:R,FCN")


def test_a_field_that_there_is_not_is_named(tmp_path):
    with pytest.raises(Exception, match=re.escape('Did you mean "rate"')):
        names(tmp_path, 'values("training.rat", 1)')


def test_strings_are_selections():
    assert expand.as_settings("R") == {"selection": "R"}
    assert expand.as_overrides({"selection": "R", "seeds": (0, 1)}) == ["--config.seeds=(0, 1)"]
