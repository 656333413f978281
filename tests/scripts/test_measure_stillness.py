"""Traffic signs from the command line to table, figure and measurement (G12, G13)."""

import json
import re
import shutil
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from PIL import Image

from scripts import make_figures, make_tables, measure_stillness, show_signs
from stn_jax import geometry
from stn_jax.data import gtsrb, gtsrb_files, gtsrb_prepare
from stn_jax.launch.examples import apply_to_tracks
from stn_jax.reporting.runs import find_runs
from stn_jax.reporting.signs import save_overlap
from stn_jax.training.errors import RunError
from tests.data import gtsrb_synthetic as synthetic
from tests.launching import train


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A short run of a narrow network, trained from the command line."""
    place, folder = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("runs")
    files = synthetic.write_sheets(place / "files")
    gtsrb_prepare.prepare(gtsrb_files.find(files), place, size=32)
    settings = {
        **{"training.batch_size": 4, "training.eval_batch_size": 8, "runtime.data_dir": place},
        **{"model.widths": (2, 3, 4, 5), "model.localisations": ((2, 2, 3),)},
        **{"data.rotation": 0.0, "data.scale": 1.0, "data.shift": 0.0, "data.brightness": 1.0},
        "runtime.steps_per_call": 1,
    }
    train("gtsrb", "one,fast", folder / "one", settings, steps=2)
    return folder


@pytest.fixture
def run(runs):
    return find_runs([runs])[0]


def test_runs_become_a_table(runs, run, capsys):
    make_tables.main([str(runs), "--format", "markdown"])
    printed = capsys.readouterr().out
    assert "Traffic signs, GTSRB: test accuracy in %, published / ours" in printed
    (error,) = run.final_errors("test").values()
    assert re.search(rf"\| ST-CNN one +\| 99.33 / {100 - error:.2f} <sup>s</sup>", printed)
    assert "trained on 18 and tested on 7 images, not on 39,209 and 12,630" in printed
    (overlap,) = run.final_others("test", "overlap").values()
    assert 0 < overlap <= 1 and f"short ST-CNN one {overlap:.2f}." in printed


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn while a test runs."""
    seen = []

    def note(module, name):
        save = getattr(module, name)

        def save_and_note(examples, *args):
            seen.append(examples)
            save(examples, *args)

        monkeypatch.setattr(module, name, save_and_note)

    note(make_figures, "save_tracks")
    note(show_signs, "save_motion")
    return seen


@pytest.mark.slow
def test_runs_become_figures_of_what_the_region_reads(runs, tmp_path, drawn):
    make_figures.main([str(runs), "--out", str(tmp_path), "--indices", "2"])
    (path,) = tmp_path.rglob("*_examples.png")
    assert matplotlib.image.imread(path).std() > 0.05
    (examples,) = drawn
    assert examples.inputs.shape == examples.outputs.shape == (1, 8, 32, 32, 3)
    assert list(examples.labels) == [2] and examples.name.endswith("seed 0: tracks trained on")
    corners = geometry.to_normalised(examples.corners[0], (32, 32))
    read = geometry.sample(examples.inputs[0], corners)
    np.testing.assert_allclose(examples.outputs[0][:, ::31, ::31], np.clip(read, 0, 1), atol=1e-4)
    with pytest.raises(SystemExit, match="there is no track 3: there are 0 to 2"):
        make_figures.main([str(runs), "--out", str(tmp_path), "--indices", "3"])


@pytest.fixture
def mixed(runs, run, tmp_path):
    """The run, and one like it with its transformer before the third convolution."""
    folder = tmp_path / "mixed"
    shutil.copytree(runs, folder)
    shutil.copytree(folder / run.label, folder / "inner")
    path = folder / "inner" / "record.jsonl"
    header, *rest = path.read_text().splitlines()
    header = json.loads(header)
    header["config"]["model"]["transformers"] = [3]
    path.write_text("\n".join([json.dumps(header), *rest]) + "\n")
    return folder


@pytest.mark.slow
def test_networks_without_a_transformer_on_the_image_are_left_out(mixed, tmp_path, capsys, drawn):
    """Whatever looks at runs goes on with the others."""
    measure_stillness.main([str(mixed), "--out", str(tmp_path / "stillness.md")])
    said = capsys.readouterr()
    assert "inner has no transformer before its first convolution: left out" in said.err
    assert said.out.count("| trained on |") == 1
    make_figures.main([str(mixed), "--out", str(tmp_path), "--indices", "2"])
    said = capsys.readouterr().out
    assert "inner has no transformer before its first convolution: no examples" in said
    assert len(drawn) == 1
    with pytest.raises(SystemExit, match="there is no finished run with a transformer on traffic"):
        show_signs.main([str(mixed / "inner"), "--out", str(tmp_path)])
    (inner,) = find_runs([mixed / "inner"])
    with pytest.raises(RunError, match="has no transformer before its first convolution"):
        apply_to_tracks(inner, [0])


