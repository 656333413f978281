"""What the configs let a search try."""

from pathlib import Path

import pytest
from ml_collections import FrozenConfigDict

from stn_jax.launch.cli import load_config_module
from stn_jax.launch.expand import Range

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))
CASES = [(path, "") for path in CONFIGS]
BIRDS = CONFIGS[0].with_name("birds.py")
CASES += [(BIRDS, selection) for selection in ("2xST-CNN", "reduced", "reduced,2xST-CNN")]
SVHN = CONFIGS[0].with_name("svhn.py")
CASES += [(SVHN, selection) for selection in ("Single", "reduced", "reduced,Single,Multi")]


@pytest.mark.parametrize(
    ("path", "selection"), CASES, ids=lambda value: getattr(value, "stem", value)
)
def test_ranges_are_of_fields_that_every_run_has_and_hold_its_value(path, selection):
    module = load_config_module(path)
    ranges = module.search(selection)
    assert "optimizer.learning_rate" in ranges
    for run in module.sweep(selection):
        config = FrozenConfigDict(module.get_config(run))
        for name, values in ranges.items():
            value = config
            for field in name.split("."):
                value = value[field]
            assert isinstance(values, Range) and isinstance(value, float), name
            assert values.low <= value <= values.high, (run, name, value)


def test_the_localisers_rate_of_birds_is_searched_where_there_is_one():
    """B13."""
    name, module = "optimizer.multipliers.localisation", load_config_module(BIRDS)
    assert name in module.search("2xST-CNN") and name not in module.search()
