"""Sweeps in plain Python: lists of settings, and functions that combine them.

A setting is a dict from config fields to values; under "selection" it may have what `get_config`
takes. For example

    grid(select("R", "RTS"), chain(select("FCN"), select("ST-FCN,Aff")), seeds(3))

are twelve runs. Configs import this file: it needs nothing but Python.
"""

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SELECTION = "selection"
DIGITS = 3  # of a number that is drawn: it becomes part of a run's name

Settings = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Range:
    """The numbers that a search tries for a field, both ends included.

    Attributes:
      low: the least.
      high: the largest.
      log: whether factors count instead of differences.
      whole: whether the field takes whole numbers.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __post_init__(self):
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"{self} has no numbers between its ends.")

    def draw(self, chance: random.Random) -> float | int:
        """Draw a number, uniformly or, with `log`, so that its logarithm is uniform."""
        if self.log:
            value = math.exp(chance.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = chance.uniform(self.low, self.high)
        return self.tidy(value)

    def tidy(self, value: float) -> float | int:
        """Round to a whole number, or else to three digits, within the range."""
        value = round(value) if self.whole else float(f"{value:.{DIGITS}g}")
        return min(max(value, self.low), self.high)

    def holds(self, value: Any) -> bool:
        """Tell whether a value can have been drawn from the range."""
        if not isinstance(value, int | float) or (self.whole and value != round(value)):
            return False
        return self.low <= value <= self.high


# What a field may be: any number of a range, or one of the values that are listed.
Choices = Range | Sequence[Any]


def select(*selections: str) -> list[Settings]:
    """Return a run for each selection of `get_config`."""
    return [{SELECTION: selection} for selection in selections]


def values(field: str, *options: Any) -> list[Settings]:
    """Return a run for each value of a field, such as "optimizer.learning_rate"."""
    return [{field: option} for option in options]


def seeds(count: int) -> list[Settings]:
    """Return a run for each of the seeds 0, 1, ..., each run of one seed."""
    return values("seeds", *((seed,) for seed in range(count)))


def grid(*sweeps: Sequence[Settings]) -> list[Settings]:
    """Combine each run of a sweep with each of the others; the last varies fastest."""
    return [_merge(parts) for parts in itertools.product(*sweeps)]


def pairs(*sweeps: Sequence[Settings]) -> list[Settings]:
    """Combine the first runs of all sweeps, the second ones, and so on.

    Raises:
      ValueError: if one sweep has more runs than another.
    """
    if len({len(sweep) for sweep in sweeps}) > 1:
        raise ValueError(f"sweeps of {[len(sweep) for sweep in sweeps]} runs do not pair up.")
    return [_merge(parts) for parts in zip(*sweeps, strict=True)]


def chain(*sweeps: Sequence[Settings]) -> list[Settings]:
    """Put sweeps one after the other."""
    return list(itertools.chain(*sweeps))


def draw(ranges: Mapping[str, Choices], count: int, *, seed: int) -> list[Settings]:
    """Draw runs at random; the first ones are the same whatever the count.

    Args:
      ranges: by field, what it may be.
      count: how many runs.
      seed: of the draws.
    """
    chance = random.Random(seed)
    return [
        {
            field: choices.draw(chance) if isinstance(choices, Range) else chance.choice(choices)
            for field, choices in ranges.items()
        }
        for _ in range(count)
    ]


def as_settings(item: str | Settings) -> Settings:
    """Return what a sweep says of a run as settings; a string is a selection."""
    return {SELECTION: item} if isinstance(item, str) else dict(item)


def as_overrides(settings: Settings) -> list[str]:
    """Return the fields of settings as a command line has them."""
    return [f"--config.{field}={value}" for field, value in settings.items() if field != SELECTION]


def _merge(parts: Sequence[Settings]) -> Settings:
    """Put the settings of one run together; parts of its selection are joined.

    Raises:
      ValueError: if a field is set twice.
    """
    merged: Settings = {}
    for part in parts:
        for field, value in part.items():
            if field == SELECTION:
                merged[field] = ",".join(filter(None, (merged.get(field), value)))
            elif field in merged:
                raise ValueError(f"{field} is set twice, to {merged[field]} and {value}.")
            else:
                merged[field] = value
    return merged
