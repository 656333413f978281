import json
import math

import pytest

from stn_jax.reporting.formats import FORMATS
from stn_jax.reporting.published import MNIST_3D_NOTES
from stn_jax.reporting.runs import RecordError, find_runs
from stn_jax.reporting.tables import Place, build_tables, place_of
from tests.reporting.synthetic import config_of, write_record
from tests.reporting.synthetic_sets import (
    birds_config,
    signs_config,
    svhn_config,
    write_birds,
    write_signs,
    write_svhn,
)

FCN = Place("R", "FCN", "")
AFFINE = Place("RTS", "ST-FCN", "Aff")


def tables(folder):
    return build_tables(find_runs([folder]), config_of)


def the_table(folder):
    (table,) = tables(folder)
    return table


def notes(table, mark):
    return [text for other, text in table.notes if other == mark]


def test_mean_and_spread_over_seeds_of_several_runs(tmp_path):
    write_record(tmp_path / "a", FCN, seeds=[0, 2], errors=[1.0, 2.0])
    write_record(tmp_path / "b", FCN, seeds=[1], errors=[4.5])
    table = the_table(tmp_path)
    cell = table.cells[FCN]
    assert cell.errors == {0: 1.0, 1: 4.5, 2: 2.0}
    assert cell.mean == pytest.approx(7.5 / 3)
    assert cell.std == pytest.approx(math.sqrt((1.5**2 + 2.0**2 + 0.5**2) / 2))
    assert cell.published == 2.1
    assert cell.marks == ""
    assert table.title.startswith("Table 1, distorted MNIST: test error in %, published / ours")
    settings = "Recipe 'fast': Adam, 2,000 iterations, momentum 0.9, seeds 0, 1, 2."
    assert "standard deviation (n - 1)" in table.title and table.title.endswith(settings)
    assert [run.label for run in table.runs] == ["a", "b"]


def test_one_seed_has_no_spread(tmp_path):
    write_record(tmp_path / "a", FCN, errors=[1.25])
    table = the_table(tmp_path)
    assert (table.cells[FCN].mean, table.cells[FCN].std) == (1.25, None)
    assert "deviation" not in table.title and table.title.endswith("seed 0.")


def test_the_whole_table_is_shown_and_missing_cells_are_empty(tmp_path):
    write_record(tmp_path / "a", FCN)
    table = the_table(tmp_path)
    assert table.columns == ("R", "RTS", "P", "E", "TC")
    assert len(table.rows) == 8 and len(table.cells) == 40
    missing = table.cells[Place("E", "ST-CNN", "TPS")]
    assert (missing.published, missing.mean, missing.std, missing.marks) == (1.1, None, None, "")
    assert table.cells[Place("TC", "ST-CNN", "TPS")].published is None
    assert any("TC: published in the paper's text" in text for text in notes(table, ""))
    assert "–: not published, or no finished run." in notes(table, "")


@pytest.mark.parametrize("transform", ["Attention", "PWA", "Sim"])
def test_models_that_the_paper_lacks_get_their_row(tmp_path, transform):
    place = Place("TC", "ST-CNN", transform)
    write_record(tmp_path / "a", place, errors=[3.0])
    table = the_table(tmp_path)
    assert table.rows[8:] == (("ST-CNN", transform),)
    assert (table.cells[place].mean, table.cells[place].published) == (3.0, None)


