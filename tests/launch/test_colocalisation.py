"""Co-localisation from the command line to its table and figure, in tiny form (C3, C4, C7)."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest
from PIL import Image

from scripts import make_tables, show_colocalisation
from stn_jax import geometry
from stn_jax.data import digits
from stn_jax.launch import colocalisation
from stn_jax.launch.cli import load_config_module
from stn_jax.launch.saved import open_state
from stn_jax.reporting.runs import find_runs
from stn_jax.training.errors import ConfigError
from tests.reporting.synthetic import write_record

ROOT = Path(__file__).parents[2]
ENCODERS = load_config_module(ROOT / "configs" / "distorted_mnist.py").get_config
STEPS = 20


def config_of(folder, selection="T,3"):
    module = load_config_module(ROOT / "configs" / "colocalisation.py")
    config = module.get_config(f"{selection},quickstart")
    config.encoder.workdir = str(folder / "encoder")
    config.encoder.num_steps = STEPS
    for name in ("num_steps", "log_every", "eval_every"):
        config.training[name] = STEPS
    config.restarts = 2
    config.seeds = (3, 5)
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two seeds trained from the command line, and before that an encoder."""
    folder = tmp_path_factory.mktemp("colocalisation")
    config = config_of(folder)
    command = [
        *(sys.executable, "experiments/colocalisation.py"),
        *("--config", "configs/colocalisation.py:T,3,quickstart"),
        *("--workdir", folder / "runs" / "T-3"),
        *(f"--config.training.{n}={STEPS}" for n in ("num_steps", "log_every", "eval_every")),
        f"--config.encoder.workdir={config.encoder.workdir}",
        f"--config.encoder.num_steps={STEPS}",
        *("--config.restarts=2", "--config.seeds=(3,5)"),
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    if cache := jax.config.jax_compilation_cache_dir:  # see tests/conftest.py
        environment["JAX_COMPILATION_CACHE_DIR"] = cache
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    assert "There is no encoder in" in done.stdout
    return folder


@pytest.fixture(scope="module")
def run(folder):
    return find_runs([folder / "runs"])[0]


@pytest.fixture(scope="module")
def problem(folder):
    return colocalisation.make_problem(config_of(folder), ENCODERS)


@pytest.fixture(scope="module")
def state(problem, run):
    config = config_of(run.folder.parents[1])
    like = colocalisation.make_model(config)
    return open_state(type(like)(problem.init, like.apply), run.config, run.folder)


def test_the_record_tells_of_the_encoder(run, folder):
    encoder = find_runs([folder / "encoder"])[0]
    header = (run.folder / "record.jsonl").read_text().splitlines()[0]
    assert f'"error": {encoder.final_errors("test")[0]}' in header
    assert encoder.step == STEPS and encoder.config["model"]["name"] == "cnn"


def test_an_encoder_that_is_there_is_not_trained_again(folder, capsys):
    before = (folder / "encoder" / "record.jsonl").read_text()
    colocalisation.make_problem(config_of(folder), ENCODERS)
    assert capsys.readouterr().out == ""
    assert (folder / "encoder" / "record.jsonl").read_text() == before


def test_the_score_is_that_of_the_network_with_the_least_loss(problem, state, run):
    count = 30
    measured = problem.measure(state.params, state.model_state, jnp.arange(count))
    assert float(jnp.mean(measured["error"])) == pytest.approx(run.final_errors("test")[3])
    best = int(measured["network"][0])
    model = colocalisation.make_model(config_of(run.folder.parents[1]))
    params = jax.tree.map(lambda x: x[best], state.params)
    theta = np.asarray(model.apply(params, {}, state.model_state.image)[0])
    # The box of a crop of 28x28 points, 83 pixel distances being 2 units: out to the edges.
    centre, half = 41.5 * theta[:, 1:] + 42, 41.5 * theta[:, :1] * 28 / 27
    box = np.concatenate([centre - half, centre + half], axis=1)
    overlap = geometry.intersection_over_union(box, state.model_state.square)
    np.testing.assert_allclose(measured["overlap"], overlap, atol=1e-4)
    np.testing.assert_array_equal(measured["error"], np.where(overlap > 0.5, 0, 100))
    # A measurement of a part of the set is the part of the measurement.
    part = problem.measure(state.params, state.model_state, jnp.array([4, 4, 7]))
    np.testing.assert_allclose(part["loss"], measured["loss"][np.array([4, 4, 7])], rtol=1e-5)


def test_the_loss_sees_no_positions(problem, state):
    """C7."""
    batch = problem.draw(jax.random.key(0), problem.data)
    moved = state.model_state._replace(
        square=state.model_state.square + 20, ink=jnp.zeros_like(state.model_state.ink)
    )
    first, other = (
        jax.value_and_grad(lambda p, s=s: problem.loss(p, s, batch, None)[0])(state.params)
        for s in (state.model_state, moved)
    )
    jax.tree.map(np.testing.assert_array_equal, first, other)


def test_seeds_have_sets_of_their_own_of_the_chosen_digit_and_split(folder):
    loaded, config = digits.load(), config_of(folder)
    sets = {}
    for split in ("test", "validation"):
        config.data.evaluate_on = split
        for seed in (0, 1):
            sets[split, seed] = colocalisation.set_of(config, loaded, jax.random.key(seed))
    pasted = {}
    for key, images in sets.items():
        corners = np.asarray(images.square).astype(int)
        pasted[key] = {
            np.rint(255 * np.asarray(images.image[n, y : y + 28, x : x + 28, 0]))
            .astype(np.uint8)
            .tobytes()
            for n, (x, y, *_) in enumerate(corners)
        }
        source, labels = {
            "test": (loaded.test_images, loaded.test_labels),
            "validation": (loaded.train_images, loaded.train_labels),
        }[key[0]]
        assert pasted[key] <= {image.tobytes() for image in source[labels == 3]}
    assert pasted["test", 0] != pasted["test", 1]


def test_other_networks_are_no_encoders(tmp_path):
    config = config_of(tmp_path)
    write_record(tmp_path / "encoder", ("R", "FCN", ""))
    with pytest.raises(ConfigError, match="has to be a CNN for 28x28 images .* holds R-FCN-fast"):
        colocalisation.make_problem(config, ENCODERS)


def test_an_encoder_of_other_digits_is_refused(tmp_path):
    config = config_of(tmp_path)
    write_record(tmp_path / "encoder", ("R", "CNN", ""), fingerprint="0123")
    with pytest.raises(ConfigError, match="was trained on digits 0123"):
        colocalisation.make_problem(config, ENCODERS)


def test_the_run_becomes_a_table_of_what_is_right(folder, run, capsys):
    make_tables.main([str(folder / "runs")])
    printed = capsys.readouterr().out
    right = [100 - error for error in run.final_errors("test").values()]
    assert "Toy co-localisation on sklearn digits" in printed and "correct boxes in %" in printed
    assert f"{np.mean(right):.2f} ± {np.std(right, ddof=1):.2f} [s]" in printed


def test_boxes_are_followed_to_where_the_run_left_them(folder, run, problem, state, tmp_path):
    moving = colocalisation.replay(config_of(folder), ENCODERS, 4)
    assert moving.steps == [0, 10, STEPS] and moving.boxes.shape == (3, 4, 4)
    np.testing.assert_allclose(np.ptp(moving.boxes[0], axis=0), 0, atol=1e-3)
    measured = problem.measure(state.params, state.model_state, jnp.arange(4))
    overlap = geometry.intersection_over_union(moving.boxes[-1], moving.squares)
    np.testing.assert_allclose(overlap, measured["overlap"], atol=1e-3)

    show_colocalisation.main([str(run.folder), "--out", str(tmp_path), "--images", "2"])
    strip = matplotlib.image.imread(tmp_path / "T-3_boxes.png")
    assert min(strip.shape[:2]) > 200 and strip.std() > 0.05
    with Image.open(tmp_path / "T-3_boxes.gif") as animation:
        assert animation.n_frames == 3
