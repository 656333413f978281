"""The networks of fine-grained birds (B5 to B11, B14)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from stn_jax.geometry import sample
from stn_jax.models import inception_layers, layers
from stn_jax.models.birds import CENTRES, FAMILIES, bird_model
from stn_jax.models.inception import Inception
from stn_jax.models.pretrained import Weights, expected_shapes, with_pretrained
from stn_jax.models.pure import functional
from stn_jax.training.optim import make_optimizer
from tests.models.inception_tensors import draw

# The first layers only, which take images of 32 pixels to maps of 4 with 192 channels.
SMALL = {
    "last": "pool_2",
    "crop_size": 32,
    "localiser_size": 32,
    "num_classes": 5,
}


@pytest.fixture
def numpy_weights(monkeypatch):
    """Draw the initial weights in NumPy: JAX compiles for a second for each network's."""
    rng = np.random.default_rng(0)

    def he_normal(key, shape, dtype=jnp.float32):
        return jnp.asarray(rng.normal(scale=np.sqrt(2 / np.prod(shape[:-1])), size=shape), dtype)

    for module in (layers, inception_layers):
        monkeypatch.setattr(module, "he_normal", he_normal)


@pytest.fixture
def no_weights(monkeypatch):
    """Spare the tracing of random numbers where only shapes matter."""
    for module in (layers, inception_layers):
        monkeypatch.setattr(module, "he_normal", lambda key, shape, dtype=None: jnp.zeros(shape))


def images(size=64, batch=2):
    return np.round(draw("images", (batch, size, size, 3), 0, 255)).astype(np.uint8)


def model_of(name="st_cnn", image_size=64, **options):
    return functional(bird_model(name, image_size, **{**SMALL, **options}))


# A.6 in full, as shapes.


def test_the_network_of_the_paper(no_weights):
    """B5 to B9: 7x7x1024 to 128 to 128 to 2 N; a stream for each crop; 1024 N to 200."""
    model = functional(bird_model("st_cnn", 448, num_transformers=2))
    params, state = jax.eval_shape(model.init, jax.random.key(0))
    localisation = params["localisation"]
    shapes = {name: part["kernel"].shape for name, part in localisation.items() if name != "trunk"}
    assert shapes == {"reduce": (1024, 128), "hidden": (7 * 7 * 128, 128), "regression": (128, 4)}
    assert params["classifier"]["kernel"].shape == (1024 * 2, 200)
    whole = jax.tree.structure(localisation["trunk"])
    assert [jax.tree.structure(part) for part in params["streams"].values()] == [whole] * 2
    picture = jnp.zeros((3, 448, 448, 3), jnp.uint8)
    (logits, extra), _ = jax.eval_shape(model.apply, params, state, picture)
    assert (logits.shape, logits.dtype) == ((3, 200), jnp.float32)
    assert (extra["theta"].shape, extra["theta"].dtype) == ((3, 2, 2), jnp.float32)


@pytest.mark.parametrize("count", CENTRES)
@pytest.mark.parametrize("transform", FAMILIES)
def test_theta_has_the_familys_parameters(transform, count, no_weights):
    model = model_of(num_transformers=count, transform=transform)
    variables = jax.eval_shape(model.init, jax.random.key(0))
    (_, extra), _ = jax.eval_shape(model.apply, *variables, images())
    parameters = {"location": 2, "location_scale": 3, "affine": 6}[transform]
    assert extra["theta"].shape == (2, count, parameters)


def test_the_baseline_of_the_paper(no_weights):
    model = functional(bird_model("cnn", 224))
    params, state = jax.eval_shape(model.init, jax.random.key(0))
    assert set(params) == {"inception", "classifier"}
    assert params["classifier"]["kernel"].shape == (1024, 200)
    picture = jnp.zeros((3, 224, 224, 3), jnp.uint8)
    (logits, extra), _ = jax.eval_shape(model.apply, params, state, picture)
    assert logits.shape == (3, 200) and extra == {}


# At the start.


