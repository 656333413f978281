"""Tables as text: for the terminal, in Markdown, LaTeX and CSV."""

import csv
import io
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from stn_jax.reporting.runs import Run
from stn_jax.reporting.tables import Cell, Place, Table

NONE = "–"
WIDTH = 100  # characters of the text around a table in the terminal


@dataclass(frozen=True)
class _Style:
    """What the formats for people write differently.

    Attributes:
      grid: tabulate's name of the format.
      mark: writes the marks of a cell.
      escape: makes plain text safe.
    """

    grid: str
    mark: Callable[[str], str]
    escape: Callable[[str], str] = str

    def results(self, table: Table) -> str:
        """Return the table proper: a row a model, a column a distortion."""
        rows = [
            [
                " ".join(filter(None, row)),
                *(self._cell(table, Place(c, *row)) for c in table.columns),
            ]
            for row in table.rows
        ]
        return self.tabulate(["", *table.columns], rows)

    def _cell(self, table: Table, place: Place) -> str:
        cell = table.cells[place]
        text = _number(cell.mean, 2) + (f" ± {cell.std:.2f}" if cell.std is not None else "")
        if table.compared and (cell.published is not None or cell.mean is not None):
            text = f"{_number(cell.published, table.decimals)} / {text}"
        return self.escape(text) + (self.mark(cell.marks) if cell.marks else "")

    def notes(self, table: Table) -> list[str]:
        """Return the lines under the table."""
        return [
            (self.mark(mark).strip() + " " if mark else "") + self.escape(text)
            for mark, text in table.notes
        ]

    def tabulate(self, header: Sequence[str], rows: list[list[str]]) -> str:
        """Return a grid of texts that are taken as they are."""
        return tabulate(rows, header, tablefmt=self.grid, disable_numparse=True)


def _escape_latex(text: str) -> str:
    return "".join(_LATEX_CHARACTERS.get(character, character) for character in text)


_LATEX_CHARACTERS = {character: "\\" + character for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
}
_TERMINAL = _Style("simple_outline", lambda marks: f" [{marks}]")
_MARKDOWN = _Style("github", lambda marks: f" <sup>{marks}</sup>")
_LATEX = _Style("latex_raw", lambda marks: rf"\textsuperscript{{{marks}}}", _escape_latex)


def terminal(tables: Sequence[Table]) -> str:
    """Return the tables with lines drawn around them."""
    parts = []
    for table in tables:
        wrap = textwrap.TextWrapper(WIDTH, subsequent_indent="    ", break_on_hyphens=False)
        lines = [wrap.fill(text) for text in _TERMINAL.notes(table)]
        title = textwrap.fill(table.title, WIDTH)
        parts.append("\n".join([title, _TERMINAL.results(table), *lines]))
    return "\n\n".join(parts) + "\n"


def markdown(tables: Sequence[Table]) -> str:
    """Return the tables, each with a second one that traces its numbers to runs."""
    parts = []
    for table in tables:
        runs = _MARKDOWN.tabulate(list(_RUN_COLUMNS), [_describe(run) for run in table.runs])
        notes = "\n".join(f"- {note}" for note in _MARKDOWN.notes(table))
        parts += [f"**{table.title}**", _MARKDOWN.results(table), notes, "Runs:", runs]
    return "\n\n".join(parts) + "\n"


def latex(tables: Sequence[Table]) -> str:
    """Return a table environment each; no packages are needed."""
    parts = []
    for table in tables:
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escape_latex(table.title)}}}",
            _LATEX.results(table),
            r"\par\smallskip",
            r"\begin{minipage}{\linewidth}\footnotesize",
            *(note + r"\\" for note in _LATEX.notes(table)),
            r"\end{minipage}",
            r"\end{table}",
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def comma_separated(tables: Sequence[Table]) -> str:
    """Return a line a cell, of all tables together; seconds are the cell's runs' total."""
    file = io.StringIO()
    writer = csv.DictWriter(file, _CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for table in tables:
        writer.writerows(_csv_row(table, cell) for cell in table.cells.values())
    return file.getvalue()


_CSV_COLUMNS = (
    *("distortion", "model", "transform", "recipe", "published", "mean", "std", "seeds", "steps"),
    *("parameters", "device", "commit", "seconds", "marks"),
)


def _csv_row(table: Table, cell: Cell) -> dict[str, object]:
    runs = cell.runs
    return {
        **cell.place._asdict(),
        "recipe": table.recipe,
        "published": cell.published,
        "mean": None if cell.mean is None else f"{cell.mean:.6g}",
        "std": None if cell.std is None else f"{cell.std:.6g}",
        "seeds": _all(sorted(cell.errors)),
        "steps": _all(run.num_steps for run in runs),
        "parameters": _all(run.parameters for run in runs),
        "device": _all(device for run in runs for device in run.devices),
        "commit": _all(commit for run in runs for commit in run.commits),
        "seconds": round(sum(run.seconds for run in runs), 1) if runs else None,
        "marks": cell.marks,
    }


_RUN_COLUMNS = ("run", "status", "seeds", "steps", "parameters", "code", "device", "time")


def _describe(run: Run) -> list[str]:
    minutes = run.seconds / 60
    return [
        f"`{run.label}`",
        run.status,
        _all(run.seeds),
        f"{run.step:,}",
        f"{run.parameters:,}",
        _all(run.commits),
        _all(run.devices),
        f"{minutes / 60:.1f} h" if minutes >= 60 else f"{minutes:.1f} min",
    ]


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _all(values) -> str:
    """Join what differs."""
    return " ".join(dict.fromkeys(map(str, values)))


# Name -> (function, ending of files).
FORMATS: dict[str, tuple[Callable[[Sequence[Table]], str], str]] = {
    "terminal": (terminal, ".txt"),
    "markdown": (markdown, ".md"),
    "latex": (latex, ".tex"),
    "csv": (comma_separated, ".csv"),
}
