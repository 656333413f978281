"""House numbers: from prepared crops to a problem that trains."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.svhn import get_config
from stn_jax.launch import svhn
from stn_jax.training.errors import ConfigError
from tests.launch.svhn_crops import write_crops


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("data")
    write_crops(place)
    return place


def config_for(place, selection="Single,reduced", **overrides):
    config = get_config(selection)
    config.runtime.data_dir = str(place)
    config.data.held_out = 6
    config.model.width = 0.02
    config.data.canvas = 16
    config.update_from_flattened_dict(overrides)
    return config


def images_of(selection):
    return {image.tobytes() for image in selection.read().image}


def test_train_and_extra_less_those_held_out_are_trained_on(place):
    """H4: the same training set whichever set is evaluated on."""
    _, train, test = svhn.load_splits(config_for(place))
    validation = config_for(place, **{"data.evaluate_on": "validation"})
    _, again, held_out = svhn.load_splits(validation)
    assert (len(train), len(test), len(held_out)) == (24 + 8 - 6, 10, 6)
    assert images_of(train) == images_of(again)
    assert not images_of(train) & (images_of(held_out) | images_of(test))


def test_streamed_or_not_the_batches_are_the_same(place):
    key = jax.random.key(3)
    device, host = (
        svhn.make_problem(config_for(place, **{"runtime.stream": stream}))
        for stream in (False, True)
    )
    assert host.data is None and device.read is None
    batch = jax.jit(device.draw)(key, device.data)
    streamed = jax.jit(host.draw)(key, host.read(key))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), batch, streamed)
    assert device.description == host.description
    assert device.description["train"] == 26 and device.description["test"] == 10


def test_images_that_the_device_cannot_hold(place, monkeypatch):
    class Small:
        def memory_stats(self):
            return {"bytes_limit": 100_000}

    monkeypatch.setattr(jax, "local_devices", lambda: [Small()])
    with pytest.raises(ConfigError, match="more than 60% of the device's .*runtime.stream=True"):
        svhn.make_problem(config_for(place))
    assert svhn.make_problem(config_for(place, **{"runtime.stream": True})).data is None


def test_the_digit_error_is_over_the_digits_of_the_set(place):
    problem = svhn.make_problem(config_for(place, "CNN,reduced"))
    shapes, state = jax.eval_shape(problem.init, jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: jnp.asarray(0.1 * rng.normal(size=x.shape)), shapes)
    examples = problem.evaluations["test"]
    values = jax.jit(problem.measure)(params, state, examples)
    label = np.asarray(examples.numbers.label)
    fixed_views = partial(svhn.svhn_views.fixed_views, view=svhn.view_of(config_for(place)))
    views = jax.jit(fixed_views)(examples)
    model = svhn.make_model(config_for(place, "CNN,reduced"))
    logits, _ = jax.jit(model.apply)(params, state, views.image)[0]
    read = np.asarray(jnp.argmax(logits, axis=-1))
    digits = label != svhn.NULL_CLASS
    assert np.mean(values["digit_error"]) == pytest.approx(
        100 * np.mean(read[digits] != label[digits]), rel=1e-5
    )
    wrong = (read != label).any(axis=1)
    np.testing.assert_allclose(values["error"], 100.0 * wrong)


def test_nothing_to_evaluate_on(place):
    config = config_for(place, **{"data.evaluate_on": "validation", "data.held_out": 0})
    with pytest.raises(ConfigError, match="data.held_out=0"):
        svhn.make_problem(config)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("evaluate_on", "val", "data.evaluate_on='val' is neither 'test' nor 'validation'"),
        ("held_out", 5000, "data.held_out=5000: 5000 numbers cannot be held out of 32"),
    ],
)
def test_fields_that_do_not_fit_the_data(place, field, value, message):
    with pytest.raises(ConfigError, match=message):
        svhn.make_problem(config_for(place, **{f"data.{field}": value}))


def test_other_data_than_the_run_s(place):
    config = config_for(place).to_dict()
    with pytest.raises(ConfigError, match="the run's data have the fingerprint 77"):
        svhn.open_evaluation(config, "77")
    fingerprint = svhn.load_splits(config_for(place))[0].fingerprint
    with pytest.raises(IndexError, match="no number 10: there are 0 to 9"):
        svhn.open_evaluation(config, fingerprint, [3, 10])
    some = svhn.open_evaluation(config, fingerprint, [7, 2])
    whole = svhn.open_evaluation(config, fingerprint)
    np.testing.assert_allclose(some.image, whole.image[np.array([7, 2])], atol=1e-6)


def test_regions_multiply_out_in_order():
    """H22: the first transformer looks right, the second at the middle of that."""
    theta = jnp.array([[[1, 0, 0.5, 0, 1, 0], [0.5, 0, 0, 0, 0.5, 0]]], jnp.float32)
    found = svhn.regions(theta, (21, 41), 3)
    assert found.shape == (1, 2, 3, 3, 2)
    np.testing.assert_allclose(found[0, 0, 0], [[10, 0], [30, 0], [50, 0]])
    np.testing.assert_allclose(found[0, 1, 0], [[20, 5], [30, 5], [40, 5]])


def test_numbers_as_text():
    assert svhn.as_text(np.array([1, 0, 9, 10, 10])) == "109"
    assert svhn.as_text(np.array([10, 3, 10, 10, 10])) == ""
