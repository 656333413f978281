"""docs/fidelity.md answers every statement of the sources once, and names only what there is."""

import ast
import functools
import re
from collections import Counter
from pathlib import Path

import pytest

from stn_jax.launch.cli import load_config_module
from stn_jax.training.optim import SCHEDULES

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "fidelity.md"

# Group of statements -> how many there are. Ids are never renumbered or reused.
GROUPS = {
    **{"M": 7, "T": 12, "S": 9, "N": 8, "D": 35, "A": 11, "R": 8, "V": 6},
    **{"C": 14, "H": 22, "B": 22, "G": 13},  # experiments not begun
}
IDS = [f"{group}{number}" for group, count in GROUPS.items() for number in range(1, count + 1)]

HEADER = ("id", "statement", "place", "test or measurement", "deviation or settlement")
PLACES = ("stn_jax/", "configs/", "experiments/", "scripts/")
EVIDENCE = ("tests/", "results/")


def table(text: str) -> list[tuple[str, ...]]:
    """Return the rows of all tables of a Markdown text, without headers and separators."""
    rows = [
        tuple(cell.strip() for cell in line.strip().strip("|").split("|"))
        for line in text.splitlines()
        if line.lstrip().startswith("|")
    ]
    return [row for row in rows if row != HEADER and set("".join(row)) - set("-: ")]


def ids_of(cell: str) -> list[str]:
    """Return the ids that a first cell stands for: `T2`, `T2*` (an ambiguous one), `A1 to A11`."""
    match = re.fullmatch(r"([A-Z])(\d+)\*?(?: to \1(\d+))?", cell)
    if not match:
        return []
    group, first, last = match[1], int(match[2]), int(match[3] or match[2])
    return [f"{group}{number}" for number in range(first, last + 1)]


