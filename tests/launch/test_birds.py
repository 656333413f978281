"""Birds: from prepared images and weights to a problem that trains."""

import jax
import numpy as np
import pytest

from configs.birds import get_config
from stn_jax.data import cub_prepare
from stn_jax.launch import birds
from stn_jax.models.inception import Inception
from stn_jax.models.pretrained import Weights, save_weights
from stn_jax.models.pure import functional
from stn_jax.training.errors import ConfigError
from tests.data import cub_synthetic as synthetic

ARCHITECTURE, LAST = "inception_v2", "pool_2"  # the first few layers
HEADER = {"architecture": ARCHITECTURE, "source": "made up", "file": "a.npz", "sha256": "ab" * 32}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Prepared images, and weights of the first layers, each tensor full of one number."""
    place = tmp_path_factory.mktemp("data")
    files = synthetic.write(tmp_path_factory.mktemp("files"))
    cub_prepare.prepare(cub_prepare.find(files), place, size=72)
    model = functional(lambda rngs: Inception(ARCHITECTURE, last=LAST, rngs=rngs))
    arrays = {}
    for tree in jax.eval_shape(model.init, jax.random.key(0)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            name = "/".join(entry.key for entry in path)
            arrays[name] = np.full(leaf.shape, 0.01 * (1 + len(arrays)), np.float16)
    (place / "weights").mkdir()
    save_weights(place / "weights" / f"{ARCHITECTURE}.npz", Weights(HEADER, arrays))
    return place


def config_for(place, selection="2xST-CNN,448px", **overrides):
    config = get_config(selection)
    config.runtime.data_dir = str(place)
    config.data.size, config.data.crop, config.data.folds = 72, 64, 3
    config.model.num_classes, config.model.last = 3, LAST
    config.model.crop_size = config.model.localiser_size = 32
    config.training.batch_size = 4
    config.update_from_flattened_dict(overrides)
    return config


def test_all_training_images_unless_a_fold_is_evaluated_on(place):
    """B15: a fold of the training images, which are not trained on then; never test images."""
    loaded, train, test = birds.load_splits(config_for(place))
    assert train is loaded.train and test is loaded.test
    held = []
    for fold in range(3):
        config = config_for(place, **{"data.evaluate_on": "validation", "data.fold": fold})
        _, kept, held_out = birds.load_splits(config)
        assert set(kept.id) | set(held_out.id) == set(train.id)
        held += held_out.id.tolist()
    assert sorted(held) == sorted(train.id)


def test_images_left_out_of_the_test_set(place, tmp_path):
    """B17."""
    config = config_for(place)
    loaded, _, test = birds.load_splits(config)
    path = tmp_path / "ids.txt"
    path.write_text(f"{test.id[1]}  # in ImageNet\n")
    kept = birds.kept_of(config.to_dict(), path)
    assert kept.tolist() == [True, False, True, True, True, True]
    path.write_text(f"{loaded.train.id[0]}\n")
    with pytest.raises(ValueError, match=r"ids.txt, line 1: \d+ is a training image"):
        birds.kept_of(config.to_dict(), path)


def test_what_a_problem_reads(place):
    problem = birds.make_problem(config_for(place))
    batch = problem.read(jax.random.key(3))
    assert batch.image.shape == (4, 64, 64, 3) and batch.image.dtype == np.uint8
    assert problem.draw(jax.random.key(3), batch) is batch
    weights = f"made up, a.npz, sha256 {'ab' * 8}"
    description = {"train": 12, "test": 6, "weights": weights, "name": "cub_72_3_classes"}
    assert description.items() <= problem.description.items()
    examples = problem.evaluations["test"]
    views = examples.read(np.array([5]))
    assert views.image.shape == (1, 64, 64, 3)


def test_networks_start_from_the_weights_and_train_what_is_not_frozen(place):
    """B4, B6, and the small recipe's frozen parts."""
    frozen = ("trunk", "conv_1")
    config = config_for(place, **{"model.frozen": frozen})
    params, state = jax.jit(birds.make_problem(config).init)(jax.random.key(0))
    trunk = state["frozen"]["localisation"]["trunk"]["blocks"]
    assert set(params["localisation"]) == {"reduce", "hidden", "regression"}
    for number in ("0", "1"):
        stream = params["streams"][number]["blocks"]
        assert set(stream) == {"conv_2_reduce", "conv_2"}
        for block in stream:
            jax.tree.map(np.testing.assert_array_equal, stream[block], trunk[block])
        fixed = state["frozen"]["streams"][number]["blocks"]["conv_1"]
        jax.tree.map(np.testing.assert_array_equal, fixed, trunk["conv_1"])
    kernel = np.asarray(trunk["conv_1"]["conv"]["kernel"])
    assert np.unique(kernel).size == 1 and kernel.flat[0] != 0


