"""Timing of contenders that do the same work, such that a drifting machine favours none."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Of a row: at most so many seconds for one contender's rounds.
MAX_SECONDS = 8.0
# PyTorch's threads keep their cores for a while after a call, in wait of the next one, and cost
# whoever runs then up to half as much again. So each round begins with a pause, and with calls
# that are not timed, until all threads are awake again.
PAUSE_SECONDS = 0.01
WARM_UP = 3  # one untimed call for so many timed ones


@dataclass(frozen=True)
class Contender:
    """One of several implementations of the same work.

    Attributes:
      call: does the work once; may return before it is done.
      wait: function of the call's result that returns when it is done.
      units: how many units of work, such as training steps, a call does.
    """

    call: Callable[[], Any]
    wait: Callable[[Any], Any]
    units: int = 1

    def seconds(self, repeats: int) -> float:
        """Return the mean time of a unit of work in so many calls in a row."""
        start = time.perf_counter()
        for _ in range(repeats):
            result = self.call()
        self.wait(result)
        return (time.perf_counter() - start) / (repeats * self.units)


@dataclass(frozen=True)
class Row:
    """Several contenders for the same work.

    Attributes:
      case: sizes, or names of models.
      work: what of it is done.
      contenders: by name, functions that build them: a row that is not timed costs nothing.
      facts: what else is known of the work, such as the bytes that it has to move.
    """

    case: str
    work: str
    contenders: dict[str, Callable[[], Contender]]
    facts: dict[str, Any] = field(default_factory=dict)


def measure(
    contenders: dict[str, Callable[[], Contender]], *, rounds: int, round_seconds: float
) -> dict[str, dict[str, Any]]:
    """Time contenders in turn: one round of each, then the next round.

    Args:
      contenders: by name, functions that build them.
      rounds: how many each gets, but no more than `MAX_SECONDS` allow, and three at least.
      round_seconds: a round repeats the call until it takes about as long, and does so after a
        pause and a third as many calls that are not timed. A longer call is timed alone.

    Returns:
      By name: `seconds` for a unit of work (the median of the rounds), `low` and `high` (their
      quartiles), `first` (all of the first call, compilation too), and `rounds`; of a contender
      that cannot do the work here only `error`, so that the others' times are not lost.
    """
    built, first, repeats, failed = {}, {}, {}, {}
    for name, build in contenders.items():
        try:
            contender = build()
            first[name] = contender.seconds(1) * contender.units
            # The second call, too, may still grow memory pools.
            once = min(contender.seconds(1) for _ in range(3)) * contender.units
        except Exception as error:  # A compiler that is not there, too little memory, ...
            failed[name] = {"error": _one_line(error)}
            continue
        built[name] = contender
        repeats[name] = max(1, round(round_seconds / once))
        rounds = min(rounds, int(MAX_SECONDS / (once * repeats[name])))
    rounds = max(3, rounds)
    times = {name: [] for name in built}
    for _ in range(rounds):
        for name, contender in built.items():
            if repeats[name] > 1:
                time.sleep(PAUSE_SECONDS)
                contender.seconds(math.ceil(repeats[name] / WARM_UP))
            times[name].append(contender.seconds(repeats[name]))
    timed = {name: _summary(times[name], first[name]) for name in built}
    return {name: (timed | failed)[name] for name in contenders}


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _summary(times: list[float], first: float) -> dict[str, float]:
    low, median, high = np.quantile(times, (0.25, 0.5, 0.75)).tolist()
    return {"seconds": median, "low": low, "high": high, "first": first, "rounds": len(times)}
