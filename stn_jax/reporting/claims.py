"""The paper's claims about Table 1 (Sect. 4.1), as differences between its cells."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from tabulate import tabulate

from stn_jax.reporting.formats import NONE
from stn_jax.reporting.tables import Cell, Place, Table

TEST_DIGITS = 10_000
SEEDS, BINOMIAL = "m", "b"
LEGEND = {
    SEEDS: "± standard deviation (n - 1) over seeds, of the differences between runs of one seed.",
    BINOMIAL: "a single seed: ± binomial standard deviation of the difference between two errors "
    f"of {TEST_DIGITS:,} digits each, taken as independent. Seeds may scatter more than that.",
}

Row = tuple[str, str]  # (model, transform)
TRANSFORMS = ("Aff", "Proj", "TPS")
ST_FCN, ST_CNN = ([(model, t) for t in TRANSFORMS] for model in ("ST-FCN", "ST-CNN"))


class Claim(NamedTuple):
    """A claim that one row of Table 1 has lower errors than another.

    Attributes:
      text: what is claimed, and what is subtracted from what.
      pairs: (worse, better) rows.
      columns: the distortions it is about; () for all.
    """

    text: str
    pairs: list[tuple[Row, Row]]
    columns: tuple[str, ...] = ()


CLAIMS = (
    Claim(
        "Every ST net beats its base net: base less ST",
        [(("FCN", ""), row) for row in ST_FCN] + [(("CNN", ""), row) for row in ST_CNN],
    ),
    Claim("ST-CNN beats ST-FCN: ST-FCN less ST-CNN", list(zip(ST_FCN, ST_CNN, strict=True))),
    Claim(
        "On RTS, ST-FCN equals the CNN and ST-CNN beats it: CNN less ST",
        [(("CNN", ""), row) for row in ST_FCN + ST_CNN],
        ("RTS",),
    ),
)


@dataclass(frozen=True)
class Difference:
    """The error of a cell less that of another one, in percentage points.

    Attributes:
      ours: mean over the seeds that both cells have; None without any.
      spread: standard deviation that goes with it; None likewise.
      kind: of the spread: SEEDS, BINOMIAL, or "" without any.
      published: None unless both are.
      marks: those of either cell.
    """

    ours: float | None
    spread: float | None
    kind: str
    published: float | None
    marks: str

    def __str__(self) -> str:
        published = NONE if self.published is None else f"{self.published:+.1f}"
        ours = NONE if self.ours is None else f"{self.ours:+.2f} ± {self.spread:.2f}"
        marks = self.kind + self.marks
        return f"{published} / {ours}" + (f" <sup>{marks}</sup>" if marks else "")


def claims(table: Table) -> str:
    """Return the claims as Markdown tables, published / ours.

    Args:
      table: Table 1 of one recipe.
    """
    title = (
        f"**Claims on Table 1, recipe '{table.recipe}': differences of test errors in percentage "
        "points, published / ours. Positive: as claimed.**"
    )
    parts, shown = [title], []
    for claim in CLAIMS:
        columns = claim.columns or table.columns
        rows, found = [], []
        for pair in claim.pairs:
            cells = [[table.cells[Place(column, *row)] for row in pair] for column in columns]
            differences = [difference(*both) for both in cells]
            heading = " − ".join(" ".join(filter(None, row)) for row in pair)
            rows.append([heading, *map(str, differences)])
            found += differences
        shown += found
        parts += [
            f"{claim.text}. {_verdict(found)}",
            tabulate(rows, ["", *columns], tablefmt="github", disable_numparse=True),
        ]
    parts.append("\n".join(f"- {note}" for note in _notes(table, shown)))
    return "\n\n".join(parts) + "\n"


def difference(worse: Cell, better: Cell) -> Difference:
    """Subtract a cell's error from another's, paired by seed."""
    seeds = worse.errors.keys() & better.errors.keys()
    pairs = [(worse.errors[seed], better.errors[seed]) for seed in sorted(seeds)]
    gains = [a - b for a, b in pairs]
    if not pairs:
        spread, kind = None, ""
    elif len(pairs) == 1:
        spread, kind = math.hypot(*(binomial(error) for error in pairs[0])), BINOMIAL
    else:
        spread, kind = statistics.stdev(gains), SEEDS
    both = worse.published is not None and better.published is not None
    return Difference(
        ours=statistics.fmean(gains) if gains else None,
        spread=spread,
        kind=kind,
        published=round(worse.published - better.published, 1) if both else None,
        marks="".join(dict.fromkeys(worse.marks + better.marks)),
    )


def binomial(error: float) -> float:
    """Return the standard deviation, in percent, of an error in percent of the test digits."""
    return math.sqrt(error * (100 - error) / TEST_DIGITS)


def _verdict(found: list[Difference]) -> str:
    published = [d.published for d in found if d.published is not None]
    ours = [d for d in found if d.ours is not None]
    positive = sum(d.ours > 0 for d in ours)
    clear = sum(d.ours > 2 * d.spread for d in ours)
    measured = f"{positive} of {len(ours)}, {clear} of them by more than twice the spread"
    return (
        f"Published: {sum(d > 0 for d in published)} of {len(published)} are positive. "
        f"Ours: {measured if ours else 'none'}; missing: {len(found) - len(ours)}."
    )


def _notes(table: Table, shown: Iterable[Difference]) -> list[str]:
    shown = list(shown)
    kinds = {d.kind for d in shown}
    notes = [f"<sup>{kind}</sup> {text}" for kind, text in LEGEND.items() if kind in kinds]
    if any(d.ours is None or d.published is None for d in shown):
        notes.append(f"{NONE}: not published, or no finished runs with a seed in common.")
    marks = set("".join(d.marks for d in shown))
    return notes + [f"<sup>{mark}</sup> {text}" for mark, text in table.notes if mark in marks]
