"""Traffic signs: from prepared images to a problem that trains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from configs.gtsrb import get_config
from stn_jax import geometry
from stn_jax.data import gtsrb_files, gtsrb_prepare
from stn_jax.launch import gtsrb
from stn_jax.models import layers
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
    validation.data.held_out_tracks = 2  # of two
    with pytest.raises(ConfigError, match="data.held_out_tracks=2: 2 cannot be held out of class"):
        gtsrb.load_splits(validation)


def test_part_of_the_images_is_drawn_once(place):
    """The same for all seeds, in both splits' turn; never more than there are."""
    config = config_for(place, **{"data.images": 5})
    loaded, train, _ = gtsrb.load_splits(config)
    assert len(train.label) == 5
    known = {image.tobytes() for image in loaded.train.image}
    assert len({image.tobytes() for image in train.image} & known) == 5
    config.seeds = (1,)
    np.testing.assert_array_equal(gtsrb.load_splits(config)[1].image, train.image)
    with pytest.raises(ConfigError, match="data.images=10, but there are 9 to train on"):
        gtsrb.load_splits(
            config_for(place, **{"data.images": 10, "data.evaluate_on": "validation"})
        )


def test_mean_and_deviation_are_numpys():
    images = np.random.default_rng(0).integers(0, 256, (1500, 4, 4, 3)).astype(np.uint8)
    moments = gtsrb.moments_of(images)
    assert moments.mean == pytest.approx(np.mean(images / 255))
    assert moments.std == pytest.approx(np.std(images / 255))


def as_published(images, moments):
    """Scaled, and locally normalised in a window of 7x7, by SciPy: [N, S, S, 3]."""
    mean, std = moments
    weights = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 1.75**2))
    window = np.outer(weights, weights) / weights.sum() ** 2

    def weigh(values):
        return correlate2d(values.mean(axis=-1), window, mode="same")

    found = []
    for image in (np.asarray(images, np.float64) / 255 - mean) / std:
        inside = weigh(np.ones_like(image))
        centred = image - (weigh(image) / inside)[..., None]
        found.append(centred / np.maximum(np.sqrt(weigh(centred**2)) / inside, 1e-4)[..., None])
    return np.stack(found)


def test_training_and_test_images_are_scaled_and_normalised_alike(place):
    """G2: one scalar mean and deviation, of the images trained on; then local contrast."""
    changes = {"data.rotation": 0.0, "data.scale": 1.0, "data.shift": 0.0, "data.brightness": 1.0}
    changes |= {"data.images": 1, "training.batch_size": 2}  # all draws are of one image
    config = config_for(place, "CNN,image,fast", **changes)
    problem = gtsrb.make_problem(config)
    batch = jax.jit(problem.draw)(jax.random.key(0), problem.data)
    (image,) = np.asarray(problem.data.image)
    moments = np.mean(image / 255), np.std(image / 255)
    expected = as_published([image, image], moments)
    np.testing.assert_allclose(batch.image, expected, rtol=1e-3, atol=1e-3)

    shapes, state = jax.eval_shape(problem.init, jax.random.key(0))
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda x: np.float32(random.normal(scale=0.2, size=x.shape)), shapes)
    examples = jax.tree.map(lambda x: x[:3], problem.evaluations["test"])
    values = jax.jit(problem.measure)(params, state, examples)
    inputs = jnp.asarray(as_published(examples.image, moments), jnp.float32)
    (logits, _), _ = jax.jit(gtsrb.make_model(config).apply)(params, state, inputs)
    picked = np.asarray(jax.nn.log_softmax(logits))[np.arange(3), examples.label]
    np.testing.assert_allclose(values["loss"], -picked, rtol=1e-3)
    wrong = np.argmax(logits, axis=-1) != examples.label
    np.testing.assert_array_equal(values["error"], 100 * wrong)


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
    for config in (
        config_for(place, "CNN,fast"),
        config_for(place, **{"model.transformers": (3,)}),
    ):
        other = gtsrb.make_problem(config)
        weights, state = jax.eval_shape(other.init, jax.random.key(0))
        assert "overlap" not in jax.eval_shape(other.measure, weights, state, examples)