@pytest.mark.parametrize("transform", FAMILIES)
def test_four_crops_tile_the_image_pixel_by_pixel(transform, no_weights):
    """B9, B11: of an image of twice the crops' size they are the quarters."""
    params, _ = model_of(num_transformers=4, transform=transform).init(jax.random.key(0))
    regression = params["localisation"]["regression"]
    assert not np.any(regression["kernel"])
    picture, family = images(), FAMILIES[transform]
    theta = np.tile(regression["bias"].reshape(1, 4, -1), (2, 1, 1))
    quarters = [(slice(i, i + 32), slice(j, j + 32)) for i in (0, 32) for j in (0, 32)]
    for number, (rows, columns) in enumerate(quarters):
        grid = family.transform.grid(theta[:, number], (32, 32), align_corners=False)
        crop = sample(jnp.asarray(picture, jnp.float32), grid, align_corners=False)
        np.testing.assert_array_equal(crop, picture[:, rows, columns])


def test_two_crops_stand_side_by_side(numpy_weights):
    model = model_of()
    params, state = model.init(jax.random.key(0))
    theta = jax.jit(model.apply)(params, state, images())[0][1]["theta"]
    np.testing.assert_array_equal(theta, np.tile([[-0.5, 0], [0.5, 0]], (2, 1, 1)))


@pytest.mark.parametrize("transform", FAMILIES)
def test_crops_as_affine_transforms_read_the_same(transform):
    family = FAMILIES[transform]
    theta = np.array([family.start(0.25, -0.5), family.start(-0.1, 0.3)], np.float32)
    grid = family.transform.grid(theta, (4, 6))
    affine = family.as_affine(theta)
    expected = FAMILIES["affine"].transform.grid(affine, (4, 6))
    np.testing.assert_allclose(grid, expected, atol=1e-6)
    np.testing.assert_allclose(affine[0], [0.5, 0, 0.25, 0, 0.5, -0.5])


# The whole, from its parts.