def test_recipes_and_toy_digits_have_their_own_tables(tmp_path):
    write_record(tmp_path / "fast", FCN, errors=[1.0])
    write_record(tmp_path / "paper", FCN, errors=[2.0], recipe="paper")
    write_record(tmp_path / "toy", FCN, errors=[3.0], recipe="quickstart")
    write_record(tmp_path / "toy_fast", FCN, errors=[4.0], data__digits="sklearn")
    write_record(
        tmp_path / "quick_mnist", FCN, errors=[5.0], recipe="quickstart", data__digits="mnist"
    )
    found = {table.stem: table for table in tables(tmp_path)}
    means = {stem: table.cells[FCN].mean for stem, table in found.items()}
    assert means == {
        "table1_fast": 1.0,
        "table1_paper": 2.0,
        "toy_quickstart_sklearn": 3.0,
        "toy_fast_sklearn": 4.0,
        "toy_quickstart_mnist": 5.0,
    }
    for stem, table in found.items():
        assert table.compared == stem.startswith("table1")
        assert ("not an experiment of the paper" in table.title) == stem.startswith("toy")
        assert ("Jaderberg" in str(table.notes)) == stem.startswith("table1")
    toy = found["toy_quickstart_sklearn"]
    assert (toy.columns, toy.rows) == (("R",), (("FCN", ""),))
    assert toy.cells[FCN].published is None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"training__num_steps": 400}, "training.num_steps 400 instead of 2000"),
        ({"optimizer__learning_rate": 0.01}, "optimizer.learning_rate 0.01 instead of 0.001"),
        (
            {"optimizer__multipliers": {"localisation": 0.1}},
            "optimizer.multipliers.localisation 0.1 instead of absent",
        ),
        ({"model__num_params": 9}, "model.num_params 9 instead of 400000"),
        ({"fingerprint": "abc"}, "data abc, not the published MNIST"),
    ],
)
def test_settings_that_are_not_the_recipe_s_are_marked(tmp_path, change, text):
    write_record(tmp_path / "a", FCN, errors=[1.5], **change)
    table = the_table(tmp_path)
    assert (table.cells[FCN].mean, table.cells[FCN].marks) == (1.5, "s")
    assert notes(table, "s") == [f"settings not the recipe's: {text}: R FCN."]


def test_a_field_that_came_after_the_record_is_not_marked(tmp_path):
    write_record(tmp_path / "a", FCN, errors=[1.5])
    record = tmp_path / "a/record.jsonl"
    header, *lines = record.read_text().splitlines()
    older = json.loads(header)
    del older["config"]["model"]["num_params"]
    record.write_text("\n".join([json.dumps(older), *lines]) + "\n")
    table = the_table(tmp_path)
    assert (table.cells[FCN].mean, table.cells[FCN].marks) == (1.5, "")


def test_what_does_not_change_the_result_is_not_marked(tmp_path):
    incidental = {
        "name": "other",
        "runtime__steps_per_call": 1,
        "training__log_every": 7,
        "training__eval_every": 7,
        "training__eval_batch_size": 7,
    }
    write_record(tmp_path / "a", FCN, **incidental)
    assert the_table(tmp_path).cells[FCN].marks == ""


def test_validation_errors_are_never_shown(tmp_path):
    write_record(tmp_path / "a", FCN, errors=[1.5], data__evaluate_on="validation")
    table = the_table(tmp_path)
    assert (table.cells[FCN].mean, table.cells[FCN].marks) == (None, "s")
    assert "data.evaluate_on validation instead of test: R FCN" in notes(table, "s")[0]
    assert table.title.endswith("no finished run.")


def test_runs_of_other_settings_are_left_out_where_the_recipe_has_a_result(tmp_path):
    write_record(tmp_path / "good", FCN, errors=[1.0])
    write_record(tmp_path / "other", FCN, errors=[9.0], seeds=[1], optimizer__momentum=0.0)
    table = the_table(tmp_path)
    assert (table.cells[FCN].errors, table.cells[FCN].marks) == ({0: 1.0}, "")
    left_out = "Left out, optimizer.momentum 0.0 instead of 0.9: R FCN (other)."
    assert left_out in notes(table, "")
    assert len(table.runs) == 2


def test_different_settings_are_not_mixed(tmp_path):
    write_record(tmp_path / "a", FCN, optimizer__momentum=0.0)
    write_record(tmp_path / "b", FCN, seeds=[1], optimizer__momentum=0.5)
    table = the_table(tmp_path)
    assert (table.cells[FCN].mean, table.cells[FCN].marks) == (None, "s")
    assert ["0.0" in text or "0.5" in text for text in notes(table, "s")] == [True, True]