@functools.cache
def names_in(path: Path) -> frozenset[str]:
    """Return what a Python file defines at its top level, and methods as Class.method."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef(name=name):
                found.add(name)
            case ast.ClassDef(name=name, body=body):
                methods = (entry for entry in body if isinstance(entry, ast.FunctionDef))
                found |= {name, *(f"{name}.{method.name}" for method in methods)}
            case ast.Assign(targets=targets):
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
    return frozenset(found)


def problem_of(reference: str) -> str | None:
    """Say what is wrong with a reference, `path`, or `path::name` in a Python file."""
    path, _, name = reference.partition("::")
    if not (ROOT / path).exists():
        return f"there is no {path}"
    if path.startswith("tests/") and not name.startswith("test_"):
        return f"{reference} is not a test"
    if name and name not in names_in(ROOT / path):
        return f"{path} does not define {name}"
    if not name and path.endswith(".py"):
        return f"{reference} does not say which name"
    return None


def references_in(text: str) -> list[str]:
    """Return the code spans that look like a path or like `path::name`."""
    return [span for span in re.findall(r"`([^`\n]+)`", text) if "/" in span or "::" in span]


def problem_of_cell(cell: str, kind: str, folders: tuple[str, ...]) -> str | None:
    """Check that a cell has references into some folders, or says `not yet` or `none`."""
    references = references_in(cell)
    if strangers := [name for name in references if not name.startswith(folders)]:
        return f"{strangers[0]} is no {kind}"
    if not references and not re.match(r"(not yet|none)\b", cell):
        return f"no {kind} is named, and neither 'not yet' nor 'none' said"
    return None


def violations(text: str) -> list[str]:
    """Name what is wrong with the document."""
    found = [problem_of(reference) for reference in dict.fromkeys(references_in(text))]
    answered = Counter()
    for row in table(text):
        ids = ids_of(row[0])
        answered.update(ids)
        if not ids:
            found.append(f"{row[0]!r} is no id")
        elif len(row) != len(HEADER):
            found.append(f"{row[0]}: {len(row)} cells instead of {len(HEADER)}")
        elif not all(row):
            found.append(f"{row[0]}: an empty cell")
        else:
            cells = ((row[2], "place", PLACES), (row[3], "test or measurement", EVIDENCE))
            problems = (problem_of_cell(*cell) for cell in cells)
            found += [f"{row[0]}: {problem}" for problem in problems if problem]
    found += [f"{name} is missing" for name in IDS if not answered[name]]
    found += [f"{name} is answered {count} times" for name, count in answered.items() if count > 1]
    found += [f"there is no statement {name}" for name in answered if name not in IDS]
    return [problem for problem in found if problem]


def test_every_statement_is_answered_and_every_reference_exists():
    found = violations(DOCUMENT.read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


# The checks themselves, on a document that is right but for one row.

PLACE = "`stn_jax/geometry/affine.py::affine_grid`"
TEST = "`tests/test_fidelity.py::test_a_right_document_passes`"
RIGHT_ROWS = {name: f"| {name} | said | {PLACE} | {TEST} | none |" for name in IDS}


def document(**changed: str) -> str:
    separator = "|---" * len(HEADER) + "|"
    rows = [f"| {' | '.join(HEADER)} |", separator, *{**RIGHT_ROWS, **changed}.values()]
    return "\n".join(["# Heading", "", *rows, ""])


def test_a_right_document_passes():
    assert violations(document()) == []
    assert violations(document(M1=f"| M1* | said | {PLACE}, a {PLACE} | not yet: x | y |")) == []
    method = "`stn_jax/geometry/transforms.py::Transform.grid`"
    constant = "`stn_jax/geometry/transforms.py::TRANSFORMS`"
    assert violations(document(M1=f"| M1 | said | {method}, {constant} | none | x |")) == []
    whole_group = {name: "" for name in IDS if name.startswith("A")}
    whole_group["A1"] = "| A1 to A11 | addition | not yet | not yet | not begun |"
    assert violations(document(**whole_group)) == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("", "M3 is missing"),
        (RIGHT_ROWS["M3"] + "\n" + RIGHT_ROWS["M3"], "M3 is answered 2 times"),
        (f"{RIGHT_ROWS['M3']}\n{RIGHT_ROWS['M3'].replace('M3', 'M8')}", "no statement M8"),
        (f"{RIGHT_ROWS['M3']}\n| M-3 | said | {PLACE} | {TEST} | x |", "'M-3' is no id"),
        (f"| M3 | said | {PLACE} | {TEST} |", "M3: 4 cells instead of 5"),
        (f"| M3 | said | {PLACE} | {TEST} | |", "M3: an empty cell"),
        (f"| M3 | said | here | {TEST} | x |", "M3: no place is named"),
        (f"| M3 | said | {PLACE} | tested | x |", "M3: no test or measurement is named"),
        (f"| M3 | said | `stn_jax/affine.py::affine_grid` | {TEST} | x |", "no stn_jax/affine.py"),
        (
            f"| M3 | said | {PLACE}, `stn_jax/geometry/affine.py::affin_grid` | {TEST} | x |",
            "stn_jax/geometry/affine.py does not define affin_grid",
        ),
        (f"| M3 | said | `stn_jax/geometry/affine.py` | {TEST} | x |", "does not say which name"),
        (f"| M3 | said | {TEST} | {TEST} | x |", "test_a_right_document_passes is no place"),
        (
            f"| M3 | said | {PLACE} | {PLACE} | x |",
            "affine.py::affine_grid is no test or measurement",
        ),
        (
            f"| M3 | said | {PLACE} | `tests/test_fidelity.py::test_other` | x |",
            "define test_other",
        ),
        (f"| M3 | said | {PLACE} | `tests/test_fidelity.py::document` | x |", "is not a test"),
        (f"| M3 | said | {PLACE} | {TEST}, `results/none.md` | x |", "there is no results/none.md"),
        (f"| M3 | said | {PLACE} | {TEST} | see `docs/none.md` |", "there is no docs/none.md"),
    ],
)
def test_what_is_wrong_is_found(row, message):
    found = violations(document(M3=row))
    assert len(found) == 1
    assert message in found[0]


# Statements that no other test is about.


def test_the_paper_recipe_is_that_of_appendix_a4():
    """D18, D22, D23: the same for all models, and nothing that the appendix does not have."""
    module = load_config_module(ROOT / "configs" / "distorted_mnist.py")
    configs = [module.get_config(selection) for selection in module.sweep("paper")]
    assert len(configs) == 5 * 8
    for config in configs:
        assert (config.training.num_steps, config.training.batch_size) == (150_000, 256)
        assert config.model.dropout == 0
        pooled = bool(config.model.transform) and config.data.distortion in ("RTS", "TC")
        assert config.model.downsample == pooled
        assert set(config.optimizer.multipliers.values()) <= {1.0}
        config.optimizer.multipliers = {}
        assert config.optimizer == configs[0].optimizer
    optimizer = configs[0].optimizer
    assert (optimizer.name, optimizer.weight_decay) == ("sgd", 0)
    rate = SCHEDULES[optimizer.schedule](optimizer, 150_000)
    rates = [float(rate(step)) for step in (0, 49_999, 50_000, 99_999, 100_000, 149_999)]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4], rel=1e-6)
