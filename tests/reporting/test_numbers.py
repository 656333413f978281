import matplotlib.image
import numpy as np
import pytest

from stn_jax.reporting import figures
from stn_jax.reporting.numbers import MAX_REACH, NumberExamples, save_numbers


@pytest.mark.parametrize(("shift", "whole"), [(0, True), (20, True), (-20, True), (100, False)])
def test_a_region_that_leaves_its_image_is_shown_whole(shift, whole, tmp_path):
    size = 40
    assert 20 + shift > MAX_REACH * size or whole
    points = np.stack(np.meshgrid(np.linspace(4, 35, 5), np.linspace(4, 35, 5)), axis=-1)
    examples = NumberExamples(
        name="a run",
        inputs=np.zeros((1, size, size, 3)),
        regions=(points + np.array([0, shift]))[None, None],
        outputs=np.zeros((1, size, size, 3)),
        labels=["7"],
        predictions=["7"],
        right=[True],
    )
    save_numbers(examples, tmp_path / "numbers.png")
    image = matplotlib.image.imread(tmp_path / "numbers.png")[..., :3]
    orange = np.array([int(figures.GRIDS[0][i : i + 2], 16) / 255 for i in (1, 3, 5)])
    rows = np.flatnonzero((np.abs(image - orange) < 0.02).all(axis=-1).any(axis=1))
    if whole:  # a square, all four sides of it
        (left, *_, right) = np.flatnonzero((np.abs(image - orange) < 0.02).all(axis=-1).any(axis=0))
        assert rows[-1] - rows[0] == pytest.approx(right - left, abs=3)
    else:
        assert rows.size == 0
