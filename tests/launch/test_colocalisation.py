"""Co-localisation from the command line to its table and figure, in tiny form (C3, C4, C7)."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest
from PIL import Image

from scripts import make_tables, measure_views, show_colocalisation
from stn_jax import geometry
from stn_jax.data import digits
from stn_jax.launch import colocalisation, encoder
from stn_jax.launch.cli import load_config_module
from stn_jax.launch.encoder import open_encoder
from stn_jax.launch.replay import replay
from stn_jax.launch.saved import open_network, open_state
from stn_jax.models.colocaliser import VIEWS, triplet_hinge, turn, turn_back
from stn_jax.reporting.runs import find_runs
from stn_jax.training.errors import EXIT_USAGE, ConfigError
from tests.launching import ROOT, train
from tests.pages import table_of
from tests.reporting.synthetic import write_record

ENCODERS = load_config_module(ROOT / "configs" / "distorted_mnist.py").get_config
STEPS = 20


def config_of(folder, selection="T,3"):
    module = load_config_module(ROOT / "configs" / "colocalisation.py")
    config = module.get_config(f"{selection},quickstart")
    config.runtime.encoder_workdir = str(folder / "encoder")
    config.encoder.num_steps = STEPS
    for name in ("num_steps", "log_every", "eval_every"):
        config.training[name] = STEPS
    config.seeds = (3, 5)
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two seeds trained from the command line, and before that an encoder."""
    folder = tmp_path_factory.mktemp("colocalisation")
    config = config_of(folder)
    settings = {
        "runtime.encoder_workdir": config.runtime.encoder_workdir,
        **{"encoder.num_steps": STEPS, "seeds": (3, 5)},
    }
    workdir = folder / "runs" / "T-3"
    done = train("colocalisation", "T,3,quickstart", workdir, settings, steps=STEPS)
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
    trained = find_runs([folder / "encoder"])[0]
    header = (run.folder / "record.jsonl").read_text().splitlines()[0]
    assert f'"error": {trained.final_errors("test")[0]}' in header
    assert trained.step == STEPS and trained.config["model"]["name"] == "cnn"


def test_an_encoder_that_is_there_is_not_trained_again(folder, capsys):
    before = (folder / "encoder" / "record.jsonl").read_text()
    colocalisation.make_problem(config_of(folder), ENCODERS)
    assert capsys.readouterr().out == ""
    assert (folder / "encoder" / "record.jsonl").read_text() == before


def test_the_score_is_that_of_the_boxes_with_the_least_loss(problem, state, run):
    count = 30
    measure = jax.jit(problem.measure)
    measured = measure(state.params, state.model_state, jnp.arange(count))
    assert float(jnp.mean(measured["error"])) == pytest.approx(run.final_errors("test")[3])
    view = np.asarray(jax.jit(problem.find)(state.params, state.model_state)[1])
    assert len(set(view.tolist())) > 1
    model = colocalisation.make_model(config_of(run.folder.parents[1]))
    seen = jax.jit(turn)(state.model_state.image, VIEWS[view])
    theta = turn_back(model.apply(state.params, {}, seen)[0], VIEWS[view])
    # The box of a crop of 28x28 points, 83 pixel distances being 2 units: out to the edges.
    centre, half = 41.5 * theta[:, 1:] + 42, 41.5 * theta[:, :1] * 28 / 27
    box = np.concatenate([centre - half, centre + half], axis=1)
    overlap = geometry.intersection_over_union(box, state.model_state.square)
    np.testing.assert_allclose(measured["overlap"], overlap, atol=1e-4)
    np.testing.assert_array_equal(measured["error"], np.where(overlap > 0.5, 0, 100))
    # A measurement of a part of the set is the part of the measurement.
    part = measure(state.params, state.model_state, jnp.array([4, 4, 7]))
    np.testing.assert_allclose(part["loss"], measured["loss"][np.array([4, 4, 7])], rtol=1e-5)