def test_initial_weights_are_scaled_and_the_identity_is_not(place, monkeypatch):
    """G3: by default the deviation of Torch's layers, uniform within 1 / sqrt(inputs)."""
    # Compiling JAX's draws takes seconds: their deviation is tested elsewhere.
    monkeypatch.setattr(layers, "he_normal", lambda key, shape, *_: jnp.ones(shape))
    scale = get_config("two").model.init_scale
    model = gtsrb.make_model(config_for(place, **{"model.init_scale": scale}))
    params, _ = model.init(jax.random.key(0))
    inputs = 7 * 7 * 3
    he, torch = np.sqrt(2 / inputs), 2 / np.sqrt(inputs) / np.sqrt(12)
    np.testing.assert_allclose(params["convs"]["0"]["kernel"], torch / he, rtol=1e-5)
    bias = params["transformers"]["0"]["regression"]["bias"]
    np.testing.assert_array_equal(bias, [1, 0, 0, 0, 1, 0])


@pytest.mark.parametrize("parts", [(), ("rotation",), ("rotation", "scale", "translation")])
def test_affine_parameters_of_restricted_transforms(place, parts):
    transform = gtsrb.transform_of(config_for(place, **{"model.parts": parts}))
    theta = transform.identity + np.float32([[0.1] * transform.num_params])
    affine = gtsrb.as_affine(theta, transform)
    np.testing.assert_allclose(
        geometry.affine_grid(affine, (5, 6)), transform.grid(theta, (5, 6)), atol=1e-6
    )
    if not parts:
        np.testing.assert_allclose(affine, theta, atol=1e-6)


def test_restricted_transforms_stay_within_their_limits(place):
    changes = {"model.parts": ("rotation", "scale"), "model.limits.max_angle": 0.3}
    transform = gtsrb.transform_of(config_for(place, **changes))
    affine = gtsrb.as_affine(np.float32([[5.0, 2.0]]), transform)[0].reshape(2, 3)
    assert np.arctan2(affine[1, 0], affine[0, 0]) == pytest.approx(0.3, abs=1e-3)
    assert np.linalg.det(affine[:, :2]) == pytest.approx(4)  # no limit


def test_affine_parameters_of_every_family_that_is_allowed():
    for name in gtsrb.FAMILIES:
        transform = geometry.TRANSFORMS[name]
        theta = transform.identity + np.float32([[0.1] * transform.num_params])
        affine = gtsrb.as_affine(theta, transform)
        found = geometry.affine_grid(affine, (5, 6))
        np.testing.assert_allclose(found, transform.grid(theta, (5, 6)), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.normalise": "local"}, "unknown data.normalise 'local'; there are gaussian"),
        ({"model.transform": "tps"}, "model.transform='tps' is not one of affine, attention"),
        ({"model.transform": "projective"}, "model.transform='projective' is not one of"),
        (
            {"model.transform": "attention", "model.parts": ("scale",)},
            r"model.parts=\('scale',\) are of affine transforms, not of 'attention'",
        ),
        ({"model.parts": ("skew",)}, "model.parts, model.limits: parts must be some of rotation"),
        ({"model.limits.max_angle": 0.5}, r"model.limits={'max_angle': 0.5} are of model.parts"),
        (
            {"model.parts": ("scale",), "model.limits.max_scale": 0.9},
            "model.parts, model.limits: max_scale must be between 1.0 and inf, got 0.9",
        ),
        ({"model.transformers": ()}, r"model.transformers=\(\) do not go with .*'affine'"),
        ({"model.transform": ""}, r"model.transformers=\(1,\) do not go with .*''"),
        ({"model.normalise": "local"}, "unknown model.normalise 'local'; there are gaussian"),
        (
            {"model.transformers": (1, 3), "data.size": 24},
            "data.size=24 is too small: SignLocalisation needs inputs of 8x8 at least",
        ),
        ({"model.transformers": (1, 4)}, r"model.transformers=\(1, 4\): they stand before"),
        ({"model.transformers": (1, 1)}, r"model.transformers=\(1, 1\): they stand before"),
        ({"model.transformers": (3, 1)}, r"each named once, in order"),
        ({"model.widths": (1, 2, 3)}, r"model.widths=\(1, 2, 3\): they are those of three"),
        ({"model.widths": (1, 2, 3, 0)}, r"model.widths=\(1, 2, 3, 0\)"),
        (
            {"model.transformers": (3,), "model.localisations": ((2, 2, 3),)},
            r"model.localisations has \[\] for the transformer before convolution 3",
        ),
        (
            {"model.localisations": ((2, 3),) * 3},
            r"model.localisations has \[\(2, 3\)\] for the transformer before convolution 1",
        ),
    ],
)
def test_wrong_settings_are_named(place, changes, message):
    with pytest.raises(ConfigError, match=message):
        gtsrb.make_problem(config_for(place, **changes))


def test_other_data_than_the_runs_are_named(place):
    with pytest.raises(ConfigError, match="the run's data have the fingerprint 77"):
        gtsrb.open_signs(config_for(place).to_dict(), "77")
