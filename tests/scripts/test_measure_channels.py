"""MNIST addition from the command line to its table, figure and measurements (A1 to A11)."""

import jax
import matplotlib.image
import matplotlib.path
import numpy as np
import pytest

from scripts import make_figures, make_tables, measure_channels
from scripts.measure_channels import (
    COLUMNS,
    POINTS,
    _rows,
    enclosed,
    nearest_affine,
    spread,
    standing,
)
from stn_jax.data import digits
from stn_jax.data.distorted_mnist import fixed_keys
from stn_jax.data.distortions import DISTORTIONS
from stn_jax.data.mnist_addition import fixed_pairs
from stn_jax.geometry import affine_grid, to_pixels
from stn_jax.reporting.runs import find_runs
from tests.launching import train
from tests.pages import table_of

RTS = DISTORTIONS["RTS"]


def train_toy(selection, folder):
    """Train a short run of the quickstart from the command line."""
    workdir = folder / selection.replace(",", "-")
    train("mnist_addition", f"{selection},quickstart", workdir, {}, steps=20)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    train_toy("2xST-FCN,Aff", folder)
    return folder


@pytest.fixture
def two(runs):
    """The run with two transformers."""
    return find_runs([runs])[0]


def test_runs_become_a_table(runs, two, capsys):
    make_tables.main([str(runs), "--format", "markdown"])
    printed = capsys.readouterr().out
    assert "Toy addition on sklearn digits" in printed
    (error,) = two.final_errors("test").values()
    assert f"| 2xST-FCN Aff | {error:.2f} <sup>s</sup>" in printed
    assert two.config["experiment"] == two.experiment == "mnist_addition"
    assert 0 < error <= 100


def test_runs_become_figures(runs, tmp_path):
    make_figures.main([str(runs), "--out", str(tmp_path), "--indices", "3,0,396"])
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {f"2xST-FCN-Aff_{kind}.png" for kind in ("curves", "examples")}
    assert matplotlib.image.imread(tmp_path / "2xST-FCN-Aff_examples.png").std() > 0.05


@pytest.mark.slow
def test_a_single_transformer_is_shown_and_measured_too(runs, tmp_path, capsys):
    train_toy("ST-FCN,TPS", tmp_path)
    figures = tmp_path / "figures"
    make_figures.main([str(runs), str(tmp_path), "--out", str(figures), "--indices", "3,0"])
    one, two = (
        matplotlib.image.imread(next(figures.rglob(f"{name}_examples.png")))
        for name in ("ST-FCN-TPS", "2xST-FCN-Aff")
    )
    assert one.std() > 0.05 and one.shape[1] < two.shape[1]
    capsys.readouterr()
    measure_channels.main([str(tmp_path), "--out", str(tmp_path / "channels.md")])
    assert len(table_of(capsys.readouterr().out)) == 1 + 2 + 2


def test_the_figure_shows_the_network_that_was_tested(two):
    examples = make_figures.apply_to_pairs(two, range(397))
    wrong = 100 * np.mean(examples.predictions != examples.digits.sum(axis=1))
    assert wrong == pytest.approx(two.final_errors("test")[0], abs=1e-3)
    label = digits.load().test_labels
    np.testing.assert_array_equal(examples.digits, label[np.asarray(fixed_pairs(397))])
    assert examples.inputs.shape == (397, 2, 42, 42)
    assert examples.outputs.shape == (397, 2, 2, 42, 42)
    assert examples.grids.shape[:2] == (397, 2)
    # The corner of a grid is what the corner of its output shows, in both channels.
    corner = np.rint(examples.grids[:, :, 0, 0]).astype(int)
    near = np.abs(examples.grids[:, :, 0, 0] - corner).max(axis=-1) < 0.02
    inside = near & (corner.min(axis=-1) >= 0) & (corner.max(axis=-1) <= 41)
    for n, t in np.argwhere(inside):
        x, y = corner[n, t]
        shown = examples.outputs[n, t, :, 0, 0]
        np.testing.assert_allclose(shown, examples.inputs[n, :, y, x], atol=0.1)