def test_an_image_s_box_is_that_with_the_least_loss_beside_the_leading_view_s():
    found, random = (jax.random.normal(jax.random.key(k), (3, 5, 4)) for k in (1, 2))
    found = found.at[2].multiply(0.1)

    def loss(e, n, others, r):
        hinges = [
            max(0, np.sum((e[n] - others[m]) ** 2) - np.sum((e[n] - r[n]) ** 2) + 0.5)
            for m in range(5)
            if m != n
        ]
        return np.mean(hinges)

    def losses(r, others):
        return [loss(found[r], n, others, random[r]) for n in range(5)]

    leading = found[int(np.argmin([np.mean(losses(r, found[r])) for r in range(3)]))]
    table = np.array([losses(r, leading) for r in range(3)])
    view, values = colocalisation.choose(found, random, partial(triplet_hinge, margin=0.5))
    np.testing.assert_array_equal(view, table.argmin(0))
    np.testing.assert_allclose(values, table.min(0), rtol=1e-5)
    assert len(set(view.tolist())) > 1


@pytest.mark.slow
def test_the_loss_is_eq_8_on_the_crops(folder, problem, state):
    """C1, C4: also from which sides, and that e(I_m) and the random crops have no gradient."""
    config = config_of(folder)
    encode, _ = open_encoder(config, ENCODERS, digits.load())
    model = colocalisation.make_model(config)
    batch = problem.draw(jax.random.key(4), problem.data)
    images = state.model_state.image[batch.index]

    def found(params):
        theta = turn_back(model.apply(params, {}, turn(images, batch.view))[0], batch.view)
        grid = geometry.attention_grid(theta, (28, 28))
        return theta, encode(geometry.sample(images, grid))

    def hinges(e, others, random):
        return [
            jnp.maximum(0, jnp.sum((e[n] - others[m]) ** 2) - jnp.sum((e[n] - random[n]) ** 2) + 1)
            for n in range(len(images))
            for m in range(len(images))
            if n != m
        ]

    theta, others = found(state.params)
    anywhere = jnp.concatenate([theta[:, :1], batch.place], axis=1)
    random = encode(geometry.sample(images, geometry.attention_grid(anywhere, (28, 28))))

    def mean(params):
        return jnp.mean(jnp.stack(hinges(found(params)[1], others, random)))

    loss, expected = jax.jit(jax.value_and_grad(mean))(state.params)
    (_, (_, metrics)), grads = jax.value_and_grad(problem.loss, has_aux=True)(
        state.params, state.model_state, batch, None
    )
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-4)
    for ours, theirs in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-2, atol=1e-4)


@pytest.mark.slow
def test_boxes_find_the_toy_s_digits(tmp_path):
    settings = {
        "runtime.encoder_workdir": tmp_path / "encoder",
        **{"encoder.num_steps": 500, "training.num_steps": 400},
    }
    train("colocalisation", "T,3,quickstart", tmp_path / "run", settings)
    assert find_runs([tmp_path / "run"])[0].final_errors("test")[0] < 50


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


def test_recipes_are_chosen_on_other_draws_than_those_of_the_table(folder):
    """Neither places nor first weights of a seed's test set are those of its validation set."""
    config, first = config_of(folder), {}
    for split in ("test", "validation"):
        config.data.evaluate_on = split
        init = colocalisation.make_problem(config, ENCODERS).init
        first[split] = jax.jit(init)(jax.random.key(0))
    (test_params, test_set), (params, images) = first["test"], first["validation"]
    assert np.mean(np.all(test_set.square == images.square, axis=1)) < 0.1
    same = jax.tree.leaves(jax.tree.map(np.array_equal, test_params, params))
    assert same.count(False) == 3  # kernels; biases and the last layer start the same


@pytest.mark.slow
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