@pytest.mark.parametrize(
    ("arguments", "mark", "text"),
    [
        ({"upto": 1000}, "u", "not finished, at step 1,000 of 2,000: R FCN (b)."),
        ({"end": False}, "u", "not finished, at step 2,000 of 2,000: R FCN (b)."),
        (
            {"upto": 500, "more": [{"kind": "diverged", "step": 700}]},
            "d",
            "diverged, at step 700 of 2,000: R FCN (b).",
        ),
    ],
)
def test_runs_without_an_end_are_marked_and_do_not_count(tmp_path, arguments, mark, text):
    write_record(tmp_path / "b", FCN, seeds=[1], errors=[9.0], **arguments)
    table = the_table(tmp_path)
    assert (table.cells[FCN].mean, table.cells[FCN].marks) == (None, mark)
    assert notes(table, mark) == [text]

    write_record(tmp_path / "a", FCN, seeds=[0], errors=[1.0])
    table = the_table(tmp_path)
    assert (table.cells[FCN].mean, table.cells[FCN].marks) == (1.0, mark)
    assert notes(table, mark) == [text]


def test_fewer_seeds_than_other_cells_are_marked(tmp_path):
    write_record(tmp_path / "a", FCN, seeds=[0, 1, 2], errors=[1.0, 2.0, 3.0])
    write_record(tmp_path / "b", AFFINE, seeds=[0, 2], errors=[1.0, 2.0])
    table = the_table(tmp_path)
    assert (table.cells[FCN].marks, table.cells[AFFINE].marks) == ("", "n")
    assert notes(table, "n") == ["fewer seeds than others, only seeds 0, 2: RTS ST-FCN Aff."]


def test_a_note_is_shared_by_the_cells_it_is_true_of(tmp_path):
    for name, place in (("a", FCN), ("b", AFFINE)):
        write_record(tmp_path / name, place, training__num_steps=400)
    assert notes(the_table(tmp_path), "s") == [
        "settings not the recipe's: training.num_steps 400 instead of 2000: R FCN; RTS ST-FCN Aff."
    ]


@pytest.mark.parametrize("arguments", [{}, {"upto": 1000}])
def test_the_same_seed_twice_is_an_error(tmp_path, arguments):
    first = write_record(tmp_path / "a", FCN, seeds=[0, 1], errors=[1.0, 2.0])
    second = write_record(tmp_path / "b", FCN, seeds=[1, 2], errors=[3.0, 4.0], **arguments)
    with pytest.raises(RecordError, match=f"R FCN: seed 1 is in both {first} and {second}"):
        tables(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"model__name": "lenet"},
        {"model__transform": "spiral"},
        {"data__distortion": "T"},
        {"data": {"distortion": "R"}},
        {"model": {}},
    ],
)
def test_other_experiments_are_named(tmp_path, change):
    path = write_record(tmp_path / "a", FCN, **change)
    with pytest.raises(RecordError, match=f"{path}: run R-FCN-fast is not one of Table 1"):
        tables(tmp_path)


def test_unknown_recipes_are_named(tmp_path):
    def reference(experiment, place, recipe):
        raise ValueError(f"no {recipe!r} to select.")

    path = write_record(tmp_path / "a", FCN, recipe="slow")
    with pytest.raises(RecordError, match=f"{path}: no 'slow' to select"):
        build_tables(find_runs([tmp_path]), reference)


def test_place_of_a_run(tmp_path):
    write_record(tmp_path / "a", AFFINE)
    place = place_of(find_runs([tmp_path])[0])
    assert place == AFFINE and str(place) == "RTS ST-FCN Aff"


# Table 4

PAIR = Place("RTS", "2xST-FCN", "TPS")


