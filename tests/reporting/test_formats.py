import csv
import io
import re

import pytest

from stn_jax.reporting.formats import FORMATS
from stn_jax.reporting.runs import find_runs
from stn_jax.reporting.tables import build_tables
from tests.reporting.synthetic import config_of, write_record


@pytest.fixture
def tables(tmp_path):
    write_record(tmp_path / "a_b", ("R", "FCN", ""), seeds=[0, 1], errors=[1.0, 2.0])
    write_record(tmp_path / "c", ("TC", "ST-CNN", "TPS"), errors=[12.5], training__num_steps=400)
    write_record(tmp_path / "toy", ("R", "FCN", ""), errors=[7.0], recipe="quickstart")
    return build_tables(find_runs([tmp_path]), config_of)


def terminal_rows(text):
    return [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in text.splitlines()
        if line.startswith("│")
    ]


def markdown_rows(text):
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.split("Runs:")[0].splitlines()
        if line.startswith("|") and not line.startswith("|-")
    ]


def latex_rows(text):
    return [
        [cell.strip() for cell in line.removesuffix(r"\\").split("&")]
        for line in text.splitlines()
        if " & " in line
    ]


# Format -> (reader, sign of the spread, dash, marks).
READERS = {
    "terminal": (terminal_rows, "±", "–", " [{}]"),
    "markdown": (markdown_rows, "±", "–", " <sup>{}</sup>"),
    "latex": (latex_rows, r"$\pm$", "--", r"\textsuperscript{{{}}}"),
}


@pytest.mark.parametrize("name", READERS)
def test_formats_for_people_show_published_beside_ours(tables, name):
    read, plus_minus, dash, mark = READERS[name]
    header, *rows = read(FORMATS[name][0](tables[:1]))
    assert header == ["", "R", "RTS", "P", "E", "TC"]
    assert [row[0] for row in rows] == [
        *("FCN", "CNN", "ST-FCN Aff", "ST-FCN Proj", "ST-FCN TPS"),
        *("ST-CNN Aff", "ST-CNN Proj", "ST-CNN TPS"),
    ]
    assert {len(row) for row in rows} == {6}
    assert rows[0][1] == f"2.1 / 1.50 {plus_minus} 0.71"
    assert rows[7][5] == f"{dash} / 12.50" + mark.format("sn")
    assert rows[7][4] == f"1.1 / {dash}"  # published, not run
    assert rows[6][5] == dash  # neither


@pytest.mark.parametrize("name", READERS)
def test_toy_tables_are_labelled_and_have_no_published_numbers(tables, name):
    text = FORMATS[name][0](tables[1:])
    assert READERS[name][0](text) == [["", "R"], ["FCN", "7.00"]]
    assert "Toy on sklearn digits, not an experiment of the paper" in text
    assert "published" not in text


@pytest.mark.parametrize("name", READERS)
def test_marks_are_explained(tables, name):
    text = " ".join(FORMATS[name][0](tables).split()).replace(r"\_", "_")
    mark = READERS[name][3]
    steps = "settings not the recipe's: training.num_steps 400 instead of 2000: TC ST-CNN TPS."
    assert f"{mark.format('s').strip()} {steps}" in text
    seeds = "fewer seeds than others, only seed 0: TC ST-CNN TPS."
    assert f"{mark.format('n').strip()} {seeds}" in text
    assert "momentum 0.9, seeds 0, 1." in text


def test_markdown_traces_numbers_to_runs(tables):
    text = FORMATS["markdown"][0](tables[:1])
    header, line, *rows = text.split("Runs:")[1].strip().splitlines()
    values = [[cell.strip() for cell in row.strip("|").split("|")] for row in (header, *rows)]
    assert dict(zip(values[0], values[1], strict=True)) == {
        "run": "`a_b`",
        "status": "finished",
        "seeds": "0 1",
        "steps": "2,000",
        "parameters": "400,123",
        "code": "abc123",
        "device": "Fast GPU",
        "time": "2.1 min",
    }
    assert [row[0] for row in values[1:]] == ["`a_b`", "`c`"]


def test_latex_is_balanced_and_escaped(tables):
    text = FORMATS["latex"][0](tables)
    for environment, count in (("table", 2), ("tabular", 2), ("minipage", 2)):
        assert text.count(rf"\begin{{{environment}}}") == count
        assert text.count(rf"\end{{{environment}}}") == count
    assert text.count("{") == text.count("}")
    assert r"training.num\_steps" in text and r"in \%" in text
    assert not re.search(r"(?<!\\)[_%#]", text)
    assert text.isascii()


def test_csv_has_a_line_a_cell_with_its_origin(tables):
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"][0](tables))))
    assert len(rows) == 41
    assert rows[0] == {
        "distortion": "R",
        "model": "FCN",
        "transform": "",
        "recipe": "fast",
        "published": "2.1",
        "mean": "1.5",
        "std": "0.707107",
        "seeds": "0 1",
        "steps": "2000",
        "parameters": "400123",
        "device": "Fast GPU",
        "commit": "abc123",
        "seconds": "125.0",
        "marks": "",
    }
    assert (rows[1]["published"], rows[1]["mean"], rows[1]["seeds"]) == ("1.2", "", "")
    assert (rows[39]["transform"], rows[39]["mean"], rows[39]["marks"]) == ("TPS", "12.5", "sn")
    assert (rows[40]["recipe"], rows[40]["mean"]) == ("quickstart", "7")