def test_a_network_of_distorted_mnist_is_loaded_from_its_checkpoint(tmp_path, capsys):
    train("distorted_mnist", "R,CNN,quickstart", tmp_path / "encoder", {}, steps=STEPS)
    (run,) = find_runs([tmp_path / "encoder"])
    loaded = digits.load()
    encode, opened = open_encoder(config_of(tmp_path), ENCODERS, loaded)
    assert capsys.readouterr().out == "" and opened.name == run.name
    images = loaded.test_images[:3].astype(np.float32) / 255
    scores, _ = open_network(run.config, run.folder)(images)
    ratio = np.asarray(encode(images)[:, -10:] / scores)
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)
    assert ratio[0, 0] > 0


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


def test_another_encoder_than_asked_for_is_refused(tmp_path):
    config = config_of(tmp_path)
    fingerprint = digits.load().fingerprint
    write_record(tmp_path / "encoder", ("R", "CNN", ""), fingerprint=fingerprint)
    with pytest.raises(ConfigError, match=r"is a-name of 2000 .* ask for R-CNN-quickstart of 20\."):
        colocalisation.make_problem(config, ENCODERS)


def test_an_encoder_for_other_digits_is_not_trained(tmp_path):
    config = config_of(tmp_path)
    config.encoder.selection = "R,CNN,fast"
    with pytest.raises(ConfigError, match="data.digits='sklearn', and the encoder R-CNN-fast is"):
        colocalisation.make_problem(config, ENCODERS)
    assert not (tmp_path / "encoder").exists()


def test_a_record_alone_is_no_encoder(tmp_path):
    config = config_of(tmp_path)
    config.encoder.num_steps = 2000
    fingerprint = digits.load().fingerprint
    name = ENCODERS(config.encoder.selection).name
    write_record(tmp_path / "encoder", ("R", "CNN", ""), fingerprint=fingerprint, name=name)
    with pytest.raises(ConfigError, match="holds the record of an encoder, but no checkpoint"):
        colocalisation.make_problem(config, ENCODERS)


def test_several_processes_train_no_encoder(tmp_path, monkeypatch):
    monkeypatch.setattr(encoder, "several", lambda: True)
    with pytest.raises(ConfigError, match="there is no encoder in .* once without --distributed"):
        colocalisation.make_problem(config_of(tmp_path), ENCODERS)


@pytest.mark.parametrize("selection", ["R,FCN", "TC,CNN", "R,ST-CNN"])
def test_what_cannot_be_an_encoder_is_not_trained(tmp_path, selection):
    config = config_of(tmp_path)
    config.encoder.selection = selection
    with pytest.raises(ConfigError, match="has to be a CNN .* encoder.selection='" + selection):
        colocalisation.make_problem(config, ENCODERS)
    assert not (tmp_path / "encoder").exists()


@pytest.mark.slow
def test_what_is_wrong_is_said_in_one_line(tmp_path):
    write_record(tmp_path / "encoder", ("R", "FCN", ""))
    settings = {"runtime.encoder_workdir": tmp_path / "encoder"}
    done = train("colocalisation", "T,3,quickstart", tmp_path / "run", settings, check=False)
    assert done.returncode == EXIT_USAGE and not (tmp_path / "run").exists()
    assert done.stderr.startswith("colocalisation.py: the encoder has to be a CNN")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("training.batch_size", 1, "2 .a pair. to data.count, .* got 1 of 30"),
        ("training.batch_size", 31, "got 31 of 30"),
        ("data.digit", 12, "data.digit is to be 0 to 9, got 12"),
        ("data.distortion", "RTS", "data.distortion='RTS'; there are T, TC"),
        ("data.digits", "mnits", "data.digits='mnits'; there are mnist, sklearn"),
    ],
)
def test_impossible_values_are_told_before_an_encoder_is_trained(tmp_path, field, value, message):
    config = config_of(tmp_path)
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ConfigError, match=message):
        colocalisation.make_problem(config, ENCODERS)
    assert not (tmp_path / "encoder").exists()


def test_more_images_than_digits(folder):
    config = config_of(folder)
    config.data.count = 1000
    with pytest.raises(ConfigError, match="data.count=1000 is more than there are of digit 3"):
        colocalisation.set_of(config, digits.load(), jax.random.key(0))