def test_damaged_data_are_named_in_one_line(runs, run, tmp_path, monkeypatch):
    place = tmp_path / "place"
    folder = gtsrb.folder_of(place, 32)
    shutil.copytree(gtsrb.folder_of(Path(run.config["runtime"]["data_dir"]), 32), folder)
    gtsrb.array_path(folder, "test", "box").write_bytes(b"nothing")
    shutil.copytree(runs, tmp_path / "runs")
    path = tmp_path / "runs" / run.label / "record.jsonl"
    path.write_text(path.read_text().replace(run.config["runtime"]["data_dir"], str(place)))
    for script in (measure_stillness, make_figures, show_signs):
        out = [] if script is measure_stillness else ["--out", str(tmp_path)]
        with pytest.raises(SystemExit, match=r"test_box.npy: missing or damaged"):
            script.main([str(tmp_path / "runs"), *out])


def test_runs_become_a_measurement(runs, tmp_path, capsys):
    measure_stillness.main([str(runs), "--out", str(tmp_path / "stillness.md")])
    text = (tmp_path / "stillness.md").read_text()
    assert text == capsys.readouterr().out
    assert "| trained on |" in text and "overlap" in text


def measured(monkeypatch, run, affine):
    """What is measured, by column, if the transformer were to read these regions."""
    monkeypatch.setattr(
        measure_stillness, "follow_tracks", lambda run, tracks, moments: (affine(tracks), None)
    )
    return dict(zip(measure_stillness.COLUMNS, measure_stillness.rows(run)[0], strict=True))


def test_the_identity_changes_nothing(run, monkeypatch):
    """Before, fixed and after are the same, as are the wanders: the boxes grow along a track."""
    identity = np.float32([1, 0, 0, 0, 1, 0])
    found = measured(monkeypatch, run, lambda tracks: np.tile(identity, (len(tracks.label), 1)))
    for kind in ("", "pixels "):
        assert found[f"{kind}before"] > 0.1
        assert [found[f"{kind}{name}"] for name in ("fixed", "after")] == pytest.approx(
            [found[f"{kind}before"]] * 2, rel=1e-3
        )
    assert found["pixels before"] != pytest.approx(found["before"], rel=1e-3)  # not normalised
    assert found["out"] == pytest.approx(found["in"], rel=1e-4) and found["in"] > 0.5
    assert found["overlap"] == pytest.approx(found["whole"]) and found["whole"] < 1
    assert (found["found"], found["size"]) == pytest.approx((100, 100))
    assert found["tracks"] == "trained on"


def test_following_the_box_holds_it_still(run, monkeypatch):
    def follow(tracks):
        corners = measure_stillness.box_corners(tracks.box, tracks.image.shape[1:3])
        low, high = corners[:, 0], corners[:, 2]
        scale, middle = (high - low) / 2, (high + low) / 2
        zero = np.zeros(len(low))
        rows = [scale[:, 0], zero, middle[:, 0], zero, scale[:, 1], middle[:, 1]]
        return np.stack(rows, axis=-1).astype(np.float32)

    seen = []
    found = measured(monkeypatch, run, lambda tracks: seen.append(tracks) or follow(tracks))
    assert found["out"] < 1e-3 < found["in"]
    assert found["overlap"] > 0.85 > found["whole"]
    assert found["size"] == pytest.approx(100 * found["whole"], abs=12)
    (tracks,) = seen
    images = tracks.image.astype(np.float32) / 255
    rows = [np.flatnonzero(tracks.track == number) for number in np.unique(tracks.track)]
    read = follow(tracks)
    average = {i: read[of_one].mean(axis=0) for of_one in rows for i in of_one}
    fixed = np.stack([average[i] for i in range(len(images))])
    expected = {
        "before": images,
        "fixed": measure_stillness.warp(images, fixed),
        "after": measure_stillness.warp(images, read),
    }
    for name, shown in expected.items():
        changes = [measure_stillness.change(shown[of_one]) for of_one in rows]
        assert found[f"pixels {name}"] == pytest.approx(np.mean(changes), rel=1e-4), name


def test_a_track_of_which_one_frame_is_left_has_no_motion():
    frames, tracks = moving_square([0, 1, 2]), np.array([4, 4, 7])
    found = measure_stillness.over_tracks(measure_stillness.change, frames, tracks)
    assert found == measure_stillness.change(frames[:2])


def moving_square(shifts):
    frames = np.zeros((len(shifts), 20, 20, 1), np.float32)
    for frame, shift in zip(frames, shifts, strict=True):
        frame[6:14, 4 + shift : 12 + shift] = 1
    return frames


