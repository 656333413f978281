"""Settings side by side, by what runs on held-out data have recorded."""

import statistics

import pytest

from scripts import compare_settings
from tests.reporting.synthetic_sets import write_birds, write_signs


def write(folder, error, *, momentum=0.9, fold=0, seed=0, loss=1.0, split="validation", **more):
    changes = {"data.evaluate_on": split, "data.fold": fold, "optimizer.momentum": momentum}
    name = f"{split}-{momentum}-{fold}-{seed}"
    selection = f"CNN,224px,seed{seed}"
    write_birds(folder / name, selection, error, loss=loss, changes=changes, **more)


def table(folder, capsys, *more):
    compare_settings.main([str(folder), *map(str, more)])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_errors_are_averaged_over_folds_and_seeds(tmp_path, capsys):
    for fold, error in enumerate((30.0, 33.0, 36.0)):
        write(tmp_path, error, fold=fold, loss=1 + fold / 1000)
    write(tmp_path, 20.0, momentum=0.0, fold=1, seed=0)
    write(tmp_path, 22.0, momentum=0.0, fold=1, seed=2)
    write(tmp_path, 1.0, momentum=0.5, split="test")
    spread = f"{statistics.stdev([20.0, 22.0]):.2f}"
    out = tmp_path / "new/page.md"
    assert table(tmp_path, capsys, "--out", out) == [
        ["setting", "folds", "seeds", "error in %", "±", "loss"],
        ["optimizer.momentum=0.0", "1", "0, 2", "21.00", spread, "1.0000"],
        ["optimizer.momentum=0.9", "0, 1, 2", "0", "33.00", "3.00", "1.0010"],
    ]
    assert "| optimizer.momentum=0.0 |" in out.read_text()


def test_a_single_setting_has_the_runs_name_and_no_spread(tmp_path, capsys):
    write(tmp_path, 12.5)
    assert table(tmp_path, capsys)[1:] == [
        ["birds-CNN-224px-paper-seed0", "0", "0", "12.50", "–", "1.0000"]
    ]


def test_what_cannot_be_compared_is_said(tmp_path, capsys):
    def message():
        with pytest.raises(SystemExit) as caught:
            compare_settings.main([str(tmp_path)])
        return str(caught.value)

    write(tmp_path, 1.0, split="test")
    assert "no finished run has a validation error: data.evaluate_on=validation" in message()
    write(tmp_path / "a", 1.0)
    write(tmp_path / "b", 2.0)
    assert "fold 0, seed 0 is there twice, once in" in message()
    write(tmp_path / "c", 1.0, fold=1, fingerprint="4567")
    assert "more than one fingerprint: 0123, 4567" in message()
    write_signs(tmp_path / "d", "two,fast", 1.0, changes={"data.evaluate_on": "validation"})
    assert "more than one experiment: birds, gtsrb" in message()
