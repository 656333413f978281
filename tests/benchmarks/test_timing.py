import time

import pytest

from stn_jax.benchmarks.timing import Contender, measure


def sleeper(seconds, calls, name, units=1):
    def call():
        calls.append(name)
        time.sleep(seconds)

    return Contender(call, lambda _: None, units=units)


def test_contenders_take_turns():
    calls = []
    contenders = {name: sleeper(0.001, calls, name) for name in "ab"}
    results = measure(contenders, rounds=4, round_seconds=0.0)
    assert calls[-8:] == list("abababab")
    assert [results[name]["rounds"] for name in "ab"] == [4, 4]
    for times in results.values():
        assert 0.001 <= times["low"] <= times["seconds"] <= times["high"]


def test_a_round_repeats_short_calls_and_counts_units():
    calls = []
    results = measure({"a": sleeper(0.002, calls, "a", units=10)}, rounds=3, round_seconds=0.02)
    assert len(calls) > 15
    assert 0.0002 <= results["a"]["seconds"] < 0.002
    assert results["a"]["first"] == pytest.approx(0.002, rel=2)


def test_long_calls_get_few_rounds(monkeypatch):
    monkeypatch.setattr("stn_jax.benchmarks.timing.MAX_SECONDS", 0.01)
    calls = []
    results = measure({"a": sleeper(0.005, calls, "a")}, rounds=100, round_seconds=0.001)
    assert results["a"]["rounds"] == 3