def test_addition_has_a_table_of_its_own(tmp_path):
    write_record(tmp_path / "a", PAIR, experiment="mnist_addition", errors=[4.25])
    single = Place("RTS", "ST-FCN", "TPS")
    write_record(tmp_path / "b", single, experiment="mnist_addition", errors=[20.0])
    write_record(tmp_path / "c", Place("RTS", "ST-FCN", "TPS"), errors=[1.0])
    table_1, table_4 = tables(tmp_path)
    assert (table_1.stem, table_4.stem) == ("table1_fast", "table4_fast")
    assert table_1.cells[single].mean == 1.0 and PAIR not in table_1.cells
    assert table_4.columns == ("RTS",) and len(table_4.rows) == len(table_4.cells) == 8
    cells = {place: (cell.published, cell.mean) for place, cell in table_4.cells.items()}
    assert cells[PAIR] == (5.8, 4.25)
    assert cells[single] == (19.1, 20.0)
    assert cells[Place("RTS", "CNN", "")] == (14.7, None)
    assert not any(cell.marks for cell in table_4.cells.values())
    assert table_4.title.startswith("Table 4, MNIST addition: test error in %, published / ours.")
    assert any("Jaderberg et al. 2015, Table 4" in text for text in notes(table_4, ""))


def test_toys_of_both_experiments_are_told_apart(tmp_path):
    for name in ("distorted_mnist", "mnist_addition"):
        place = Place("RTS", "FCN", "")
        write_record(tmp_path / name, place, experiment=name, recipe="quickstart")
    assert [(table.stem, table.title.split(",")[0]) for table in tables(tmp_path)] == [
        ("toy_quickstart_sklearn", "Toy on sklearn digits"),
        ("toy_addition_quickstart_sklearn", "Toy addition on sklearn digits"),
    ]


def test_departures_of_addition_are_marked(tmp_path):
    write_record(tmp_path / "a", PAIR, experiment="mnist_addition", optimizer__momentum=0.0)
    table = the_table(tmp_path)
    assert table.cells[PAIR].marks == "s"
    text = "settings not the recipe's: optimizer.momentum 0.0 instead of 0.9: RTS 2xST-FCN TPS."
    assert notes(table, "s") == [text]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiment": "painting"}, "the experiment painting has no table here"),
        ({"data__distortion": "R"}, "run .* is not one of Table 4"),
        ({"model__name": "lenet"}, "run .* is not one of Table 4"),
    ],
)
def test_what_has_no_place_in_table_4_is_named(tmp_path, change, message):
    path = write_record(tmp_path / "a", PAIR, **{"experiment": "mnist_addition", **change})
    with pytest.raises(RecordError, match=f"{path}: {message}"):
        tables(tmp_path)


# 3-D MNIST


def test_volumes_have_a_table_without_published_numbers(tmp_path):
    place = Place("3D", "ST-CNN", "Aff")
    volumes = {"experiment": "mnist_3d", "model__transform": "affine_3d"}
    write_record(tmp_path / "a", place, seeds=[0], errors=[4.0], **volumes)
    write_record(tmp_path / "b", place, seeds=[2], errors=[5.0], **volumes)
    runs = find_runs([tmp_path])
    (table,) = build_tables(runs, lambda *_: runs[0].config)
    assert (table.stem, table.compared) == ("mnist_3d_fast", False)
    assert (table.columns, table.rows) == (("3D",), (("CNN", ""), ("ST-CNN", "Aff")))
    cell = table.cells[place]
    assert (cell.published, cell.mean, cell.marks) == (None, 4.5, "")
    assert table.title.startswith("3-D MNIST: test error in % ± standard deviation")
    assert "published" not in table.title
    assert notes(table, "") == [*MNIST_3D_NOTES, "–: no finished run."]
    text = "Jaderberg et al. 2015, appendix A.3, prints no error for this experiment."
    assert MNIST_3D_NOTES[0] == text


