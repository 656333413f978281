"""3-D MNIST from the command line to its table, figure and measurements (V4 to V6)."""

import jax
import matplotlib.image
import numpy as np
import pytest
import scipy.ndimage

from scripts import make_figures, make_tables, measure_centres
from scripts.measure_centres import moments, summary
from stn_jax.data import digits
from stn_jax.launch.examples import apply_to_volumes
from stn_jax.reporting.runs import find_runs
from tests.launching import train
from tests.pages import table_of


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A short run of the quickstart on small volumes, trained from the command line."""
    folder = tmp_path_factory.mktemp("runs")
    settings = {"data.size": 42, "training.batch_size": 8, "training.eval_batch_size": 25}
    train("mnist_3d", "ST-CNN,quickstart", folder / "ST-CNN", settings, steps=10)
    return folder


@pytest.fixture
def run(runs):
    return find_runs([runs])[0]


def test_runs_become_a_table(runs, run, capsys):
    make_tables.main([str(runs), "--format", "markdown"])
    printed = capsys.readouterr().out
    assert "**Toy volumes on sklearn digits, not an experiment of the paper: test err" in printed
    (error,) = run.final_errors("test").values()
    assert f"| ST-CNN Aff | {error:.2f} <sup>s</sup>" in printed
    assert "data.size 42 instead of 60" in printed and 0 < error <= 100


@pytest.mark.slow
def test_runs_become_figures(runs, tmp_path):
    make_figures.main([str(runs), "--out", str(tmp_path), "--indices", "3,396"])
    names = ["ST-CNN_curves.png", "ST-CNN_examples.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert matplotlib.image.imread(tmp_path / "ST-CNN_examples.png").std() > 0.05


@pytest.mark.slow
def test_the_figure_shows_the_network_that_was_tested(run):
    examples = apply_to_volumes(run, range(397))
    wrong = 100 * np.mean(examples.predictions != examples.labels)
    assert wrong == pytest.approx(run.final_errors("test")[0], abs=1e-3)
    np.testing.assert_array_equal(examples.labels, digits.load().test_labels)
    assert examples.inputs.shape == (397, 42, 42, 42)
    assert examples.outputs.shape == (397, 15, 30, 30)
    # The region's corners are the ends of what the output reads: linear between them.
    weights = [np.stack([np.linspace(1, 0, n), np.linspace(0, 1, n)]) for n in (15, 30, 30)]
    for n in (0, 200):
        points = np.einsum("az,by,cx,abci->izyx", *weights, examples.corners[n])
        read = scipy.ndimage.map_coordinates(
            examples.inputs[n], points[::-1], order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(read, examples.outputs[n], atol=1e-3)


@pytest.mark.slow
def test_rows_are_inputs_and_outputs(runs, tmp_path, capsys):
    measure_centres.main([str(runs), "--out", str(tmp_path / "out/centres.md")])
    printed = capsys.readouterr().out
    assert (tmp_path / "out/centres.md").read_text() == printed
    rows = table_of(printed)
    assert tuple(rows[0]) == measure_centres.COLUMNS
    assert [row[:2] for row in rows[1:]] == [
        ["3D-ST-CNN-quickstart-seed0", name] for name in ("inputs", "outputs")
    ]
    before, after = (dict(zip(rows[0], row, strict=True)) for row in rows[1:])
    for name in ("spread", "size"):  # hardly trained: nearly the identity
        assert float(after[name]) == pytest.approx(float(before[name]), rel=0.3)
    assert float(before["empty"]) == 0


def test_missed_digits_are_refused(runs, tmp_path):
    folder = str(runs / "ST-CNN")
    arguments = [folder, "--missed-by", folder, "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match="--missed-by is for distorted MNIST, not for mnist_3d"):
        make_figures.main(arguments)


# The measures, against SciPy and what is known.


def test_moments_are_scipys():
    images = np.random.default_rng(0).uniform(size=(5, 9, 12, 1)).astype(np.float32)
    ink, centroid, radius = jax.jit(moments)(images)
    for i, image in enumerate(images[..., 0]):
        y, x = scipy.ndimage.center_of_mass(image)
        expected = [100 * (x - 5.5) / 12, 100 * (y - 4) / 9]
        np.testing.assert_allclose(centroid[i], expected, atol=1e-3)
        rows, columns = np.mgrid[:9, :12]
        square = (100 * (columns - x) / 12) ** 2 + (100 * (rows - y) / 9) ** 2
        expected = np.sqrt((image * square).sum() / image.sum())
        assert radius[i] == pytest.approx(expected, rel=1e-3)
        assert ink[i] == pytest.approx(image.sum(), rel=1e-5)


def test_spread_and_size_of_a_dot_at_known_places():
    centroid = np.array([[10.0, 4], [14, 4], [12, 1], [12, 7], [np.nan, np.nan]])
    ink, radius = np.array([1.0, 2, 3, 4, 0]), np.array([5.0, 5, 5, 5, np.nan])
    spread, off, size, relative, empty = summary(ink, centroid, radius)
    assert spread == pytest.approx(np.sqrt((2 * 2**2 + 2 * 3**2) / 4))
    assert off == pytest.approx(np.hypot(12, 4))
    assert (size, empty) == (pytest.approx(5), pytest.approx(20))
    assert relative == pytest.approx(spread / size)
