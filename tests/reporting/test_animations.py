import dataclasses

import numpy as np
import pytest
from PIL import Image

from stn_jax.reporting import figures
from stn_jax.reporting.animations import save_animation
from tests.reporting.test_figures import example_set


def frames_of(path):
    with Image.open(path) as image:
        for i in range(image.n_frames):
            image.seek(i)
            yield np.asarray(image.convert("RGB")).astype(int)


def count(frame, color):
    wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return int(np.sum(np.abs(frame - wanted).max(axis=-1) < 6))


@pytest.mark.parametrize("columns", [1, 3])
def test_a_frame_an_example_and_a_column_a_run(tmp_path, columns):
    path = tmp_path / "a.gif"
    save_animation([example_set(4)] * columns, path)
    with Image.open(path) as image:
        assert (image.n_frames, image.info["loop"]) == (4, 0)  # 0: for ever
    frames = list(frames_of(path))
    assert frames[0].shape[1] == pytest.approx(133 * columns + 8, abs=2)
    for before, after in zip(frames, frames[1:], strict=False):
        assert np.any(before != after)
    for frame in frames:
        assert count(frame, figures.ORANGE) > 200 * columns
    # The last of the examples has a wrong class, the others are right.
    verdicts = [[count(frame, c) for c in (figures.BLUE, figures.VERMILION)] for frame in frames]
    assert all((right > 0, wrong > 0) == (True, False) for right, wrong in verdicts[:3])
    assert verdicts[3][0] == 0 and verdicts[3][1] > 0


def test_greys_survive_the_palette(tmp_path):
    examples = example_set(2, size=16)
    ramp = np.linspace(0, 1, 16)[None, :] * np.ones((16, 1))
    save_animation(
        [dataclasses.replace(examples, outputs=np.stack([ramp] * 2))], tmp_path / "a.gif"
    )
    frame = next(frames_of(tmp_path / "a.gif"))
    # A line across the middle of the output, the lower panel.
    line = frame[-8 - 125 // 2, 8:133, 0]
    np.testing.assert_allclose(line, 255 * np.repeat(ramp[0], 8)[:125], atol=20)
    assert np.all(np.diff(line) >= 0)


def test_captions_need_all_columns(tmp_path):
    heights = []
    for name, captions in (("a", ["x"] * 2), ("b", [])):
        columns = [example_set(2, captions=["x"] * 2), example_set(2, captions=captions)]
        save_animation(columns, tmp_path / f"{name}.gif")
        heights.append(next(frames_of(tmp_path / f"{name}.gif")).shape[0])
    assert heights[0] == pytest.approx(heights[1] + 40, abs=1)