def test_table_2_has_one_row_a_network_and_a_column_a_size(tmp_path):
    """H17: two seeds pooled, the lines for comparison printed as published."""
    for seed, error in (("seed0", 4.0), ("seed1", 3.6)):
        write_svhn(tmp_path / seed, f"Multi,64px,{seed}", error)
    (table,) = build_tables(find_runs([tmp_path]), svhn_config)
    assert table.title.startswith("Table 2, SVHN: sequence error in %, published / ours")
    assert (table.stem, table.columns) == ("table2_paper", ("64px", "128px"))
    cell = table.cells[Place("64px", "ST-CNN", "Multi")]
    assert (cell.published, cell.mean, cell.marks) == (3.6, pytest.approx(3.8), "")
    assert table.cells[Place("128px", "DRAM", "")].published == 4.5
    assert len(table.rows) == 5


def test_the_error_a_digit_is_noted(tmp_path):
    """Beside the sequence error, which is the table's."""
    for seed, error in (("seed0", 1.5), ("seed1", 1.3)):
        write_svhn(tmp_path / seed, f"Multi,64px,{seed}", 4.0, digit_error=[error])
    (table,) = build_tables(find_runs([tmp_path]), svhn_config)
    expected = "Ours, error a digit in %, mean over seeds: 64px ST-CNN Multi 1.40."
    assert expected in notes(table, "")


@pytest.mark.parametrize("sizes", [{"tested": 1027}, {"trained": 28_401}])
def test_part_of_svhn_is_not_table_2(tmp_path, sizes):
    """The latter without the images of `extra`."""
    write_svhn(tmp_path / "a", "CNN,64px", 30.0, **sizes)
    (table,) = build_tables(find_runs([tmp_path]), svhn_config)
    assert table.cells[Place("64px", "CNN", "")].marks == "s"
    assert any("images, not on SVHN's 230,754 and 13,068" in note for note in notes(table, "s"))


def test_house_numbers_in_small_have_a_table_of_their_own(tmp_path):
    write_svhn(tmp_path / "a", "CNN,canvases,reduced", 30.0, tested=1027)
    write_svhn(tmp_path / "b", "Single,crops,reduced", 20.0, tested=1027)
    (table,) = build_tables(find_runs([tmp_path]), svhn_config)
    assert table.columns == ("crops", "canvases") and not table.compared
    assert table.cells[Place("canvases", "CNN", "")].mean == 30.0
    assert table.rows == (("CNN", ""), ("ST-CNN", "Single"))
    assert table.title.startswith("House numbers in small, not Table 2: a quarter of the filters")
    assert "Ours: images svhn, fingerprint 0123." in notes(table, "")


def test_traffic_signs_show_accuracies_by_epochs(tmp_path):
    """G8, G9, G10."""
    for seed, error in (("seed0", 0.5), ("seed1", 0.3)):
        write_signs(tmp_path / seed, f"two,26epochs,{seed}", error)
    write_signs(tmp_path / "one", "one", 1.0)
    write_signs(tmp_path / "part", "three,10epochs20k", 0.25)
    (table,) = build_tables(find_runs([tmp_path]), signs_config)
    assert table.title.startswith(
        "Traffic signs, GTSRB: test accuracy in %, published / ours ± standard"
    )
    columns = ("10epochs20k", "10epochs", "14epochs", "26epochs")
    assert (table.stem, table.columns) == ("gtsrb_paper", columns)
    cells = {place: (cell.published, cell.mean, cell.marks) for place, cell in table.cells.items()}
    two = Place("26epochs", "ST-CNN", "two")
    assert cells[two] == (99.67, pytest.approx(99.6), "")
    assert cells[Place("14epochs", "ST-CNN", "two")] == (99.61, None, "")
    assert cells[Place("10epochs", "ST-CNN", "one")] == (99.46, 99.0, "n")
    assert cells[Place("10epochs", "CNN", "")] == (98.85, None, "")
    assert cells[Place("10epochs20k", "ST-CNN", "three")] == (99.56, 99.75, "n")
    assert any("98.84" in text for text in notes(table, ""))
    assert FORMATS["markdown"][0]([table]).count("99.67 / 99.60 ± 0.14") == 1


