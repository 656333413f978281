import pytest

from stn_jax.reporting.claims import SUBJECTS, claims, difference, has_claims
from stn_jax.reporting.published import TABLE_1, TABLE_3
from stn_jax.reporting.runs import find_runs
from stn_jax.reporting.tables import Place, build_tables
from tests.reporting.synthetic import config_of, write_record
from tests.reporting.synthetic_sets import (
    birds_config,
    signs_config,
    svhn_config,
    write_birds,
    write_signs,
    write_svhn,
)

FCN, ST_FCN, ST_CNN = (
    Place("R", *row) for row in (("FCN", ""), ("ST-FCN", "Aff"), ("ST-CNN", "Aff"))
)


def the_table(folder):
    (table,) = build_tables(find_runs([folder]), config_of)
    return table


def rows_of(text):
    """The rows of all tables, by their first cell."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {first.strip(): [cell.strip() for cell in others] for first, *others in rows}


def test_the_spread_of_one_seed_is_binomial(tmp_path):
    write_record(tmp_path / "a", FCN, errors=[2.0])
    write_record(tmp_path / "b", ST_FCN, errors=[1.0])
    cells = the_table(tmp_path).cells
    found = difference(cells[FCN], cells[ST_FCN])
    # Of 10,000 digits, 200 +- 14.0 and 100 +- 9.95 are wrong.
    assert (found.ours, found.kind, found.marks) == (1.0, "b", "")
    assert found.spread == pytest.approx((14.0**2 + 9.95**2) ** 0.5 / 100, abs=1e-5)
    assert found.published == pytest.approx(2.1 - 1.2)
    assert str(found) == "+0.9 / +1.00 ± 0.17 <sup>b</sup>"


def test_seeds_are_paired(tmp_path):
    write_record(tmp_path / "a", FCN, seeds=[0, 1, 2], errors=[2.0, 3.0, 9.0])
    write_record(tmp_path / "b", ST_FCN, seeds=[1, 0], errors=[2.5, 1.0])
    cells = the_table(tmp_path).cells
    found = difference(cells[FCN], cells[ST_FCN])
    # 2 - 1 of seed 0, and 3 - 2.5 of seed 1.
    assert found.ours == pytest.approx(0.75) and found.kind == "m"
    assert found.spread == pytest.approx(0.5 / 2**0.5)
    assert found.marks == "n"  # seed 2 is missing in one of them


def test_no_seed_in_common_is_missing(tmp_path):
    write_record(tmp_path / "a", FCN, seeds=[0], errors=[2.0])
    write_record(tmp_path / "b", ST_FCN, seeds=[1], errors=[1.0])
    cells = the_table(tmp_path).cells
    found = difference(cells[FCN], cells[ST_FCN])
    assert (found.ours, found.spread, found.kind) == (None, None, "")
    assert str(found) == "+0.9 / – <sup>n</sup>"


def test_all_pairs_are_there_and_missing_ones_are_marked(tmp_path):
    write_record(tmp_path / "a", FCN, errors=[2.0])
    write_record(tmp_path / "b", ST_FCN, errors=[1.99])
    write_record(tmp_path / "c", ST_CNN, errors=[9.0])
    text = claims(the_table(tmp_path))
    rows = rows_of(text)
    assert rows[""][0] == "RTS"  # the last table's header
    assert rows["FCN − ST-FCN Aff"] == [
        *("+0.9 / +0.01 ± 0.20 <sup>b</sup>", "+4.4 / –", "+1.6 / –", "+0.5 / –", "+11.2 / –"),
    ]
    assert rows["ST-FCN Aff − ST-CNN Aff"][0] == "+0.5 / -7.01 ± 0.32 <sup>b</sup>"
    assert rows["CNN − ST-CNN TPS"] == ["+0.3 / –"]
    assert rows["FCN − ST-FCN TPS"][4] == "– / –"
    counts = [line.split(": ", 2)[-1] for line in text.splitlines() if "Published:" in line]
    assert counts == [
        "26 of 26 are positive. Ours: 1 of 1, 0 of them by more than twice the spread; "
        "missing: 29.",
        "13 of 13 are positive. Ours: 0 of 1, 0 of them by more than twice the spread; "
        "missing: 14.",
        "3 of 6 are positive. Ours: none; missing: 6.",
    ]
    assert "<sup>b</sup> a single seed: ± binomial" in text and "<sup>m</sup>" not in text
    assert "–: not published, or no finished runs with a seed in common." in text


def test_full_tables_have_no_gaps_and_clear_gains_are_counted(tmp_path):
    for number, ((model, transform), values) in enumerate(TABLE_1.items()):
        for distortion in values:
            errors = [20.0 - number, 20.5 - number, 20.25 - number]
            place = Place(distortion, model, transform)
            write_record(tmp_path / f"{place}", place, seeds=[0, 1, 2], errors=errors)
    text = claims(the_table(tmp_path))
    assert "Ours: 30 of 30, 30 of them" in text and "Ours: 15 of 15, 15" in text
    assert "Ours: 6 of 6, 6" in text and text.count("missing: 0.") == 3
    assert "<sup>m</sup> ± standard deviation (n - 1) over seeds" in text
    assert "/ –" not in text and "+3.00 ± 0.00 <sup>m</sup>" in text


def test_marks_are_explained(tmp_path):
    write_record(tmp_path / "a", FCN, training__num_steps=400)
    write_record(tmp_path / "b", ST_FCN, upto=1000)
    text = claims(the_table(tmp_path))
    assert rows_of(text)["FCN − ST-FCN Aff"][0] == "+0.9 / – <sup>su</sup>"
    assert "<sup>s</sup> settings not the recipe's: training.num_steps 400" in text
    assert "<sup>u</sup> not finished, at step 1,000 of 2,000" in text


def test_the_gain_on_house_numbers_in_small(tmp_path):
    """H21, H22: pairs of runs of one seed; Multi against Single, too."""
    errors = {"CNN": (40.0, 42.0), "Single": (33.0, 33.0), "Multi": (30.0, 31.0)}
    for model, of_seeds in errors.items():
        for seed, error in enumerate(of_seeds):
            folder = tmp_path / f"{model}{seed}"
            write_svhn(folder, f"{model},canvases,reduced,seed{seed}", error, tested=1027)
    (table,) = build_tables(find_runs([tmp_path]), svhn_config)
    assert has_claims(table) and table.title.startswith("House numbers in small, not Table 2")
    text = claims(table)
    assert "+8.00 ± 1.41" in text and "+10.50 ± 0.71" in text and "+2.50 ± 0.71" in text


def test_the_gain_on_traffic_signs(tmp_path):
    """Accuracies: with less without a transformer, seeds paired, both of one width."""
    for name, errors in (("CNN", (2.0, 2.4)), ("one", (1.0, 1.2)), ("two", (0.9,))):
        for seed, error in enumerate(errors):
            selection = f"{name},fast,seed{seed}"
            write_signs(tmp_path / selection, selection, error)
    (table,) = build_tables(find_runs([tmp_path]), signs_config)
    assert has_claims(table)
    text = claims(table)
    rows = rows_of(text)
    assert rows["ST-CNN one − CNN"] == ["+0.91 / +1.10 ± 0.14 <sup>m</sup>"]
    # 2 % and 0.9 % of 12,630.
    spread = ((2 * 98 + 0.9 * 99.1) / 12_630) ** 0.5
    assert rows["ST-CNN two − CNN"] == [f"+0.88 / +1.10 ± {spread:.2f} <sup>bn</sup>"]
    assert rows["ST-CNN three − CNN"] == ["+1.14 / –"]
    assert "of 12,630 signs each" in text and "differences of test accuracies" in text


def test_gains_are_not_between_networks_of_two_widths(tmp_path):
    for selection, error in (("CNN,10epochs", 2.0), ("one,10epochs", 1.0), ("one,narrow", 1.5)):
        write_signs(tmp_path / selection, selection, error)
    write_signs(tmp_path / "part", "one,10epochs20k", 1.0)
    (table,) = build_tables(find_runs([tmp_path]), signs_config)
    rows = rows_of(claims(table))
    assert rows["ST-CNN one − CNN"] == ["+0.91 / –"]
    assert rows["ST-CNN one narrow − CNN"][0].startswith("– / +0.50 ± ")


def test_claims_about_birds_are_about_cells_that_are_published():
    """B16: and as the text has it, all gain; four transformers 1.8 over the baseline."""
    claims_ = SUBJECTS["table3"].claims
    pairs = [
        (Place(column, *worse), Place(column, *better))
        for claim in claims_
        for worse, better in claim.pairs
        for column in claim.columns
    ]
    pairs += [both for claim in claims_ for both in claim.across]
    found = [
        TABLE_3[better[1:]][better.distortion] - TABLE_3[worse[1:]][worse.distortion]
        for worse, better in pairs
    ]
    assert found == pytest.approx([0.8, 0.2, 1.6, 1.8, 0.8])


def test_cells_of_different_columns_are_compared(tmp_path):
    """The larger network on the larger images, seeds paired; what one of the two does alone."""
    errors = {
        "CNN,half224px": (35.0, 37.0),
        "CNN,half448px": (30.0,),
        "2xST-CNN,half448px": (29.0, 30.0),
    }
    for selection, of_seeds in errors.items():
        for seed, error in enumerate(of_seeds):
            write_birds(tmp_path / f"{selection}{seed}", f"{selection},seed{seed}", error)
    (table,) = build_tables(find_runs([tmp_path]), birds_config)
    text = claims(table)
    rows = rows_of(text)
    ours = "half448px 2xST-CNN location − half224px CNN"
    assert rows[ours] == ["– / +6.50 ± 0.71 <sup>m</sup>"]
    assert rows["half448px CNN − half224px CNN"][0].startswith("– / +5.00 ± ")
    assert rows["2xST-CNN location − CNN"][0] == "– / –"
    assert text.count("Transformers raise the accuracy") == 1


def test_published_cells_of_different_columns(tmp_path):
    write_birds(tmp_path / "a", "CNN,224px", 17.0)
    (table,) = build_tables(find_runs([tmp_path]), birds_config)
    rows = rows_of(claims(table))
    assert rows["448px 4xST-CNN location − 224px CNN"] == ["+1.8 / –"]
    assert rows["448px 2xST-CNN location − 224px 2xST-CNN location"] == ["+0.8 / –"]