def test_change_is_counted_by_hand_and_free_of_contrast():
    """An 8x8 square that moves by one pixel: 16 of 400 change by 1."""
    frames = moving_square([0, 1, 2])
    std = np.sqrt(0.16 * 0.84)
    assert measure_stillness.change(frames) == pytest.approx(16 / 400 / std, rel=1e-5)
    assert measure_stillness.change(0.2 * frames + 0.3) == pytest.approx(0.04 / std, rel=1e-4)
    assert measure_stillness.change(moving_square([1, 1, 1])) == 0
    assert measure_stillness.change(np.ones((3, 4, 4, 1), np.float32)) == 0


def test_following_the_sign_leaves_nothing_that_changes():
    """Half the image, wherever the square is; a fixed part of it keeps the change."""
    frames = moving_square([0, 2, 4])
    shift = (np.array([8 - 0.5, 10 - 0.5, 12 - 0.5]) - 9.5) / 9.5
    follow = np.float32([[0.5, 0, x, 0, 0.5, 0] for x in shift])
    assert measure_stillness.change(measure_stillness.warp(frames, follow)) < 1e-5
    fixed = np.broadcast_to(follow.mean(axis=0), follow.shape)
    before = measure_stillness.change(frames)
    assert measure_stillness.change(measure_stillness.warp(frames, fixed)) > 0.8 * before


def test_a_box_that_moves_wanders_unless_it_is_followed():
    """Two boxes of side 8, 2 px apart: each corner is 1 px from the mean, 12.5 % of a side."""
    box = np.float32([[4, 6, 12, 14], [6, 6, 14, 14]])
    corners = measure_stillness.box_corners(box, (21, 21))
    np.testing.assert_allclose(corners[0, :2] * 10 + 10, [[3.5, 5.5], [11.5, 5.5]], atol=1e-5)
    assert measure_stillness.wander(corners) == pytest.approx(12.5, rel=1e-5)
    follow = np.float32([[0.4, 0, x / 10, 0, 0.5, 0] for x in (-2.5, -0.5)])
    found = measure_stillness.undo(follow, corners)
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    np.testing.assert_allclose(found[0, :, 0], [-1, 1, 1, -1], atol=1e-5)
    assert measure_stillness.wander(found) < 1e-3
    back = np.einsum("nij,nkj->nki", follow.reshape(-1, 2, 3)[..., :2], found)
    np.testing.assert_allclose(back + follow.reshape(-1, 2, 3)[:, None, :, 2], corners, atol=1e-6)


@pytest.mark.slow
def test_training_again_ends_where_the_run_did(runs, run, tmp_path, monkeypatch, drawn):
    """G12: the region is the whole image before training, and in the end what the run has."""
    monkeypatch.setattr(show_signs, "FRAMES", 3)
    arguments = [str(runs), "--out", str(tmp_path), "--indices", "1"]
    overlaps = []

    def note_and_save(*values):
        overlaps.append(values)
        save_overlap(*values)

    monkeypatch.setattr(show_signs, "save_overlap", note_and_save)
    show_signs.main([*arguments, "--steps", "2", "--every", "2"])
    for kind, frames in (("track", 3), ("training", 2)):
        with Image.open(tmp_path / f"{run.label}_{kind}.gif") as animation:
            assert animation.n_frames == frames
            assert len(set(np.asarray(animation.convert("RGB")).reshape(-1, 3)[:, 0])) > 20
    track, training = drawn
    assert training.name == track.name == f"{run.name}, seed 0: tracks trained on"
    assert matplotlib.image.imread(tmp_path / f"{run.label}_overlap.png").std() > 0.05
    ((_, steps, overlap, all_of_it, _),) = overlaps
    assert steps == [0, 2]
    measured = dict(zip(measure_stillness.COLUMNS, measure_stillness.rows(run)[0], strict=True))
    assert (overlap[0], all_of_it) == pytest.approx((measured["whole"],) * 2, abs=1e-5)
    assert overlap[1] == pytest.approx(measured["overlap"], abs=1e-3)
    whole = [[[0, 0], [31, 0]], [[0, 31], [31, 31]]]
    np.testing.assert_allclose(training.corners[0, 0], whole, atol=1e-4)
    np.testing.assert_array_equal(training.inputs[0, 1], track.inputs[0, 1])
    np.testing.assert_allclose(training.corners[0, 1], track.corners[0, 1], atol=1e-3)
    with pytest.raises(SystemExit, match=r"looks every 3 of 2 steps: they must be a multiple of 1"):
        show_signs.main([*arguments, "--steps", "2", "--every", "3"])
    with pytest.raises(SystemExit, match=r"^show_signs.py: there is no track 7"):
        show_signs.main([*arguments[:-1], "7"])