def test_transformers_elsewhere_have_a_row_of_their_own(tmp_path):
    changes = {"model.transformers": (1, 2)}
    write_signs(tmp_path / "a", "two,10epochs20k", 1.0, changes=changes)
    (table,) = build_tables(find_runs([tmp_path]), signs_config)
    cells = {place: cell.mean for place, cell in table.cells.items() if cell.mean is not None}
    assert cells == {Place("10epochs20k", "ST-CNN", "before 1 and 2"): 99.0}


def test_a_rate_that_was_not_lowered_yet_is_marked(tmp_path):
    """An absent factor is 1, unlike other fields that came after a record."""
    write_signs(tmp_path / "a", "two,fast", 1.0)
    path = tmp_path / "a" / "record.jsonl"
    text = path.read_text()
    assert '"transformers": 0.3' in text
    for factors, marks in (('"transformers": 0.3', ""), ("", "s"), ('"transformers": 1.0', "s")):
        path.write_text(text.replace('"transformers": 0.3', factors))
        (table,) = build_tables(find_runs([tmp_path]), signs_config)
        assert table.cells[Place("short", "ST-CNN", "two")].marks == marks
    shown = FORMATS["markdown"][0]([table])
    assert "optimizer.multipliers.transformers 1.0 instead of 0.3" in shown


@pytest.mark.parametrize("recipe", ["paper", "fast"])
def test_enlarged_or_fewer_signs_are_marked(tmp_path, recipe):
    write_signs(tmp_path / "a", f"CNN,{recipe}", 2.0, tested=70, data="gtsrb_48_from_32")
    write_signs(tmp_path / "b", f"one,{recipe}", 2.0, trained=39_208)
    (table,) = build_tables(find_runs([tmp_path]), signs_config)
    first, second = notes(table, "s")
    assert "trained on 39,209 and tested on 70 images, not on 39,209 and 12,630" in first
    enlarged = "images gtsrb_48_from_32, not gtsrb_48 of the originals"
    assert (enlarged in first) == (recipe == "paper")
    assert "trained on 39,208 and tested on 12,630 images, not on 39,209" in second


def test_our_recipe_stands_beside_what_is_published(tmp_path):
    for seed, error in (("seed0", 1.0), ("seed1", 1.2)):
        write_signs(tmp_path / seed, f"two,fast,{seed}", error, data="gtsrb_32_from_32")
    write_signs(tmp_path / "none", "CNN,fast", 2.0, fingerprint="4567")
    (table,) = build_tables(find_runs([tmp_path]), signs_config)
    assert (table.stem, table.columns) == ("gtsrb_fast", ("short",)) and table.compared
    assert "not an experiment of the paper" not in table.title
    two = table.cells[Place("short", "ST-CNN", "two")]
    assert (two.published, two.mean, two.marks) == (99.30, pytest.approx(98.9), "")
    assert table.cells[Place("short", "CNN", "")].published == 98.42
    text = "\n".join(notes(table, ""))
    assert "Ours differ: 10 epochs of all images, of 32x32;" in text
    assert "after 10 epochs of 20,000 images. Of all images: none 98.85" in text
    assert "Ours: images gtsrb_32_from_32, fingerprint 0123: short ST-CNN two." in text
    assert "Ours: images gtsrb_32, fingerprint 4567: short CNN." in text


def test_seeds_on_different_pixels_are_not_pooled(tmp_path):
    write_signs(tmp_path / "a", "two,fast,seed0", 1.0)
    write_signs(tmp_path / "b", "two,fast,seed1", 1.0, data="gtsrb_32_from_32", fingerprint="4567")
    with pytest.raises(RecordError, match="two: the runs are not on the same data .*b/record"):
        build_tables(find_runs([tmp_path]), signs_config)


