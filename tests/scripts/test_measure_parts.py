"""Birds from the command line to table, figure and measurement (B16, B20)."""

import matplotlib.image
import numpy as np
import pytest

from scripts import make_figures, make_tables, measure_left_out, measure_parts
from stn_jax import geometry
from stn_jax.data import cub_prepare
from stn_jax.data.cub import PARTS
from stn_jax.launch.bird_examples import classes, corners_of
from stn_jax.launch.birds import open_evaluation
from stn_jax.reporting.runs import find_runs
from tests.data import cub_synthetic as synthetic
from tests.launching import train
from tests.pages import table_of


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A short run of the first layers only, trained from the command line."""
    place, folder = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("runs")
    files = synthetic.write(place / "files")
    cub_prepare.prepare(cub_prepare.find(files), place, size=72)
    settings = {
        **{"data.size": 72, "data.crop": 64, "model.num_classes": 3, "model.last": "pool_2"},
        **{"model.pretrained": False, "model.frozen": "('trunk',)"},
        **{"model.crop_size": 32, "model.localiser_size": 32, "runtime.data_dir": place},
        **{"training.batch_size": 4, "training.eval_batch_size": 4},
    }
    train("birds", "2xST-CNN,448px", folder / "two", settings, steps=2)
    return folder


@pytest.fixture
def run(runs):
    return find_runs([runs])[0]


def test_runs_become_a_table(runs, run, capsys):
    make_tables.main([str(runs), "--format", "markdown"])
    printed = capsys.readouterr().out
    assert "Table 3, CUB-200-2011: test accuracy in %, published / ours" in printed
    (error,) = run.final_errors("test").values()
    # Crops that have left the start by two small steps.
    (inside,) = run.final_others("test", "inside").values()
    assert 0.95 < inside <= 1
    assert "part of the crops that lies in the image, mean over seeds: 448px 2xST-CNN" in printed
    assert f"83.9 / {100 - error:.2f} <sup>s</sup>" in printed
    assert "trained on 12 and tested on 6 images, not on CUB's 5,994 and 5,794" in printed


def test_runs_become_figures_of_the_crops(runs, tmp_path, monkeypatch):
    seen, save = [], make_figures.save_birds

    def save_and_note(examples, path):
        seen.append(examples)
        save(examples, path)

    monkeypatch.setattr(make_figures, "save_birds", save_and_note)
    make_figures.main([str(runs), "--out", str(tmp_path), "--indices", "5,0"])
    (path,) = tmp_path.rglob("*_examples.png")
    assert matplotlib.image.imread(path).std() > 0.05
    (examples,) = seen
    assert examples.outputs.shape == (2, 2, 32, 32, 3)
    assert set(examples.labels) <= set(synthetic.CLASSES.values())
    # Two small steps away from the halves left and right of the middle, read pixel by pixel.
    left, right = examples.corners[0]
    assert np.abs(left - [[-0.5, 15.5], [31.5, 15.5], [31.5, 47.5], [-0.5, 47.5]]).max() < 1
    assert np.abs(right - left - [32, 0]).max() < 1
    np.testing.assert_allclose(
        examples.outputs[0, 0].mean(), examples.inputs[0][16:48, :32].mean(), atol=0.03
    )
    with pytest.raises(SystemExit, match="there is no bird 6: there are 0 to 5"):
        make_figures.main([str(runs), "--out", str(tmp_path), "--indices", "6"])


def test_runs_become_a_measurement(runs, tmp_path, capsys):
    measure_parts.main([str(runs), "--out", str(tmp_path / "parts.md")])
    text = (tmp_path / "parts.md").read_text()
    assert text == capsys.readouterr().out
    rows = table_of(text)
    assert tuple(rows[0]) == measure_parts.COLUMNS
    kinds = [(number, kind) for number in "12" for kind in ("found", "others'", "mean", "start")]
    assert [tuple(row[2:4]) for row in rows[1:]] == kinds
    # Two small steps away from the start: the mean crop is still about there.
    (mean, start) = ([float(value) for value in row[6:8]] for row in rows[3:5])
    assert mean == pytest.approx(start, abs=1) and mean != start


# Of three birds: beak and crown are of the head, tail is of the body.
BEAK, CROWN, TAIL = (list(PARTS).index(name) for name in ("beak", "crown", "tail"))


def three_birds():
    parts, inside = np.full((3, 15, 2), np.nan), np.zeros((3, 15), bool)
    for bird, part, place in (
        (0, BEAK, (-0.6, 0.0)),
        (0, CROWN, (-0.4, 0.0)),
        (0, TAIL, (0.5, 0.0)),
        (1, BEAK, (-0.6, 0.4)),
        (1, TAIL, (-0.2, 0.3)),
        (2, TAIL, (0.9, -0.9)),
    ):
        parts[bird, part], inside[bird, part] = place, True
    return parts, inside


def half_at(*centres):
    return np.float64([[0.5, 0, x, 0, 0.5, y] for x, y in centres])


def test_accuracy_without_images_left_out(runs, run, tmp_path):
    """B17: of a network that is trained already."""
    test = open_evaluation(run.config, run.fingerprint).birds
    ids = tmp_path / "ids.txt"
    ids.write_text(f"{test.id[2]}\n{test.id[4]}\n")
    measure_left_out.main([str(runs), "--leave-out", str(ids), "--out", str(tmp_path / "a.md")])
    _, row = table_of((tmp_path / "a.md").read_text())
    images, accuracy, kept, of_those = map(float, row[2:])
    assert (images, kept) == (6, 4)
    assert accuracy == pytest.approx(100 - run.final_errors("test")[0], abs=0.01)
    right = classes(run, test) == test.label
    assert of_those == pytest.approx(100 * np.delete(right, [2, 4]).mean(), abs=0.01)
    with pytest.raises(SystemExit, match="No such file"):
        measure_left_out.main([str(runs), "--leave-out", str(tmp_path / "none.txt")])


def test_measures_counted_by_hand():
    """The same crop on the left of each image."""
    values = measure_parts.measure(half_at(*[(-0.5, 0)] * 3), *three_birds())
    head_in, body_in, head_off, body_off, head_spread, body_spread = values
    assert head_in == 100  # the third bird shows no head
    assert body_in == pytest.approx(100 / 3)  # the second bird's tail
    # Heads' centroids are at (-0.5, 0) and (-0.6, 0.4); the image's side is 2.
    assert head_off == pytest.approx(100 * np.mean([0, np.hypot(0.1, 0.4)]) / 2)
    tails = np.array([[0.5, 0], [-0.2, 0.3], [0.9, -0.9]])
    off = np.linalg.norm(tails - [-0.5, 0], axis=1)
    assert body_off == pytest.approx(100 * off.mean() / 2)
    # Beaks are 0.4 apart in the image, 0.8 in the crop; one crown alone has no spread.
    assert head_spread == pytest.approx(100 * 0.4 / 2)
    assert body_spread == pytest.approx(100 * 2 * np.sqrt(tails.var(axis=0).sum()) / 2)


def test_crops_that_follow_a_part_have_it_in_one_place():
    parts, inside = three_birds()
    crops = half_at(*parts[:, TAIL])
    _, body_in, _, body_off, _, body_spread = measure_parts.measure(crops, parts, inside)
    assert (body_in, body_off) == (100, 0)
    assert body_spread == pytest.approx(0, abs=1e-9)
    # On other birds they are far from it: the mean over both ways to turn three birds.
    dealt = np.mean(measure_parts.by_chance(crops, parts, inside), axis=0)
    distances = [
        np.linalg.norm(parts[i, TAIL] - parts[j, TAIL]) for i in range(3) for j in range(i)
    ]
    assert dealt[3] == pytest.approx(100 * np.mean(distances) / 2)


def test_the_same_crop_for_all_is_chance():
    birds = three_birds()
    crops = half_at(*[(0.1, -0.2)] * 3)
    measured = measure_parts.measure(crops, *birds)
    dealt = measure_parts.by_chance(crops, *birds)
    assert dealt.shape == (2, 6)
    for ways in dealt:
        assert ways == pytest.approx(measured)


@pytest.mark.parametrize("follows", [False, True])
def test_following_shows_beside_the_deviation_of_chance(follows):
    """Crops scattered blindly are within chance; those that follow a part a little are not."""
    random = np.random.default_rng(3)
    count = 400
    parts, inside = np.full((count, 15, 2), np.nan), np.zeros((count, 15), bool)
    places = random.uniform(-0.8, 0.8, (count, 2))
    for part in (BEAK, TAIL):
        parts[:, part], inside[:, part] = places, True
    centres = random.normal(0, 0.1, (count, 2)) + 0.1 * follows * places
    crops = half_at(*centres)
    head_off = measure_parts.measure(crops, parts, inside)[2]
    dealt = measure_parts.by_chance(crops, parts, inside)[:, 2]
    assert len(dealt) == measure_parts.DEALS
    deviations = (dealt.mean() - head_off) / dealt.std()
    assert deviations > 5 if follows else abs(deviations) < 3


def test_corners_are_outer_edges():
    affine = np.float32([0.5, 0, -0.5, 0, 0.5, 0.5])
    np.testing.assert_allclose(corners_of(affine), [[-1, 0], [0, 0], [0, 1], [-1, 1]])
    turned = np.float32([[[0, -1, 0, 1, 0, 0]]])  # a quarter
    np.testing.assert_allclose(corners_of(turned)[0, 0, 0], [1, -1])
    pixels = geometry.to_pixels(corners_of(affine), (64, 64), align_corners=False)
    np.testing.assert_allclose(pixels[0], [-0.5, 31.5])
