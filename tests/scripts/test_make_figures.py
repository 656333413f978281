import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from scripts import make_figures, make_tables
from stn_jax import geometry
from stn_jax.data import digits
from stn_jax.data.distortions import DISTORTIONS
from stn_jax.reporting.runs import find_runs

ROOT = Path(make_figures.__file__).parents[1]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two short runs of the quickstart, trained from the command line; one with a transformer."""
    folder = tmp_path_factory.mktemp("runs")
    short = ("num_steps", "log_every", "eval_every")
    for selection in ("R,ST-FCN,Aff", "R,FCN"):
        command = [
            *(sys.executable, "experiments/distorted_mnist.py"),
            *("--config", f"configs/distorted_mnist.py:{selection},quickstart"),
            *("--workdir", folder / selection.replace(",", "-")),
            *(f"--config.training.{name}=20" for name in short),
            "--config.seeds=(4,1)",
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return folder


def test_trained_runs_become_figures(runs, tmp_path, capsys):
    make_figures.main([str(runs), "--out", str(tmp_path), "--indices", "3,0"])
    names = {path.name for path in tmp_path.iterdir()}
    curves = {"R-ST-FCN-Aff_curves.png", "R-FCN_curves.png"}
    assert names == curves | {"R-ST-FCN-Aff_examples.png", "overview.png"}
    for path in tmp_path.iterdir():
        image = matplotlib.image.imread(path)
        assert min(image.shape[:2]) > 150 and image.std() > 0.05
    assert "2 runs" in capsys.readouterr().out


def test_trained_runs_become_a_table(runs, capsys):
    make_tables.main([str(runs)])
    printed = capsys.readouterr().out
    assert "Toy on sklearn digits" in printed and "seeds 1, 4." in printed
    for run in find_runs([runs]):
        mean = np.mean(list(run.final_errors("test").values()))
        assert f"{mean:.2f}" in printed
    assert "training.num_steps 20 instead of 2000: R FCN; R ST-FCN Aff." in printed


def test_the_network_is_the_trained_one_and_sees_the_digits_it_was_tested_on(runs):
    run = next(run for run in find_runs([runs]) if "ST" in run.name)
    examples = make_figures.apply_to_digits(run, range(397))
    wrong = 100 * np.mean(examples.predictions != examples.labels)
    assert wrong == pytest.approx(run.final_errors("test")[4], abs=1e-3)
    np.testing.assert_array_equal(examples.labels, digits.load().test_labels)
    # The transformer's output is what the drawn grid reads.
    warped = geometry.sample(
        examples.inputs[:, ::-1, :, None],
        geometry.to_normalised(examples.grids, (28, 28)) * np.array([[[[1, -1]]]], np.float32),
    )
    corners = np.s_[:, :: make_figures.GRID_POINTS - 1, :: make_figures.GRID_POINTS - 1]
    np.testing.assert_allclose(warped[..., 0][corners], examples.outputs[:, ::27, ::27], atol=1e-4)
    assert len(examples.captions) == 397 and examples.row == "R\nST-FCN Aff\n(toy digits)"


def test_chosen_digits_are_the_ones_of_the_whole_set(runs):
    run = next(run for run in find_runs([runs]) if "ST" in run.name)
    some = make_figures.distorted_digits(run, [5, 300])
    whole = make_figures.distorted_digits(run, range(397))
    np.testing.assert_array_equal(some.image, whole.image[np.array([5, 300])])
    np.testing.assert_array_equal(some.label, whole.label[np.array([5, 300])])


@pytest.fixture
def copied(runs, tmp_path):
    """The run with the transformer, to be spoiled."""
    return shutil.copytree(runs / "R-ST-FCN-Aff", tmp_path / "runs" / "run")


def rewrite(folder, change):
    path = folder / "record.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in change(lines)))


def test_records_alone_give_curves(copied, tmp_path, capsys):
    shutil.rmtree(copied / "checkpoints")
    make_figures.main([str(copied), "--out", str(tmp_path / "a"), "--curves-only"])
    assert "no examples" not in capsys.readouterr().out
    make_figures.main([str(copied), "--out", str(tmp_path / "b")])
    assert "run has no checkpoints: no examples." in capsys.readouterr().out
    for out in ("a", "b"):
        assert [path.name for path in (tmp_path / out).iterdir()] == ["run_curves.png"]
    assert not (copied / "checkpoints").exists()


def test_unfinished_runs_give_curves(copied, tmp_path, capsys):
    rewrite(copied, lambda lines: lines[:-1])
    make_figures.main([str(copied), "--out", str(tmp_path / "out")])
    assert "run is unfinished: no examples." in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run_curves.png"]


def test_other_data_are_refused(copied, tmp_path):
    def change(lines):
        lines[0]["data"]["fingerprint"] = "abc"
        return lines

    rewrite(copied, change)
    with pytest.raises(SystemExit, match="run's data have the fingerprint abc, scikit-learn"):
        make_figures.main([str(copied), "--out", str(tmp_path / "out")])


@pytest.mark.parametrize("index", [397, -1])
def test_digits_that_are_not_there_are_refused(runs, tmp_path, index):
    message = f"^make_figures.py: there is no test digit {index}: .* has 0 to 396"
    with pytest.raises(SystemExit, match=message):
        make_figures.main([str(runs), "--out", str(tmp_path), f"--indices=0,{index}"])


@pytest.mark.parametrize("degrees", [-80.0, -10.0, 35.0])
def test_a_digit_is_upright_again_if_both_angles_agree(degrees):
    angle = np.radians([degrees]).astype(np.float32)
    cos, sin = np.cos(angle[0]), np.sin(angle[0])
    theta = 1.3 * np.array([[cos, -sin, 0, sin, cos, 0]], np.float32)
    np.testing.assert_allclose(make_figures.rotation_degrees(theta), [degrees], rtol=1e-5)

    # A grid of the transformer, put through the distortion's, is regular.
    corner = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]], np.float32) * 0.5
    distort = np.asarray(DISTORTIONS["R"].grid({"angle": angle}, (28, 28)))[0, ::27, ::27]
    to_source = np.linalg.lstsq(corner * 2, distort.reshape(4, 2), rcond=None)[0]
    matrix = theta.reshape(2, 3)[:, :2] / 1.3
    np.testing.assert_allclose(corner @ matrix.T @ to_source, corner, atol=1e-5)
