import json
import shutil

import matplotlib.image
import numpy as np
import pytest
from scipy import ndimage

from scripts import make_figures, make_tables
from stn_jax.data import digits
from stn_jax.data.distortions import DISTORTIONS
from stn_jax.launch.examples import missed_digits
from stn_jax.launch.saved import evaluation_digits, open_network, rotation_degrees
from stn_jax.reporting.runs import find_runs
from tests.launching import train
from tests.reporting.synthetic import write_record


def train_toy(selection, workdir):
    """Train the quickstart for a few steps."""
    train("distorted_mnist", f"{selection},quickstart", workdir, {"seeds": (4, 1)}, steps=20)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    train_toy("R,ST-FCN,Aff", folder / "R-ST-FCN-Aff")
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run without a transformer, to be compared with."""
    folder = tmp_path_factory.mktemp("base") / "R-FCN"
    train_toy("R,FCN", folder)
    return folder


@pytest.fixture
def run(runs):
    return find_runs([runs])[0]


def test_a_trained_run_becomes_figures(runs, tmp_path, capsys):
    write_record(tmp_path / "runs" / "R-FCN")
    folders = [str(runs), str(tmp_path / "runs")]
    make_figures.main([*folders, "--out", str(tmp_path / "out"), "--indices", "3,0"])
    paths = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    kinds = ["R-FCN_curves.png", *(f"R-ST-FCN-Aff_{kind}.png" for kind in ("curves", "examples"))]
    assert sorted(path.name for path in paths) == [*kinds, "overview.png"]
    for path in paths:
        image = matplotlib.image.imread(path)
        assert min(image.shape[:2]) > 150 and image.std() > 0.05
    assert "2 runs" in capsys.readouterr().out


def test_a_trained_run_becomes_a_table(runs, run, capsys):
    make_tables.main([str(runs)])
    printed = capsys.readouterr().out
    errors = list(run.final_errors("test").values())
    assert len(errors) == 2
    assert "Toy on sklearn digits" in printed and "seeds 1, 4." in printed
    assert f"{np.mean(errors):.2f} ± {np.std(errors, ddof=1):.2f} [s]" in printed
    assert "training.num_steps 20 instead of 2000: R ST-FCN Aff." in printed


def test_the_network_is_the_trained_one_and_sees_the_digits_it_was_tested_on(run):
    examples = make_figures.apply_to_digits(run, range(397))
    wrong = 100 * np.mean(examples.predictions != examples.labels)
    assert wrong == pytest.approx(run.final_errors("test")[4], abs=1e-3)
    np.testing.assert_array_equal(examples.labels, digits.load().test_labels)
    assert len(examples.captions) == 397 and examples.row == "R\nST-FCN Aff\n(toy digits)"


def test_the_output_is_what_the_drawn_grid_reads(run):
    examples = make_figures.apply_to_digits(run, range(8))
    # An affine grid of another size has the same corners, and is linear between them.
    corners = examples.grids[:, [0, 0, -1, -1], [0, -1, 0, -1]].reshape(-1, 2, 2, 2)
    weights = np.stack([np.linspace(1, 0, 28), np.linspace(0, 1, 28)])
    points = np.einsum("iy,jx,nijc->ncyx", weights, weights, corners)
    for image, (x, y), output in zip(examples.inputs, points, examples.outputs, strict=True):
        read = ndimage.map_coordinates(image, [y, x], order=1, mode="grid-constant")
        np.testing.assert_allclose(read, output, atol=1e-4)
        assert np.abs(output - image).max() > 0.01  # not the identity any more


def test_chosen_digits_are_the_ones_of_the_whole_set(run):
    some = evaluation_digits(run.config, run.fingerprint, [5, 300])
    whole = evaluation_digits(run.config, run.fingerprint)
    np.testing.assert_array_equal(some.image, whole.image[np.array([5, 300])])
    np.testing.assert_array_equal(some.label, whole.label[np.array([5, 300])])


@pytest.mark.slow
def test_digits_that_only_the_run_with_the_transformer_gets_right(runs, run, base, tmp_path):
    other = find_runs([base])[0]
    test = evaluation_digits(run.config, run.fingerprint)
    read = np.argmax(open_network(other.config, base)(test.image)[0], axis=-1)
    found = make_figures.apply_to_digits(run, range(397)).predictions
    expected = {i: read[i] for i in range(397) if found[i] == test.label[i] != read[i]}
    assert len(expected) > 3
    assert missed_digits(run, other, 1000) == expected
    assert list(missed_digits(run, other, 3).items()) == list(expected.items())[:3]

    arguments = [str(runs), "--missed-by", str(base), "--examples=3", "--out", str(tmp_path)]
    make_figures.main(arguments)
    kinds = ("curves", "missed")
    assert {p.name for p in tmp_path.iterdir()} == {f"R-ST-FCN-Aff_{k}.png" for k in kinds}


def test_no_digit_to_choose_is_said(runs, tmp_path):
    folder = str(runs / "R-ST-FCN-Aff")
    name = "R-ST-FCN-Aff-quickstart"
    with pytest.raises(SystemExit, match=f"{name} gets no digit right that {name} misses"):
        make_figures.main([folder, "--missed-by", folder, "--out", str(tmp_path)])


@pytest.fixture
def copied(runs, tmp_path):
    """The run with the transformer, to be spoiled."""
    return shutil.copytree(runs / "R-ST-FCN-Aff", tmp_path / "runs" / "run")


def rewrite(folder, change):
    path = folder / "record.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in change(lines)))


def of_rts(lines):
    lines[0]["config"]["data"]["distortion"] = "RTS"
    return lines


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of_rts, "need runs on the same images: R-.* saw R sklearn .*, R-.* RTS sklearn"),
        (lambda lines: lines[:-1], "is unfinished: what it gets wrong cannot be told"),
    ],
)
def test_runs_that_cannot_be_compared_are_named(copied, runs, tmp_path, change, message):
    rewrite(copied, change)
    with pytest.raises(SystemExit, match=f"^make_figures.py: .*{message}"):
        make_figures.main([str(runs), "--missed-by", str(copied), "--out", str(tmp_path / "out")])


def test_one_run_is_compared_with(runs, tmp_path):
    for name in "ab":
        write_record(tmp_path / "runs" / name)
    folder = tmp_path / "runs"
    with pytest.raises(SystemExit, match=f"{folder} has 2 runs in it: name one of them"):
        make_figures.main([str(runs), "--missed-by", str(folder), "--out", str(tmp_path / "out")])


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


@pytest.mark.parametrize("words", ["--examples=0", "--examples=x", "--indices=1,x", "--indices="])
def test_wrong_choices_are_refused(tmp_path, capsys, words):
    with pytest.raises(SystemExit):
        make_figures.main([str(tmp_path), "--out", str(tmp_path), words])
    option, value = words.split("=")
    assert f"argument {option}: {value!r} is not a" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["--indices=3", "--curves-only"])
def test_a_number_of_chosen_digits_is_refused(tmp_path, capsys, words):
    with pytest.raises(SystemExit):
        make_figures.main([str(tmp_path), "--out", str(tmp_path), "--examples=2", words])
    assert "--examples goes with neither --indices nor --curves-only" in capsys.readouterr().err


def test_other_experiments_are_named(tmp_path):
    path = write_record(tmp_path / "run", model={"name": "lenet"})
    with pytest.raises(SystemExit, match=f"make_figures.py: {path}: .* not one of Table 1"):
        make_figures.main([str(tmp_path), "--out", str(tmp_path / "out")])


@pytest.mark.parametrize("degrees", [-80.0, -10.0, 35.0])
def test_a_digit_is_upright_again_if_both_angles_agree(degrees):
    angle = np.radians([degrees]).astype(np.float32)
    cos, sin = np.cos(angle[0]), np.sin(angle[0])
    theta = 1.3 * np.array([[cos, -sin, 0, sin, cos, 0]], np.float32)
    np.testing.assert_allclose(rotation_degrees(theta.reshape(-1, 2, 3)), [degrees], rtol=1e-5)

    # A grid of the transformer, put through the distortion's, is regular.
    corner = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]], np.float32) * 0.5
    distort = np.asarray(DISTORTIONS["R"].grid({"angle": angle}, (28, 28)))[0, ::27, ::27]
    to_source = np.linalg.lstsq(corner * 2, distort.reshape(4, 2), rcond=None)[0]
    matrix = theta.reshape(2, 3)[:, :2] / 1.3
    np.testing.assert_allclose(corner @ matrix.T @ to_source, corner, atol=1e-5)
