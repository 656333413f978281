"""Traffic signs: from prepared images to a problem that trains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.gtsrb import get_config
from stn_jax import geometry
from stn_jax.data import gtsrb_files, gtsrb_prepare
from stn_jax.launch import gtsrb
from stn_jax.training.errors import ConfigError
from tests.data import gtsrb_synthetic as synthetic


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("data")
    files = synthetic.write_sheets(place / "files")
    gtsrb_prepare.prepare(gtsrb_files.find(files), place, size=32)
    return place


def config_for(place, selection="one,fast", **overrides):
    config = get_config(selection)
    config.runtime.data_dir = str(place)
    config.model.widths = (2, 3, 4, 5)
    config.model.localisations = ((2, 2, 3),) * 3
    config.update_from_flattened_dict(overrides)
    return config


def test_all_training_images_unless_a_recipe_is_chosen(place):
    """G7: whole tracks are held out only for validation."""
    loaded, train, test = gtsrb.load_splits(config_for(place))
    assert (len(train.label), len(test.label)) == (18, 7)
    assert train is loaded.train and test is loaded.test
    validation = config_for(place, **{"data.evaluate_on": "validation"})
    _, train, held_out = gtsrb.load_splits(validation)
    assert (len(train.label), len(held_out.label)) == (9, 9)
    assert not set(train.track) & set(held_out.track)
    with pytest.raises(ConfigError, match="data.evaluate_on='train' is neither 'test' nor"):
        gtsrb.load_splits(config_for(place, **{"data.evaluate_on": "train"}))


def test_mean_and_deviation_are_numpys():
    images = np.random.default_rng(0).integers(0, 256, (1500, 4, 4, 3)).astype(np.uint8)
    mean, std = gtsrb.mean_and_std(images)
    assert mean == pytest.approx(np.mean(images / 255))
    assert std == pytest.approx(np.std(images / 255))


def test_training_and_test_images_are_scaled_alike(place):
    """G2: one scalar mean and deviation, of the training images; then local contrast."""
    config = config_for(place, "CNN,fast")
    config.update_from_flattened_dict(
        {"data.rotation": 0.0, "data.scale": 1.0, "data.shift": 0.0, "data.brightness": 1.0}
    )
    problem = gtsrb.make_problem(config)
    batch = problem.draw(jax.random.key(0), problem.data)
    assert batch.image.shape == (64, 32, 32, 3)
    mean, std = gtsrb.mean_and_std(np.asarray(problem.data.image))
    pixels = np.asarray(problem.data.image, np.float64) / 255
    assert np.mean((pixels - mean) / std) == pytest.approx(0, abs=1e-6)
    scaled = gtsrb.as_input(jnp.asarray(pixels, jnp.float32), (mean, std), "")
    known = {image.tobytes() for image in np.round(np.asarray(scaled), 3)}
    assert {image.tobytes() for image in np.round(np.asarray(batch.image), 3)} <= known
    local = gtsrb.as_input(jnp.asarray(pixels[:2], jnp.float32), (mean, std), "gaussian")
    assert np.abs(np.asarray(local) - np.asarray(scaled)[:2]).max() > 0.1


def test_evaluations_know_the_overlap_with_the_signs_box(place):
    """G12: of the identity, that of the whole image."""
    problem = gtsrb.make_problem(config_for(place))
    shapes, state = jax.eval_shape(problem.init, jax.random.key(0))
    params = jax.tree.map(lambda x: jnp.zeros(x.shape), shapes)
    params["transformers"]["0"]["regression"]["bias"] = jnp.float32([1, 0, 0, 0, 1, 0])
    examples = problem.evaluations["test"]
    values = jax.jit(problem.measure)(params, state, examples)
    box = np.asarray(examples.box)
    area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    np.testing.assert_allclose(values["overlap"], area / 32**2, rtol=1e-5)
    assert values["error"].shape == (7,)
    for transformers in ((), (3,)):
        other = gtsrb.make_problem(config_for(place, **{"model.transformers": transformers}))
        weights, state = jax.eval_shape(other.init, jax.random.key(0))
        assert "overlap" not in jax.eval_shape(other.measure, weights, state, examples)


def test_initial_weights_are_scaled_and_the_identity_is_not(place):
    """G3: by default the deviation of Torch's layers, uniform within 1 / sqrt(inputs)."""
    plain, scaled = (
        gtsrb.make_model(config_for(place, **{"model.init_scale": scale}))
        for scale in (1.0, get_config("two").model.init_scale)
    )
    (params, _), (smaller, _) = (
        jax.jit(model.init)(jax.random.key(0)) for model in (plain, scaled)
    )
    inputs = 7 * 7 * 3
    he, torch = np.sqrt(2 / inputs), 2 / np.sqrt(inputs) / np.sqrt(12)
    kernel, other = (tree["convs"]["0"]["kernel"] for tree in (params, smaller))
    np.testing.assert_allclose(other / kernel, torch / he, rtol=1e-5)
    for tree in (params, smaller):
        bias = tree["transformers"]["0"]["regression"]["bias"]
        np.testing.assert_array_equal(bias, [1, 0, 0, 0, 1, 0])


@pytest.mark.parametrize("parts", [(), ("rotation",), ("rotation", "scale", "translation")])
def test_regions_of_restricted_transforms(place, parts):
    transform = gtsrb.transform_of(config_for(place, **{"model.parts": parts}))
    theta = transform.identity + np.float32([[0.1] * transform.num_params])
    affine = gtsrb.as_affine(theta, transform)
    np.testing.assert_allclose(
        geometry.affine_grid(affine, (5, 6)), transform.grid(theta, (5, 6)), atol=1e-6
    )
    if not parts:
        np.testing.assert_allclose(affine, theta, atol=1e-6)


def test_the_box_around_a_region_is_cut_off_at_the_image():
    transform = geometry.TRANSFORMS["affine"]
    theta = np.float32([[0.5, 0, 0, 0, 0.5, 0], [1, 0, 1, 0, 1, 0], [1, 0, 9, 0, 1, 0]])
    found = gtsrb.region_box(theta, transform, (21, 41))
    np.testing.assert_allclose(found[0], [10, 5, 31, 16])
    np.testing.assert_allclose(found[1], [20, 0, 41, 21])
    assert float(found[2, 2] - found[2, 0]) == 0


def test_wrong_settings_are_named(place):
    with pytest.raises(ConfigError, match="unknown data.normalise 'local'; there are gaussian"):
        gtsrb.make_problem(config_for(place, **{"data.normalise": "local"}))
    with pytest.raises(ConfigError, match="the run's data have the fingerprint 77"):
        gtsrb.open_signs(config_for(place).to_dict(), "77")