@pytest.mark.parametrize("image_size", [32, 64])
def test_the_network_is_its_parts_in_turn(image_size, numpy_weights):
    """Downscaling, localisation, crops, streams, softmax, written out."""
    model = model_of(image_size=image_size)
    params, state = model.init(jax.random.key(0))
    regression = params["localisation"]["regression"]
    regression["kernel"] = jnp.asarray(draw("kernel", (128, 4), -0.02, 0.02))
    picture = images(image_size)
    logits, extra = jax.jit(model.apply)(params, state, picture)[0]

    trunk = functional(lambda rngs: Maps(rngs=rngs))
    x = (np.asarray(picture, np.float32) - 127.5) / 127.5
    small = x.reshape(2, 32, image_size // 32, 32, image_size // 32, 3).mean(axis=(2, 4))
    branch = jax.tree.map(np.asarray, params["localisation"])
    statistics = state["localisation"]["trunk"]
    y = trunk.apply({"inception": branch["trunk"]}, {"inception": statistics}, small)[0]
    y = np.asarray(y)
    y = np.maximum(y @ branch["reduce"]["kernel"] + branch["reduce"]["bias"], 0)
    y = y.reshape(2, -1) @ branch["hidden"]["kernel"] + branch["hidden"]["bias"]
    theta = np.maximum(y, 0) @ branch["regression"]["kernel"] + branch["regression"]["bias"]
    np.testing.assert_allclose(extra["theta"].reshape(2, 4), theta, rtol=1e-3, atol=1e-4)
    assert np.ptp(theta[:, 0]) > 1e-3

    described = []
    for number in range(2):
        location = theta.reshape(2, 2, 2)[:, number]
        full = np.concatenate([np.full((2, 1), 0.5, np.float32), location], axis=1)
        grid = FAMILIES["location_scale"].transform.grid(full, (32, 32), align_corners=False)
        crop = sample(jnp.asarray(x), grid, align_corners=False)
        part = str(number)
        streams = [{"inception": tree["streams"][part]} for tree in (params, state)]
        described.append(trunk.apply(*streams, crop)[0].mean(axis=(1, 2)))
    last = params["classifier"]
    expected = np.concatenate(described, axis=1) @ last["kernel"] + last["bias"][None]
    np.testing.assert_allclose(logits, expected, rtol=2e-3, atol=2e-3)


class Maps(nnx.Module):
    def __init__(self, *, rngs):
        self.inception = Inception("inception_v2", last="pool_2", rngs=rngs)

    def __call__(self, x):
        return self.inception.maps(x)


def test_images_are_bytes_or_floats_up_to_one(numpy_weights):
    model = model_of("cnn")
    params, state = model.init(jax.random.key(0))
    apply = jax.jit(model.apply)
    one = apply(params, state, images())[0][0]
    other = apply(params, state, images() / np.float32(255))[0][0]
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


# Training.


def test_where_dropout_stands(dropouts, numpy_weights):
    """B14: on the joined descriptors, 0.7 of them dropped."""
    model = model_of()
    params, state = model.init(jax.random.key(0))
    jax.eval_shape(lambda: model.apply(params, state, images(), train=True, key=jax.random.key(0)))
    assert dropouts == [(0.7, (2, 2 * 192))]


@pytest.fixture(scope="module")
def step():
    """Gradients of one step, from weights with which theta depends on the image."""
    model = model_of(num_transformers=2, remat=True)
    params, state = jax.tree.map(
        lambda leaf: draw(str(leaf.shape), leaf.shape, -0.05, 0.05) + (leaf.ndim == 1),
        jax.eval_shape(model.init, jax.random.key(0)),
    )
    params["localisation"]["regression"]["bias"] = np.float32([-0.4, 0, 0.4, 0.1])

    def loss(params):
        key = jax.random.key(1)
        (logits, _), new = model.apply(params, state, images(), train=True, key=key)
        return -jnp.mean(jax.nn.log_softmax(logits)[:, 0]), new

    return params, state, *jax.jit(jax.grad(loss, has_aux=True))(params)


def test_every_parameter_learns_from_the_class_alone(step):
    params, _, gradients, _ = step
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.all(np.isfinite(gradient)), path
        assert np.any(gradient != 0), path
    assert jax.tree.structure(gradients) == jax.tree.structure(params)


def test_stored_statistics_stay(step):
    """B10: in training, too."""
    _, before, _, after = step
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_the_localisers_rate_is_lower(step):
    """B13: of all its layers, and of nothing else."""
    params, _, gradients, _ = step
    config = ConfigDict(
        {
            "name": "sgd",
            "schedule": "step",
            "learning_rate": 0.1,
            "momentum": 0.0,
            "weight_decay": 0.0,
            "decay_steps": (10_000, 20_000, 25_000),
            "decay_factor": 0.1,
            "multipliers": {"localisation": 1e-4},
        }
    )
    optimizer = make_optimizer(config, 30_000)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    for part, factor in {"localisation": 1e-5, "streams": 0.1, "classifier": 0.1}.items():
        jax.tree.map(
            lambda update, gradient, factor=factor: np.testing.assert_allclose(
                update, -factor * gradient, rtol=1e-5
            ),
            updates[part],
            gradients[part],
        )


def test_trunk_and_streams_start_from_the_same_weights(numpy_weights):
    """B6: separate weights, the same start."""
    model = model_of(num_transformers=4)
    shapes = expected_shapes("inception_v2")
    tensors = {name: draw(name, shape, 0, 1) for name, shape in shapes.items()}
    weights = Weights({"architecture": "inception_v2"}, tensors)
    variables = model.init(jax.random.key(0))
    params, state = with_pretrained(*variables, weights, architecture="inception_v2")
    for tree in (params, state):
        networks = [tree["localisation"]["trunk"], *tree["streams"].values()]
        assert len(networks) == 5
        for network in networks:
            for path, leaf in jax.tree_util.tree_leaves_with_path(network):
                name = "/".join(entry.key for entry in path)
                np.testing.assert_array_equal(leaf, tensors[name])
    regression = params["localisation"]["regression"]
    assert not np.any(regression["kernel"])


# Networks that there are not.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "stcnn"}, "unknown model 'stcnn'; there are cnn, st_cnn"),
        ({"transform": "tps"}, "unknown transform 'tps'; there are location, location_scale, aff"),
        ({"num_transformers": 3}, "unknown num_transformers 3; there are 2, 4"),
        ({"image_size": 96}, "have the localiser's size, 32, or twice that, got 96"),
    ],
)
def test_networks_that_there_are_not(options, message):
    options = {"name": "st_cnn", "image_size": 64, **SMALL} | options
    with pytest.raises(ValueError, match=message):
        bird_model(**options)
