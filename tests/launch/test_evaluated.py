import pytest

from stn_jax.launch import colocalisation, digits, mnist_3d
from stn_jax.launch.cli import load_config_module
from stn_jax.launch.evaluated import evaluated_split
from stn_jax.training.errors import ConfigError
from tests.launching import ROOT


def config_of(experiment):
    return load_config_module(ROOT / "configs" / f"{experiment}.py").get_config("quickstart")


def test_test_and_validation_are_the_two():
    config = config_of("distorted_mnist")
    assert evaluated_split(config) == "test"
    config.data.evaluate_on = "validation"
    assert evaluated_split(config) == "validation"


@pytest.mark.parametrize(
    ("experiment", "make_problem"),
    [
        ("distorted_mnist", digits.make_problem),
        ("mnist_addition", digits.make_problem),
        ("mnist_3d", mnist_3d.make_problem),
        ("colocalisation", lambda config: colocalisation.make_problem(config, None)),
    ],
)
def test_a_misspelt_set_is_not_taken_for_the_test_set(experiment, make_problem):
    pytest.importorskip("sklearn")
    config = config_of(experiment)
    config.data.evaluate_on = "valid"
    with pytest.raises(ConfigError, match="data.evaluate_on='valid' is neither 'test' nor"):
        make_problem(config)
