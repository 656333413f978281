"""What the configs let a search try."""

from pathlib import Path

import pytest
from ml_collections import FrozenConfigDict

from stn_jax.launch.cli import load_config_module
from stn_jax.launch.expand import Range

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_ranges_are_of_fields_that_every_run_has_and_hold_its_value(path):
    module = load_config_module(path)
    ranges = module.search()
    assert "optimizer.learning_rate" in ranges
    for selection in module.sweep():
        config = FrozenConfigDict(module.get_config(selection))
        for name, values in ranges.items():
            section, field = name.split(".")
            value = config[section][field]
            assert isinstance(values, Range) and isinstance(value, float), name
            assert values.low <= value <= values.high, (selection, name, value)
