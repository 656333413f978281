"""House numbers from the command line to table, figure and measurement (H22)."""

import matplotlib.image
import pytest

from scripts import make_figures, make_tables, measure_regions
from stn_jax.launch.examples import apply_to_numbers
from stn_jax.reporting.runs import find_runs
from tests.launch.svhn_crops import write_crops
from tests.launching import train


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A short run on small canvases, trained from the command line."""
    place, folder = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("runs")
    write_crops(place)
    settings = {
        **{"model.layers": "appendix", "model.width": 0.03, "data.canvas": 24, "data.held_out": 4},
        **{"training.batch_size": 8, "training.eval_batch_size": 8, "runtime.data_dir": place},
    }
    train("svhn", "Single,reduced", folder / "Single", settings, steps=10)
    return folder


@pytest.fixture
def run(runs):
    return find_runs([runs])[0]


def test_runs_become_a_table(runs, run, capsys):
    make_tables.main([str(runs), "--format", "markdown"])
    printed = capsys.readouterr().out
    assert "House numbers in small, not Table 2" in printed
    (error,) = run.final_errors("test").values()
    assert f"| ST-CNN Single | {error:.2f} <sup>s</sup>" in printed
    assert "data.canvas 24 instead of 48" in printed


@pytest.mark.slow
def test_runs_become_figures(runs, tmp_path):
    make_figures.main([str(runs), "--out", str(tmp_path), "--indices", "3,1,5"])
    (path,) = tmp_path.rglob("*_examples.png")
    assert matplotlib.image.imread(path).std() > 0.05


@pytest.mark.slow
def test_the_figure_shows_what_the_network_saw(run):
    examples = apply_to_numbers(run, [3, 1])
    assert examples.inputs.shape == (2, 24, 24, 3)
    assert examples.regions.shape == (2, 1, 57, 57, 2)
    assert len(examples.labels[0]) == len(examples.labels[1]) == 2
    assert examples.outputs.min() >= 0 and examples.outputs.max() <= 1


def test_runs_become_a_measurement(runs, tmp_path, capsys):
    measure_regions.main([str(runs), "--out", str(tmp_path / "regions.md")])
    assert (tmp_path / "regions.md").read_text() == capsys.readouterr().out
    text = (tmp_path / "regions.md").read_text()
    assert "overlap" in text and "Single" in text
