import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import make_tables
from stn_jax.launch.cli import load_config_module
from tests.reporting.synthetic import write_record

CONFIGS = {
    name: load_config_module(make_tables.CONFIGS / f"{name}.py")
    for name in ("distorted_mnist", "mnist_addition", "mnist_3d", "colocalisation")
}


def write_run(folder, selection, *, experiment="distorted_mnist", error=1.0):
    """Write the record of a run of the experiment's own config."""
    config = json.loads(json.dumps(CONFIGS[experiment].get_config(selection).to_dict()))
    return write_record(folder, errors=[error], **config)


def table_of(capsys, *arguments):
    make_tables.main([*map(str, arguments), "--format", "csv"])
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


@pytest.mark.parametrize("recipe", ["fast", "paper"])
@pytest.mark.parametrize(("experiment", "count"), [("distorted_mnist", 40), ("mnist_addition", 8)])
def test_every_run_of_the_sweep_fills_its_cell_unmarked(
    tmp_path, capsys, experiment, count, recipe
):
    module = CONFIGS[experiment]
    expected = {}
    for number, selection in enumerate(module.sweep(recipe)):
        write_run(tmp_path / str(number), selection, experiment=experiment, error=float(number))
        expected[selection] = number
    rows = table_of(capsys, tmp_path)
    kinds = [kind for kind in ("distortion", "model", "transform") if kind in module.CHOICES]
    found = {
        ",".join(filter(None, (row[kind] for kind in (*kinds, "recipe")))): float(row["mean"])
        for row in rows
    }
    assert found == expected and len(found) == count
    assert {row["marks"] for row in rows} == {""}
    num_steps = {"fast": "20000", "paper": "150000"}
    assert {row["steps"] for row in rows} == {num_steps[recipe]}


def test_table_5_counts_what_is_right(tmp_path, capsys):
    config = CONFIGS["colocalisation"].get_config("TC,8")
    config.seeds = (0,)
    config.runtime.encoder_workdir = "elsewhere"
    config = json.loads(json.dumps(config.to_dict()))
    write_record(tmp_path / "run", errors=[12.0], **config)
    rows = {(row["distortion"], row["model"]): row for row in table_of(capsys, tmp_path)}
    assert len(rows) == 20
    row = rows["TC", "8"]
    assert (row["published"], row["mean"], row["marks"]) == ("89", "88", "")
    assert rows["T", "8"]["published"] == "100" and not rows["T", "8"]["mean"]
    make_tables.main([str(tmp_path)])
    assert "Table 5, co-localisation: correct boxes in %, published / ours" in (
        capsys.readouterr().out.replace("\n", " ")
    )


def test_seeds_of_volumes_share_their_cell_unmarked(tmp_path, capsys):
    module = CONFIGS["mnist_3d"]
    for number, selection in enumerate(module.sweep()):
        write_run(tmp_path / str(number), selection, experiment="mnist_3d", error=float(number))
    rows = {row["model"]: row for row in table_of(capsys, tmp_path)}
    assert {name: (row["mean"], row["seeds"]) for name, row in rows.items()} == {
        "CNN": ("1", "0 1 2"),
        "ST-CNN": ("4", "0 1 2"),
    }
    assert {row["marks"] + row["published"] for row in rows.values()} == {""}


def test_transforms_that_the_paper_lacks_have_their_row_and_no_claim(tmp_path, capsys):
    write_run(tmp_path / "runs/a", "E,ST-FCN,PWA", error=1.23)
    make_tables.main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    assert "ST-FCN PWA" in capsys.readouterr().out
    assert "PWA" not in (tmp_path / "out/claims_fast.md").read_text()


def test_overridden_settings_are_marked(tmp_path, capsys):
    path = write_run(tmp_path / "a", "R,ST-CNN,TPS")
    path.write_text(path.read_text().replace('"learning_rate": 0.001', '"learning_rate": 0.5'))
    (row,) = (row for row in table_of(capsys, tmp_path) if row["mean"])
    assert (row["model"], row["transform"], row["marks"]) == ("ST-CNN", "TPS", "s")


def test_prints_one_format_and_writes_the_others(tmp_path, capsys):
    write_run(tmp_path / "runs/a", "R,FCN", error=1.23)
    write_run(tmp_path / "runs/b", "R,FCN,quickstart", error=45.6)
    make_tables.main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "2.1 / 1.23" in printed and "45.60" in printed and "│" in printed
    written = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    stems = ("table1_fast", "toy_quickstart_sklearn")
    files = {stem + end for stem in stems for end in (".md", ".tex", ".csv")}
    assert set(written) == {*files, "claims_fast.md"}
    assert "Published: " in written.pop("claims_fast.md")
    for name, text in written.items():
        assert ("1.23" in text) == name.startswith("table1")
        assert ("45.6" in text) == name.startswith("toy")


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "there is no record.jsonl below"), ("{}", "record.jsonl: not a run record")],
)
def test_errors_are_one_line(tmp_path, text, message):
    if text:
        (tmp_path / "record.jsonl").write_text(text)
    with pytest.raises(SystemExit, match=rf"^make_tables.py: .*{message}") as caught:
        make_tables.main([str(tmp_path)])
    assert "\n" not in str(caught.value)


def test_a_recipe_that_the_config_file_does_not_have_is_named(tmp_path):
    path = write_run(tmp_path / "a", "R,FCN")
    path.write_text(path.read_text().replace('"recipe": "fast"', '"recipe": "slow"'))
    with pytest.raises(SystemExit, match=f"{path}: no 'slow' to select.") as caught:
        make_tables.main([str(tmp_path)])
    assert "\n" not in str(caught.value)


def test_help_explains_itself():
    script = Path(make_tables.__file__)
    said = subprocess.run(
        [sys.executable, script, "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    ).stdout
    assert all(word in said for word in ("RUNS", "terminal", "latex", "--out", "pooled"))
