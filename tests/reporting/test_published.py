import pytest

from stn_jax.data import cub, gtsrb, mnist
from stn_jax.launch.cli import load_config_module
from stn_jax.reporting import published, tables


def test_table_1_has_the_cells_of_the_sweep():
    selections = load_config_module("configs/distorted_mnist.py").sweep()
    cells = {
        ",".join(filter(None, (distortion, *row, "fast")))
        for row, values in published.TABLE_1.items()
        for distortion in values
    }
    assert cells == set(selections)


def test_only_the_variants_of_tc_that_the_paper_does_not_name_are_unpublished():
    unpublished = {
        (distortion, transform)
        for (_, transform), values in published.TABLE_1.items()
        for distortion, value in values.items()
        if value is None
    }
    assert unpublished == {("TC", "Proj"), ("TC", "TPS")}


def test_the_paper_s_order_holds():
    """Transformers never hurt, and the convolutional kind is better (Sect. 4.1)."""
    table = published.TABLE_1
    for kind in ("FCN", "CNN"):
        for transform in ("Aff", "Proj", "TPS"):
            for distortion, value in table[f"ST-{kind}", transform].items():
                assert value is None or value <= table[kind, ""][distortion]
    for transform in ("Aff", "Proj", "TPS"):
        for distortion, value in table["ST-CNN", transform].items():
            assert value is None or value < table["ST-FCN", transform][distortion]


def test_table_5_is_the_paper_s():
    table = published.TABLE_5
    assert [table[str(digit), ""]["T"] for digit in range(10)] == [100] * 10
    cluttered = [table[str(digit), ""]["TC"] for digit in range(10)]
    assert cluttered == [81, 82, 88, 75, 94, 84, 93, 85, 89, 87]


def test_every_model_and_transform_has_a_name_in_the_tables():
    choices = load_config_module("configs/distorted_mnist.py").CHOICES
    for names, kind in ((tables.MODELS, "model"), (tables.TRANSFORMS, "transform")):
        chosen = {code: name for name, code in choices[kind].items()}
        assert chosen == {code: names[code] for code in chosen}


def test_table_4_has_the_cells_of_the_sweep_and_the_paper_s_order():
    """Two transformers beat everything, one beats the FCN but not the CNN (A.1)."""
    selections = load_config_module("configs/mnist_addition.py").sweep()
    errors = {row: values["RTS"] for row, values in published.TABLE_4.items()}
    assert {",".join(filter(None, (*row, "fast"))) for row in errors} == set(selections)
    for transform in ("Aff", "Proj", "TPS"):
        one, two = errors["ST-FCN", transform], errors["2xST-FCN", transform]
        assert two < errors["CNN", ""] < one < errors["FCN", ""]


def test_fingerprint_is_that_of_the_data():
    assert published.MNIST_FINGERPRINT == mnist.PUBLISHED_FINGERPRINT


def test_traffic_signs_have_the_cells_of_the_sweep():
    selections = load_config_module("configs/gtsrb.py").sweep()
    swept = {tuple(selection.split(",")[:2]) for selection in selections}
    cells = {
        (transform or model, length)
        for (model, transform), row in published.GTSRB.items()
        for length, value in row.items()
        if value is not None
    }
    assert swept == cells
    for recipe, (beside, _) in tables.LAYOUTS["gtsrb"].beside.items():
        selections = load_config_module("configs/gtsrb.py").sweep(recipe)
        swept = {tuple(selection.split(",")[:2]) for selection in selections}
        assert swept == {(t or m, length) for (m, t), row in beside.items() for length in row}
        for row, values in beside.items():
            printed = {None, *published.GTSRB[row].values()}
            assert set(values.values()) <= printed


def test_traffic_signs_of_20000_images_are_counts_of_the_test_set():
    """Of 12,630: the code's pages print the quotients."""
    right = {("CNN", ""): 12_430, ("ST-CNN", "one"): 12_546}
    right |= {("ST-CNN", "two"): 12_542, ("ST-CNN", "three"): 12_574}
    for row, count in right.items():
        assert published.GTSRB[row]["10epochs20k"] == round(100 * count / 12_630, 2)


def test_counts_of_traffic_signs_are_the_publishers():
    counts = {"train": published.GTSRB_NUM_TRAIN, "test": published.GTSRB_NUM_TEST}
    assert counts == gtsrb.PUBLISHED_COUNTS == {"train": 39_209, "test": 12_630}
    assert counts["train"] == load_config_module("configs/gtsrb.py").TRAINING_IMAGES


def test_table_3_has_the_cells_of_the_sweep_and_the_paper_s_order():
    """Transformers help, larger images and four of them more (Sect. 4.3)."""
    selections = load_config_module("configs/birds.py").sweep("seed0")
    accuracy = {
        ",".join(filter(None, (model, images, transform, "seed0", "paper"))): value
        for (model, transform), row in published.TABLE_3.items()
        for images, value in row.items()
        if value is not None
    }
    assert set(accuracy) == set(selections)
    assert list(accuracy.values()) == sorted(accuracy.values())
    assert max(accuracy.values()) - min(accuracy.values()) == pytest.approx(1.8)
    counts = {"train": published.CUB_NUM_TRAIN, "test": published.CUB_NUM_TEST}
    assert counts == cub.PUBLISHED_COUNTS
