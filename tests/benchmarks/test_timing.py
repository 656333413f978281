import pytest

from stn_jax.benchmarks import timing
from stn_jax.benchmarks.timing import Contender, measure


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock that only `sleeper`'s calls move on: a busy machine changes nothing."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


@pytest.fixture
def sleeper(clock):
    def make(seconds, calls, name, units=1):
        def call():
            calls.append(name)
            clock[0] += seconds

        return lambda: Contender(call, lambda _: None, units=units)

    return make


def test_contenders_take_turns(sleeper):
    calls = []
    contenders = {name: sleeper(0.001, calls, name) for name in "ab"}
    results = measure(contenders, rounds=4, round_seconds=0.0)
    assert calls[-8:] == list("abababab")
    assert [results[name]["rounds"] for name in "ab"] == [4, 4]
    for times in results.values():
        assert [times[name] for name in ("low", "seconds", "high")] == pytest.approx([0.001] * 3)


def test_a_round_repeats_short_calls_and_counts_units(sleeper):
    calls = []
    results = measure({"a": sleeper(0.002, calls, "a", units=10)}, rounds=3, round_seconds=0.02)
    # A round begins with a third as many that are not timed.
    assert len(calls) == 4 + 3 * (4 + 10)
    assert results["a"]["seconds"] == pytest.approx(0.0002)
    assert results["a"]["first"] == pytest.approx(0.002)


def test_long_calls_get_few_rounds(sleeper, monkeypatch):
    monkeypatch.setattr("stn_jax.benchmarks.timing.MAX_SECONDS", 0.01)
    calls = []
    results = measure({"a": sleeper(0.005, calls, "a")}, rounds=100, round_seconds=0.001)
    assert results["a"]["rounds"] == 3


def test_who_fails_is_named_and_the_others_are_timed(sleeper):
    def broken():
        raise RuntimeError("no compiler\nhere")

    def crashes():
        raise MemoryError("out of it")

    contenders = {
        "a": broken,
        "b": sleeper(0.002, [], "b"),
        "c": lambda: Contender(crashes, lambda _: None),
    }
    results = measure(contenders, rounds=3, round_seconds=0.0)
    assert list(results) == ["a", "b", "c"]
    assert results["a"] == {"error": "RuntimeError: no compiler here"}
    assert results["c"] == {"error": "MemoryError: out of it"}
    assert results["b"]["seconds"] == pytest.approx(0.002)