def test_normalisations_and_widths_have_rows_of_their_own(tmp_path):
    write_signs(tmp_path / "a", "two,10epochs20k", 1.0)
    write_signs(tmp_path / "b", "two,10epochs20k,neither", 5.0)
    write_signs(tmp_path / "c", "CNN,10epochs20k,image", 7.0)
    write_signs(tmp_path / "d", "one,10epochs,narrow", 2.0)
    (table,) = build_tables(find_runs([tmp_path]), signs_config)
    extra = (("CNN image", ""), ("ST-CNN", "one narrow"), ("ST-CNN", "two neither"))
    assert table.rows[4:] == extra
    means = {place[1:]: cell.mean for place, cell in table.cells.items() if cell.runs}
    assert means == {
        ("ST-CNN", "two"): 99.0,
        ("ST-CNN", "two neither"): 95.0,
        ("CNN image", ""): 93.0,
        ("ST-CNN", "one narrow"): 98.0,
    }
    assert not notes(table, "s")
    assert any("96.96, 94.63, 96.81, 89.26" in text for text in notes(table, ""))


def test_other_measures_of_the_last_step_are_noted(tmp_path):
    """G12: the overlap."""
    for seed, overlap in (("seed0", 0.5), ("seed1", 0.7)):
        write_signs(tmp_path / seed, f"one,fast,{seed}", 1.0, overlap=[overlap])
    (table,) = build_tables(find_runs([tmp_path]), signs_config)
    assert any("mean over seeds: short ST-CNN one 0.60." in text for text in notes(table, ""))


def test_table_3_shows_accuracies_by_image_size(tmp_path):
    """B16, B18, B21."""
    for seed, error in (("seed0", 17.0), ("seed1", 16.0)):
        write_birds(tmp_path / seed, f"2xST-CNN,224px,{seed}", error)
    write_birds(tmp_path / "large", "2xST-CNN,448px,affine", 15.0, data="cub_512")
    (table,) = build_tables(find_runs([tmp_path]), birds_config)
    assert table.title.startswith(
        "Table 3, CUB-200-2011: test accuracy in %, published / ours ± standard"
    )
    assert (table.stem, table.columns) == ("table3_paper", ("224px", "448px"))
    assert table.rows == (
        ("CNN", ""),
        ("2xST-CNN", "location"),
        ("4xST-CNN", "location"),
        ("2xST-CNN", "affine"),
    )
    cells = {place: (cell.published, cell.mean, cell.marks) for place, cell in table.cells.items()}
    assert cells[Place("224px", "2xST-CNN", "location")] == (83.1, 83.5, "")
    assert cells[Place("448px", "2xST-CNN", "affine")] == (None, 85.0, "n")
    assert cells[Place("448px", "4xST-CNN", "location")] == (84.1, None, "")
    assert cells[Place("224px", "CNN", "")] == (82.3, None, "")
    text = "\n".join(notes(table, ""))
    assert "66.7" in text and "81.0" in text and "84.0" in text


def test_some_birds_are_not_table_3(tmp_path):
    some = {"trained": 1500, "tested": 1389, "data": "cub_256_50_classes"}
    write_birds(tmp_path / "a", "CNN,224px", 40.0, **some)
    (table,) = build_tables(find_runs([tmp_path]), birds_config)
    (text,) = notes(table, "s")
    assert "trained on 1,500 and tested on 1,389 images, not on CUB's 5,994 and 5,794" in text
    assert "images cub_256_50_classes, not all 200 classes" in text


def test_birds_in_small_say_what_they_are(tmp_path):
    some = {"trained": 1500, "tested": 1389, "data": "cub_128_50_classes"}
    write_birds(tmp_path / "a", "CNN,reduced", 50.0, **some)
    write_birds(tmp_path / "b", "2xST-CNN,half448px", 45.0, **some)
    (table,) = build_tables(find_runs([tmp_path]), birds_config)
    assert (table.stem, table.columns) == (
        "birds_in_small_reduced_cub",
        ("half224px", "half448px"),
    )
    assert table.title.startswith("Birds in small, not Table 3: 50 of 200 classes, images and")
    assert "Inception-v3 up to mixed_7" in table.title and not table.compared
    assert table.cells[Place("half448px", "2xST-CNN", "location")].mean == 55.0
    assert not notes(table, "s")