def test_precision_and_rematerialisation_reach_the_network(place):
    """They are all that lets the larger networks fit on a single GPU."""

    def program(**overrides):
        model = birds.make_model(config_for(place, **overrides))
        params, state = jax.eval_shape(model.init, jax.random.key(0))
        images = np.zeros((1, 64, 64, 3), np.uint8)
        return str(jax.make_jaxpr(model.apply)(params, state, images))

    plain = program()
    half, again = program(**{"model.dtype": "bfloat16"}), program(**{"runtime.remat": True})
    assert "bf16" in half and "bf16" not in plain + again
    assert "remat" in again and "remat" not in plain + half


def test_random_weights_are_an_explicit_choice(place, tmp_path):
    missing = {"runtime.weights": str(tmp_path / "w.npz")}
    with pytest.raises(ConfigError, match=r"convert_weights.py tf_slim_inception_v2 FILE .*w.npz"):
        birds.make_problem(config_for(place, **missing))
    problem = birds.make_problem(config_for(place, **missing, **{"model.pretrained": False}))
    assert problem.description["weights"] == "random"


def test_weights_that_do_not_fit(place, tmp_path):
    path = place / "weights" / f"{ARCHITECTURE}.npz"
    other = {"model.architecture": "bn_inception", "runtime.weights": str(path)}
    with pytest.raises(
        ConfigError, match="has weights of inception_v2, but model.architecture='bn"
    ):
        birds.make_problem(config_for(place, **other))
    with pytest.raises(ConfigError, match="missing: blocks/mixed_3b/"):
        birds.make_problem(config_for(place, "CNN", **{"model.last": "mixed_3b"}))
    text = tmp_path / "text.npz"
    text.write_text("no archive")
    with pytest.raises(ConfigError, match=r"text.npz is no file of weights"):
        birds.make_problem(config_for(place, **{"runtime.weights": str(text)}))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.num_classes": 200}, "of 3 classes, but model.num_classes=200"),
        ({"data.crop": 73}, "data.crop=73 does not fit in images of data.size=72"),
        ({"data.evaluate_on": "val"}, "data.evaluate_on='val' is neither 'test' nor"),
        ({"data.evaluate_on": "validation", "data.fold": 3}, "data.fold=3, data.folds=3: fold 3"),
        ({"model.localiser_size": 40}, "model: images have the localiser's size, 40, or twice"),
        ({"model.dtype": "half"}, "model.dtype is float32 or bfloat16, got 'half'"),
        ({"model.last": "mixed_9"}, "model: inception_v2 has no block 'mixed_9'"),
        ({"model.frozen": ("trunks",)}, "no parameters below trunks to freeze; there are class"),
        ({"model.architecture": "vgg"}, "unknown model.architecture 'vgg': inception_v2, bn_"),
    ],
)
def test_wrong_settings_are_named(place, overrides, message):
    with pytest.raises(ConfigError, match=message):
        birds.make_problem(config_for(place, **overrides))


def test_crops_too_small_for_the_network(place):
    config = config_for(place)
    config.model.architecture, config.model.last = "inception_v3", "mixed_0"
    config.model.crop_size, config.model.localiser_size = 8, 64
    with pytest.raises(ConfigError, match=r"nothing is left of images of \(8, 8\) in mixed_0"):
        birds.make_model(config)


def test_other_data_than_the_run_s(place):
    config = config_for(place).to_dict()
    with pytest.raises(ConfigError, match="the run's data have the fingerprint 77"):
        birds.open_evaluation(config, "77")
    fingerprint = birds.load_splits(config_for(place))[0].fingerprint
    with pytest.raises(IndexError, match="no bird 6: there are 0 to 5"):
        birds.open_evaluation(config, fingerprint, [6])
    opened = birds.open_evaluation(config, fingerprint, [4, 1])
    test = birds.load_splits(config_for(place))[2]
    assert opened.birds.id.tolist() == test.id[[4, 1]].tolist()
    located = birds.open_parts(config, fingerprint).located
    assert located.part.shape == (6, 15, 2) and located.inside.any()


def test_a_crop_that_left_the_image_is_seen():
    inside_and_half, outside = (
        np.float32([[[0.5, 0, -0.5, 0, 0.5, 0], [0.5, 0, 1.0, 0, 0.5, 0]]]),
        np.float32([[[0.5, 0, 1.6, 0, 0.5, 0], [0.5, 0, 0, 0, 0.5, -9]]]),
    )
    np.testing.assert_allclose(birds._inside(inside_and_half), [0.75])
    np.testing.assert_allclose(birds._inside(outside), [0])
