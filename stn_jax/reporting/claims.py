"""Claims about Table 1 (Sect. 4.1), house numbers, birds and signs, as differences of cells."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from tabulate import tabulate

from stn_jax.reporting.formats import NONE
from stn_jax.reporting.tables import Cell, Place, Table

TEST_DIGITS = 10_000  # where a record does not say how many there were
SEEDS, BINOMIAL = "m", "b"
LEGEND = {
    SEEDS: "± standard deviation (n - 1) over seeds, of the differences between runs of one seed.",
    BINOMIAL: "a single seed: ± binomial standard deviation of the difference between two errors "
    "of {} each, taken as independent. Seeds may scatter more than that.",
}

Row = tuple[str, str]  # (model, transform)
TRANSFORMS = ("Aff", "Proj", "TPS")
ST_FCN, ST_CNN = ([(model, t) for t in TRANSFORMS] for model in ("ST-FCN", "ST-CNN"))


class Claim(NamedTuple):
    """A claim that rows of a table are better than others, in each column or across columns.

    Attributes:
      text: what is claimed, and what is subtracted from what.
      pairs: (worse, better) rows.
      columns: the distortions, or other columns, it is about; () for all.
      across: (worse, better) cells, of different columns, instead.
    """

    text: str
    pairs: list[tuple[Row, Row]]
    columns: tuple[str, ...] = ()
    across: tuple[tuple[Place, Place], ...] = ()


class Subject(NamedTuple):
    """A table that there are claims about.

    Attributes:
      name: what it is called.
      quantity: what is subtracted.
      examples: what was tested on.
      claims: about it.
      notes: on what is published.
    """

    name: str
    quantity: str
    examples: str
    claims: tuple[Claim, ...]
    notes: tuple[str, ...] = ()


CNN, ONE, TWO, THREE = (("CNN", ""), *(("ST-CNN", count) for count in ("one", "two", "three")))
SINGLE, MULTI = (("ST-CNN", name) for name in ("Single", "Multi"))
CROPS_2, CROPS_4 = (("2xST-CNN", "location"), ("4xST-CNN", "location"))
# By the table's stem, without its recipe.
SUBJECTS = {
    "table1": Subject(
        "Table 1",
        "test errors",
        "digits",
        (
            Claim(
                "Every ST net beats its base net: base less ST",
                [(("FCN", ""), row) for row in ST_FCN] + [(CNN, row) for row in ST_CNN],
            ),
            Claim(
                "ST-CNN beats ST-FCN: ST-FCN less ST-CNN", list(zip(ST_FCN, ST_CNN, strict=True))
            ),
            Claim(
                "On RTS, ST-FCN equals the CNN and ST-CNN beats it: CNN less ST",
                [(CNN, row) for row in ST_FCN + ST_CNN],
                ("RTS",),
            ),
        ),
    ),
    "house_numbers_in_small_reduced_svhn": Subject(
        "house numbers in small (not Table 2)",
        "sequence errors",
        "numbers",
        (
            Claim(
                "Transformers lower the error, most where numbers have to be found: CNN less ST",
                [(CNN, SINGLE), (CNN, MULTI)],
                ("crops", "canvases"),
            ),
            Claim(
                "Four find more than one: Single less Multi",
                [(SINGLE, MULTI)],
                ("crops", "canvases"),
            ),
        ),
        (
            "All networks are tested on the same numbers: the spread over seeds is without that "
            "of the test set.",
        ),
    ),
    "birds_in_small_reduced_cub": Subject(
        "birds in small (not Table 3)",
        "test accuracies",
        "birds",
        (
            Claim(
                "Transformers raise the accuracy: with less without",
                [(CNN, CROPS_2)],
                ("half224px", "half448px"),
            ),
            Claim(
                "Two transformers on the larger images beat none on the smaller, as published "
                "networks are compared: with less without",
                [],
                across=((Place("half224px", *CNN), Place("half448px", *CROPS_2)),),
            ),
            Claim(
                "For comparison, the CNN gains from larger images by itself: larger less smaller",
                [],
                across=((Place("half224px", *CNN), Place("half448px", *CNN)),),
            ),
        ),
        ("Networks with transformers have an Inception a crop, and so more weights.",),
    ),
    "table3": Subject(
        "Table 3",
        "test accuracies",
        "birds",
        (
            Claim("Two transformers beat none: with less without", [(CNN, CROPS_2)], ("224px",)),
            Claim("Four beat two: four less two", [(CROPS_2, CROPS_4)], ("448px",)),
            Claim(
                "Transformers on larger images beat a CNN on smaller ones, by 1.8 at most: with "
                "less without",
                [],
                across=tuple(
                    (Place("224px", *CNN), Place("448px", *row)) for row in (CROPS_2, CROPS_4)
                ),
            ),
            Claim(
                "Crops of larger images cost nothing and gain: larger less smaller",
                [],
                across=((Place("224px", *CROPS_2), Place("448px", *CROPS_2)),),
            ),
        ),
    ),
    "gtsrb": Subject(
        "traffic signs",
        "test accuracies",
        "signs",
        (
            Claim(
                "Transformers gain accuracy in networks of one width, trained alike: with less "
                "without",
                [(CNN, row) for row in (ONE, TWO, THREE)],
                ("10epochs20k", "short", "long"),
            ),
            Claim(
                "Likewise, after 10 epochs of all images",
                [(CNN, row) for row in (("ST-CNN", "one narrow"), TWO, THREE)],
                ("10epochs",),
            ),
        ),
        (
            "All networks are tested on the same 12,630 signs: the spread over seeds is without "
            "that of the test set (binomial standard deviation at 98 %: 0.12).",
        ),
    ),
}


def has_claims(table: Table) -> bool:
    """Tell whether there are claims about a table."""
    return _stem(table) in SUBJECTS


def _stem(table: Table) -> str:
    return table.stem.removesuffix(f"_{table.recipe}")


@dataclass(frozen=True)
class Difference:
    """How much better one cell is than another one, in percentage points.

    Attributes:
      ours: mean over the seeds that both cells have; None without any.
      spread: standard deviation that goes with it; None likewise.
      kind: of the spread: SEEDS, BINOMIAL, or "" without any.
      published: None unless both are.
      marks: those of either cell.
      decimals: of the published numbers.
    """

    ours: float | None
    spread: float | None
    kind: str
    published: float | None
    marks: str
    decimals: int = 1

    def __str__(self) -> str:
        published = NONE if self.published is None else f"{self.published:+.{self.decimals}f}"
        ours = NONE if self.ours is None else f"{self.ours:+.2f} ± {self.spread:.2f}"
        marks = self.kind + self.marks
        return f"{published} / {ours}" + (f" <sup>{marks}</sup>" if marks else "")


def claims(table: Table) -> str:
    """Return the claims as Markdown tables, published / ours.

    Args:
      table: one that `has_claims`.
    """
    subject = SUBJECTS[_stem(table)]
    title = (
        f"**Claims on {subject.name}, recipe '{table.recipe}': differences of {subject.quantity} "
        "in percentage points, published / ours. Positive: as claimed.**"
    )
    parts, shown = [title], []
    for claim in subject.claims:
        headers, lines = _lines(claim, table)
        found = [d for differences in lines.values() for d in differences]
        if not found:
            continue
        rows = [[name, *map(str, differences)] for name, differences in lines.items()]
        shown += found
        parts += [
            f"{claim.text}. {_verdict(found)}",
            tabulate(rows, headers, tablefmt="github", disable_numparse=True),
        ]
    parts.append("\n".join(f"- {note}" for note in _notes(table, subject, shown)))
    return "\n\n".join(parts) + "\n"


def _lines(claim: Claim, table: Table) -> tuple[list[str], dict[str, list[Difference]]]:
    """Return the headers, and what is subtracted from what -> the differences."""
    columns = [name for name in table.columns if name in (claim.columns or table.columns)]
    lines = {}
    for pair in claim.pairs:
        places = [[Place(column, *row) for row in pair] for column in columns]
        if {*pair} <= {*table.rows}:
            lines[_names(table, pair)] = [_between(table, both) for both in places]
    if not claim.across:
        return ["", *columns], lines
    for both in claim.across:
        if {*both} <= {*table.cells}:
            lines[_names(table, both)] = [_between(table, both)]
    return ["", "difference"], lines


def _names(table: Table, pair: Iterable[Iterable[str]]) -> str:
    """Return what is subtracted from what: errors from the larger ones, not so accuracies."""
    names = [" ".join(filter(None, names)) for names in pair]
    if next(iter(table.cells.values())).counts_right:
        names.reverse()
    return " − ".join(names)


def _between(table: Table, both: Iterable[Place]) -> Difference:
    return difference(*(table.cells[place] for place in both), decimals=table.decimals)


def difference(worse: Cell, better: Cell, *, decimals: int = 1) -> Difference:
    """Subtract a cell's error from another's, or accuracies the other way round, paired by seed."""
    seeds = worse.errors.keys() & better.errors.keys()
    pairs = [(worse.errors[seed], better.errors[seed]) for seed in sorted(seeds)]
    gains = [a - b for a, b in pairs]
    if not pairs:
        spread, kind = None, ""
    elif len(pairs) == 1:
        count = _tested([worse, better])
        spread, kind = math.hypot(*(binomial(error, count) for error in pairs[0])), BINOMIAL
    else:
        spread, kind = statistics.stdev(gains), SEEDS
    published = None
    if worse.published is not None and better.published is not None:
        gain = worse.published - better.published
        published = round(-gain if worse.counts_right else gain, decimals)
    return Difference(
        ours=statistics.fmean(gains) if gains else None,
        spread=spread,
        kind=kind,
        published=published,
        marks="".join(dict.fromkeys(worse.marks + better.marks)),
        decimals=decimals,
    )


def binomial(error: float, count: int) -> float:
    """Return the standard deviation, in percent, of an error in percent of so many examples."""
    return math.sqrt(error * (100 - error) / count)


def _tested(cells: Iterable[Cell]) -> int:
    """Return on how many examples the runs of some cells were tested: the least of them."""
    return min(run.num_tested or TEST_DIGITS for cell in cells for run in cell.runs)


def _verdict(found: list[Difference]) -> str:
    published = [d.published for d in found if d.published is not None]
    ours = [d for d in found if d.ours is not None]
    positive = sum(d.ours > 0 for d in ours)
    clear = sum(d.ours > 2 * d.spread for d in ours)
    measured = f"{positive} of {len(ours)}, {clear} of them by more than twice the spread"
    positives = f"{sum(d > 0 for d in published)} of {len(published)} are positive"
    return (
        f"Published: {positives if published else 'none'}. "
        f"Ours: {measured if ours else 'none'}; missing: {len(found) - len(ours)}."
    )


def _notes(table: Table, subject: Subject, shown: Iterable[Difference]) -> list[str]:
    shown = list(shown)
    kinds = {d.kind for d in shown} - {""}
    tested = f"{_tested(table.cells.values()):,} {subject.examples}" if kinds else ""
    notes = list(subject.notes)
    notes += [f"<sup>{k}</sup> {text.format(tested)}" for k, text in LEGEND.items() if k in kinds]
    if any(d.ours is None or d.published is None for d in shown):
        notes.append(f"{NONE}: not published, or no finished runs with a seed in common.")
    marks = set("".join(d.marks for d in shown))
    return notes + [f"<sup>{mark}</sup> {text}" for mark, text in table.notes if mark in marks]