def test_rows_are_two_inputs_and_each_transformer_on_each_channel(runs, tmp_path, capsys):
    measure_channels.main([str(runs), "--out", str(tmp_path / "out/channels.md")])
    printed = capsys.readouterr().out
    assert (tmp_path / "out/channels.md").read_text() == printed
    rows = table_of(printed)
    assert tuple(rows[0]) == measure_channels.COLUMNS
    table = {tuple(row[:3]): dict(zip(rows[0], row, strict=True)) for row in rows[1:]}
    both = "addition-2xST-FCN-Aff-quickstart"
    assert set(table) == {
        (both, transformer, channel) for transformer in ("–", "1", "2") for channel in ("1", "2")
    }
    # Angles are uniform in +-45 degrees: standard deviation 90 / sqrt(12), 20 of 90 upright.
    before = table[both, "–", "1"]
    assert float(before["turned"]) == pytest.approx(26, abs=2)
    assert float(before["upright"]) == pytest.approx(22, abs=5)
    for channel in ("1", "2"):  # hardly trained: nearly the identity
        after = table[both, "1", channel]
        assert float(after["turned"]) == pytest.approx(26, abs=4)
        assert float(after["area"]) > 50
    less = [float(table[both, "2", channel]["turned less"]) for channel in ("1", "2")]
    assert sum(less) == pytest.approx(100, abs=0.1)


# The measures, against maps that are known.


def poses(count):
    drawn = jax.jit(RTS.poses)(fixed_keys(np.arange(2 * count)))
    return {name: np.reshape(value, (count, 2, -1)) for name, value in drawn.items()}


def similarity(angle, scale, shift):
    """Grids of theta = scale R(angle), shift in pixels, as pixels of a 42x42 input."""
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    x, y = np.moveaxis(shift, -1, 0) / 20.5
    theta = np.stack([cos, -sin, x, sin, cos, y], axis=-1).astype(np.float32)
    grid = to_pixels(affine_grid(theta.reshape(-1, 6), (POINTS, POINTS)), (42, 42))
    return np.asarray(grid, np.float64).reshape(*angle.shape, POINTS, POINTS, 2)


def test_a_transformer_that_undoes_a_channel_leaves_its_digit_standing():
    """Transformer i has the pose of channel i, so that digit is upright, in the middle."""
    pose = poses(20)
    angle, scale, centre = pose["angle"][..., 0], pose["scale"][..., 0], pose["centre"]
    found = standing(similarity(angle, scale, centre), pose, (42, 42))
    np.testing.assert_allclose(found["turn"], np.degrees(angle), atol=1e-3)
    np.testing.assert_allclose(found["shift"], centre, atol=1e-3)
    for i in (0, 1):
        np.testing.assert_allclose(found["angle"][:, i, i], 0, atol=1e-3)
        np.testing.assert_allclose(found["place"][:, i, i], 0, atol=1e-3)
        # The other digit is turned by the difference.
        expected = np.degrees(angle[:, 1 - i] - angle[:, i])
        seen = np.isfinite(found["angle"][:, i, 1 - i])
        assert seen.mean() > 0.8
        np.testing.assert_allclose(found["angle"][seen, i, 1 - i], expected[seen], atol=1e-3)


