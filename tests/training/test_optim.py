import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from stn_jax.training.errors import ConfigError
from stn_jax.training.optim import SCHEDULES, make_optimizer, scale_by_name
from tests.training.toy import toy_config


def optimizer_config(**overrides) -> ConfigDict:
    config = toy_config().optimizer
    config.update(overrides)
    return config


def test_paper_schedule():
    """A.4: 0.01, divided by 10 every 50k iterations (D23)."""
    config = optimizer_config(schedule="step", decay_steps=(50_000, 100_000), decay_factor=0.1)
    rate = SCHEDULES["step"](config, 150_000)
    rates = [float(rate(step)) for step in (0, 49_999, 50_000, 99_999, 100_000, 149_999)]
    np.testing.assert_allclose(rates, [1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4], rtol=1e-6)


def test_cosine_schedule_ends_at_zero():
    rate = SCHEDULES["cosine"](optimizer_config(), 100)
    expected = [0.01, 0.005, 0]
    np.testing.assert_allclose([float(rate(s)) for s in (0, 50, 100)], expected, atol=1e-9)


def trajectory(config, gradients, start):
    optimizer = make_optimizer(config, len(gradients))
    params = {"w": jnp.asarray(start)}
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update({"w": jnp.asarray(gradient)}, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return float(params["w"])


def test_sgd_with_momentum_and_weight_decay_against_its_equations():
    rate, momentum, decay = 0.1, 0.9, 0.05
    config = optimizer_config(
        name="sgd", schedule="step", learning_rate=rate, momentum=momentum, weight_decay=decay
    )
    gradients = [0.5, -0.2, 0.8]
    w, velocity = 1.0, 0.0
    for gradient in gradients:
        velocity = momentum * velocity + gradient + decay * w
        w -= rate * velocity
    assert trajectory(config, gradients, 1.0) == pytest.approx(w, rel=1e-5)


def test_adam_against_its_equations():
    config = optimizer_config(schedule="step", learning_rate=0.1, weight_decay=0.2)
    gradients = [0.5, -0.2, 0.8]
    w, m, v = 1.0, 0.0, 0.0
    for step, gradient in enumerate(gradients, 1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        direction = (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        w -= 0.1 * (direction + 0.2 * w)
    assert trajectory(config, gradients, 1.0) == pytest.approx(w, rel=1e-5)


def test_multipliers_scale_whatever_lies_below_a_name():
    updates = {"st": {"localisation": jnp.ones(2), "regression": jnp.ones(2)}, "cnn": jnp.ones(2)}
    scale = scale_by_name({"st": 0.5, "localisation": 0.1})
    scaled, _ = scale.update(updates, scale.init(updates))
    np.testing.assert_allclose(scaled["st"]["localisation"], 0.05)
    np.testing.assert_allclose(scaled["st"]["regression"], 0.5)
    np.testing.assert_allclose(scaled["cnn"], 1.0)


def test_multipliers_reach_the_optimizer():
    slow = optimizer_config(schedule="step", multipliers=ConfigDict({"w": 0.1}))
    fast = optimizer_config(schedule="step")
    moved = [trajectory(config, [0.5], 0.0) for config in (slow, fast)]
    assert moved[0] == pytest.approx(0.1 * moved[1], rel=1e-5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"name": "sdg"}, "unknown optimizer.name 'sdg'; there are sgd, adam"),
        ({"schedule": "linear"}, "unknown optimizer.schedule 'linear'; there are step, cosine"),
    ],
)
def test_unknown_names(overrides, message):
    with pytest.raises(ConfigError, match=message):
        make_optimizer(optimizer_config(**overrides), 10)


def test_a_multiplier_for_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"multipliers names localiser, but .* names are layer"):
        scale_by_name({"localiser": 0.1}).init({"layer": jnp.ones(1)})
