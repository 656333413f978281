import pytest

from stn_jax.launch import digits
from stn_jax.launch.cli import load_config_module
from stn_jax.training.errors import ConfigError
from tests.launching import ROOT


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("data.digits", "mnits", "data.digits='mnits'; there are mnist, sklearn"),
        ("data.distortion", "RTZ", "data.distortion='RTZ'; there are R, RTS, P, E"),
    ],
)
def test_what_there_is_not_is_named_with_what_there_is(field, value, message):
    config = load_config_module(ROOT / "configs" / "distorted_mnist.py").get_config("quickstart")
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ConfigError, match=message):
        digits.make_problem(config)