def test_a_pair_that_undoes_both_channels_is_always_upright():
    pose = {name: np.asarray(value) for name, value in poses(200).items()}
    angle, scale, centre = pose["angle"][..., 0], pose["scale"][..., 0], pose["centre"]
    table = rows_of(pose, similarity(angle, scale, centre), np.arange(400).reshape(200, 2) // 40)
    for i in (1, 2):
        own, other, before = table[i, i], table[i, 3 - i], table[None, i]
        assert (own["upright"], own["turned less"], own["moved less"]) == (100, 100, 100)
        assert (other["turned less"], other["moved less"]) == (0, 0)
        assert own["r turn"] > 0.99 < own["r shift"]
        assert own["angle"] == pytest.approx(0, abs=1e-3)
        assert before["upright"] == pytest.approx(22, abs=8) and other["upright"] < 50


def test_digits_that_all_lean_lean_in_the_table():
    """By 30 degrees; and where each class has its own angle, that is not its own deviation."""
    pose = {name: np.asarray(value) for name, value in poses(200).items()}
    angle, scale, centre = pose["angle"][..., 0], pose["scale"][..., 0], pose["centre"]
    label = np.random.default_rng(0).integers(10, size=(200, 2))
    lean = np.radians(30)
    for extra, own_turned in ((0 * label, 0), (np.radians(3) * label, 3 * np.std(label[:, 0]))):
        table = rows_of(pose, similarity(angle - lean - extra, scale, centre), label)
        own = table[1, 1]
        expected = 30 + np.degrees(extra[:, 0]).mean()
        assert own["angle"] == pytest.approx(expected, abs=1e-2)
        assert own["turned"] == pytest.approx(own_turned, abs=1e-2)
        assert own["in class"] == pytest.approx(0, abs=1e-2)


def rows_of(pose, grid, label):
    """The table's rows, by transformer and channel, of grids [N, T, h, w, 2] on black images."""
    count = len(label)
    found = standing(grid, pose, (42, 42))
    found |= {"warped": np.zeros((count, 42, 42, 2, 2)), "ink": np.ones((count, 2, 2))}
    found |= {"area": np.ones((count, 2))}
    with np.errstate(invalid="ignore"):  # black images have no spread
        rows = _rows("run", np.zeros((count, 42, 42, 2)), label, pose, found)
    return {tuple(row[1:3]): dict(zip(COLUMNS, row, strict=True)) for row in rows}


def test_the_identity_leaves_poses_as_drawn():
    pose = poses(20)
    zero = np.zeros((20, 1))
    found = standing(similarity(zero, zero + 1, np.zeros((20, 1, 2))), pose, (42, 42))
    np.testing.assert_allclose(found["angle"][:, 0], np.degrees(pose["angle"][..., 0]), atol=1e-3)
    np.testing.assert_allclose(found["place"][:, 0], pose["centre"], atol=1e-3)
    np.testing.assert_allclose(found["turn"], 0, atol=1e-3)


def test_a_digit_that_is_not_read_stands_nowhere():
    pose = poses(3)
    far = np.full((3, 1, 2), 200.0)
    found = standing(similarity(np.zeros((3, 1)), np.ones((3, 1)), far), pose, (42, 42))
    assert np.isnan(found["angle"]).all() and np.isnan(found["place"]).all()


def test_nearest_affine_is_weighted_least_squares():
    rng = np.random.default_rng(0)
    points = np.stack(np.meshgrid(np.linspace(-5, 5, 4), np.linspace(-3, 3, 3)), axis=-1)
    values, weight = rng.normal(size=(2, 3, 4, 2)), rng.uniform(size=(2, 3, 4))
    linear, offset = nearest_affine(points, values, weight)
    basis = np.concatenate([points.reshape(12, 2), np.ones((12, 1))], axis=1)
    for k in range(2):
        root = np.sqrt(weight[k].reshape(12, 1))
        expected = np.linalg.lstsq(root * basis, root * values[k].reshape(12, 2), rcond=None)[0]
        np.testing.assert_allclose(np.vstack([linear[k].T, offset[k]]), expected, atol=1e-8)


def test_enclosed_ink_and_area_are_matplotlibs():
    rng = np.random.default_rng(0)
    angle, scale = rng.uniform(-3, 3, (5, 2)), rng.uniform(0.3, 1.2, (5, 2))
    grid = similarity(angle, scale, rng.uniform(-9, 9, (5, 2, 2)))
    image = rng.uniform(size=(5, 42, 42, 2))
    found = enclosed(grid, image)
    pixels = np.stack(np.meshgrid(np.arange(42), np.arange(42)), axis=-1).reshape(-1, 2)
    for n in range(5):
        for t in range(2):
            corners = grid[n, t][[0, 0, -1, -1], [0, -1, -1, 0]]
            inside = matplotlib.path.Path(corners).contains_points(pixels).reshape(42, 42)
            assert found["area"][n, t] == pytest.approx(inside.mean(), abs=2e-3)
            ink = image[n][inside].sum(axis=0) / image[n].sum(axis=(0, 1))
            np.testing.assert_allclose(found["ink"][n, t], ink, atol=2e-3)


def test_spread_is_zero_for_copies_and_one_where_nothing_stays():
    label = np.repeat([0, 1], 32)
    copies = np.random.default_rng(0).uniform(size=(2, 4, 8))[label]
    assert spread(copies, label) == pytest.approx(0, abs=1e-12)
    nowhere = np.tile(np.eye(32).reshape(32, 4, 8), (2, 1, 1))
    assert spread(nowhere, label) == pytest.approx(31 / 32)