def test_the_run_becomes_a_table_of_what_is_right(folder, run, capsys):
    make_tables.main([str(folder / "runs")])
    printed = capsys.readouterr().out
    right = [100 - error for error in run.final_errors("test").values()]
    assert "Toy co-localisation on sklearn digits" in printed and "correct boxes in %" in printed
    assert f"{np.mean(right):.2f} ± {np.std(right, ddof=1):.2f} [s]" in printed


def test_views_are_measured_alone_too(folder, run, state, capsys):
    measure_views.main([str(folder / "runs")])
    heads, cells = table_of(capsys.readouterr().out)
    row = dict(zip(heads, cells, strict=True))
    chosen = [100 - error for error in run.final_errors("test").values()]
    assert float(row["chosen"]) == pytest.approx(np.mean(chosen), abs=0.01)
    assert float(row["chosen ±"]) == pytest.approx(np.std(chosen, ddof=1), abs=0.01)
    one, alone, *_ = next(measure_views.measure(run))
    model = colocalisation.make_model(config_of(folder))
    right = []
    for view in np.repeat(VIEWS[:, None], len(state.model_state.image), axis=1):
        theta = colocalisation.locate(model, state.params, state.model_state.image, view)
        right.append(100 - float(colocalisation.wrong(theta, state.model_state.square).mean()))
    assert [one, alone] == pytest.approx([right[0], np.mean(right)], abs=1e-3)


def test_shares_of_right_boxes_by_hand():
    right = np.array([[True, True, False, True], [True, False, False, False]])
    # The first view has three of four, the second one; the boxes taken: right, wrong, wrong, right.
    assert measure_views.shares(right, np.array([0, 1, 0, 0])) == [75, 50, 50, 75]


@pytest.mark.slow
def test_boxes_are_followed_to_where_the_run_left_them(
    folder, run, problem, state, tmp_path, monkeypatch
):
    moving = replay(run, ENCODERS, 4)
    assert moving.steps == [*range(STEPS + 1)] and moving.boxes.shape == (STEPS + 1, 4, 4)
    np.testing.assert_allclose(np.ptp(moving.boxes[0], axis=0), 0, atol=1e-3)
    measured = problem.measure(state.params, state.model_state, jnp.arange(4))
    overlap = geometry.intersection_over_union(moving.boxes[-1], moving.squares)
    np.testing.assert_allclose(overlap, measured["overlap"], atol=1e-3)
    np.testing.assert_allclose(moving.overlaps[-1], overlap, atol=1e-6)

    show_colocalisation.main([str(run.folder), "--out", str(tmp_path), "--images", "2"])
    strip = matplotlib.image.imread(tmp_path / "T-3_boxes.png")
    assert min(strip.shape[:2]) > 200 and strip.std() > 0.05
    with Image.open(tmp_path / "T-3_boxes.gif") as animation:
        assert animation.n_frames == STEPS + 1

    monkeypatch.setattr("stn_jax.launch.replay.FRAMES", 4)
    missed = replay(run, ENCODERS, 100, missed=True)
    assert missed.steps == [0, 5, 10, 15, STEPS]
    error = run.final_errors("test")[3]
    count = config_of(folder).data.count
    assert error > 0 and len(missed.images) == round(error * count / 100)
    assert missed.overlaps[-1].max() <= 0.5 and missed.boxes.shape[1] == len(missed.images)


@pytest.mark.slow
def test_steps_with_another_encoder_are_not_those_of_the_run(run, folder, tmp_path):
    lines = (run.folder / "record.jsonl").read_text().splitlines()
    header = json.loads(lines[0])
    header["data"]["encoder"]["steps"] += 1
    other = tmp_path / "other"
    other.mkdir()
    (other / "record.jsonl").write_text("\n".join([json.dumps(header), *lines[1:]]) + "\n")
    with pytest.raises(ConfigError, match="its steps cannot be repeated"):
        replay(find_runs([other])[0], ENCODERS, 1)
