import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from scripts import make_animations, make_figures
from stn_jax.data.distortions import DISTORTIONS
from stn_jax.reporting.runs import find_runs
from tests.reporting.synthetic import write_record
from tests.scripts.test_make_figures import train_toy

FRAMES = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "R-ST-FCN-Aff"
    train_toy("R,ST-FCN,Aff", folder)
    return folder


def test_loops_go_through_all_stops_and_back():
    stops = np.random.default_rng(0).normal(size=(4, 2, 3))
    way = make_animations.loop(stops, 40)
    assert way.shape == (40, 2, 3)
    np.testing.assert_allclose(way[::10], stops, atol=1e-6)
    np.testing.assert_allclose(way[35], (stops[3] + stops[0]) / 2, atol=1e-6)
    # Without jumps, the one from the last frame to the first included.
    steps = np.abs(np.diff(way, axis=0, append=way[:1]))
    assert steps.max() < 0.2 * np.abs(np.diff(stops, axis=0, append=stops[:1])).max()


def test_a_digit_on_r_turns_over_the_whole_range():
    poses, clutter = make_animations.moving(DISTORTIONS["R"], 0, 10, 48)
    angle = np.degrees(poses["angle"])
    assert (angle.min(), angle.max()) == pytest.approx((-90, 90)) and not clutter
    assert np.abs(np.diff(angle)).max() < 13


@pytest.mark.parametrize("name", [name for name in DISTORTIONS if name != "R"])
def test_stops_are_draws_of_the_distortion(name):
    distortion, index = DISTORTIONS[name], 3
    rng = np.random.default_rng(0)
    digits = rng.integers(0, 256, (9, 28, 28, 1), np.uint8)
    image = rng.uniform(size=(1, 28, 28, 1)).astype(np.float32)
    poses, clutter = make_animations.moving(distortion, index, len(digits), FRAMES)
    frames = jnp.tile(image, (FRAMES, 1, 1, 1))
    moving = jax.jit(distortion.render)(frames, poses, clutter, digits)
    key = jax.random.split(jax.random.key(index), make_animations.DRAWN_STOPS)[:1]
    drawn = jax.jit(distortion)(key, image, digits=digits, own=jnp.array([index]))
    np.testing.assert_allclose(moving[0], drawn[0], atol=1e-5)
    assert np.abs(np.diff(moving, axis=0)).max(axis=(1, 2, 3)).min() > 0.01


def test_the_same_patches_of_clutter_move_over_whole_pixels():
    _, clutter = make_animations.moving(DISTORTIONS["TC"], 0, 10, FRAMES)
    for name in ("digit", "source"):
        np.testing.assert_array_equal(clutter[name], clutter[name][:1].repeat(FRAMES, 0))
    target = np.asarray(clutter["target"])
    assert target.dtype == np.int32 and target.min() >= 0 and target.max() <= 54
    assert len(np.unique(target[:, 0], axis=0)) > FRAMES / 4


def test_a_trained_run_is_animated(folder, tmp_path, capsys):
    path = tmp_path / "new" / "a.gif"
    words = [str(folder), "--indices", "3,0", "--frames", "4", "--out", str(path)]
    make_animations.main(words)
    with Image.open(path) as image:
        assert image.n_frames == 4 and image.width > 250
    assert "a.gif has 0." in capsys.readouterr().out


@pytest.mark.slow
def test_the_network_sees_the_digit_in_its_pose(folder):
    run = find_runs([folder])[0]
    shown = make_animations.animate(run, 5, 2)
    plain = make_figures.apply_to_digits(run, [5])
    np.testing.assert_array_equal(shown.labels, plain.labels.repeat(2))
    # From -90 to +90 degrees: upside down, and neither way is how the test set has it.
    assert [caption[:11] for caption in shown.captions] == ["turned -90°", "turned +90°"]
    first, last = shown.inputs
    np.testing.assert_allclose(first[::-1, ::-1], last, atol=1e-4)
    assert np.abs(first - plain.inputs[0]).max() > 0.3
    assert np.abs(shown.outputs - shown.inputs).max() > 0.01


def test_what_cannot_be_animated_is_named(folder, tmp_path, capsys):
    write_record(tmp_path / "fcn")
    write_record(tmp_path / "st", ("R", "ST-FCN", "Aff"))
    for words, message in (
        ([tmp_path / "fcn"], "R-FCN-fast has no transformer to show"),
        ([tmp_path / "st"], "R-ST-FCN-Aff-fast has no checkpoints: it cannot be shown"),
        ([folder, "--indices", "397"], "there is no test digit 397"),
        ([tmp_path / "none"], "there is no folder"),
    ):
        with pytest.raises(SystemExit, match=f"^make_animations.py: {message}"):
            make_animations.main([*map(str, words), "--out", str(tmp_path / "a.gif")])
    for words, message in (
        (["--out=a.png"], "--out must be a .gif, got a.png"),
        (["--out=a.gif", "--frames=0"], "--frames must be positive, got 0"),
    ):
        with pytest.raises(SystemExit):
            make_animations.main([str(folder), *words])
        assert message in capsys.readouterr().err
