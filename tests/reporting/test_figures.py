import matplotlib.image
import numpy as np
import pytest

from stn_jax.reporting import figures
from stn_jax.reporting.runs import find_runs
from tests.reporting.synthetic import write_record


def square(height, width):
    """A grid whose points are their own (column, row)."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(float)


def example_set(count=3, size=12, captions=()):
    rng = np.random.default_rng(0)
    x = np.linspace(-2, size + 1, 15)
    grid = np.stack(np.meshgrid(x, x), axis=-1)
    return figures.Examples(
        name="A-run, seed 0",
        row="R\nST-FCN Aff",
        inputs=rng.uniform(0, 0.2, (count, size, size)),
        grids=np.stack([grid] * count),
        outputs=rng.uniform(0, 0.2, (count, size, size)),
        labels=np.arange(count),
        predictions=np.array([*range(count - 1), 9]),
        captions=captions,
    )


def pixels(path, color):
    """Count the pixels of a colour."""
    image = matplotlib.image.imread(path)[..., :3]
    wanted = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return int(np.sum(np.abs(image - wanted).max(axis=-1) < 0.02))


def test_grid_lines_are_evenly_spaced_rows_and_columns():
    lines = figures.grid_lines(square(5, 7), count=3)
    assert len(lines) == 6
    rows, columns = np.array(lines[:3]), np.array(lines[3:])
    np.testing.assert_array_equal(rows[..., 1], [[0] * 7, [2] * 7, [4] * 7])
    np.testing.assert_array_equal(rows[..., 0], [range(7)] * 3)
    np.testing.assert_array_equal(columns[..., 0], [[0] * 5, [3] * 5, [6] * 5])
    np.testing.assert_array_equal(columns[..., 1], [range(5)] * 3)


def test_outline_goes_once_around_the_border():
    points = figures.outline(square(3, 4))
    expected = [(0, 0), (1, 0), (2, 0), (3, 0), (3, 1), (3, 2), (2, 2), (1, 2), (0, 2), (0, 1)]
    assert [tuple(point) for point in points] == [*expected, (0, 0)]


def test_curves_need_a_record_only(tmp_path):
    write_record(tmp_path / "a", seeds=[0, 1], errors=[1.0, 0.0])  # 0 has no logarithm
    write_record(tmp_path / "b", upto=1999)
    for run in find_runs([tmp_path]):
        path = tmp_path / f"{run.label}.png"
        figures.save_curves(run, path)
        height, width, _ = matplotlib.image.imread(path).shape
        assert width > 1000 and height > 400
        assert min(pixels(path, color) for color in (figures.BLUE, figures.VERMILION)) > 200


def test_what_is_measured_beside_has_a_panel_of_its_own(tmp_path):
    """G12: the overlap, where the record has it; gradients have none."""
    lines = [
        {"kind": "eval", "split": "test", "step": step, "loss": [1.0], "error": [9.0], **more}
        for step, more in ((500, {}), (1500, {"overlap": [0.4]}), (1900, {"overlap": [0.6]}))
    ]
    for name, more in (("plain", [lines[0]]), ("overlap", lines)):
        write_record(tmp_path / name, more=more)
        (run,) = find_runs([tmp_path / name])
        figures.save_curves(run, tmp_path / f"{name}.png")
    plain, wide = (
        matplotlib.image.imread(tmp_path / f"{name}.png").shape for name in ("plain", "overlap")
    )
    assert wide[1] == plain[1] * 3 // 2


def test_a_run_that_has_measured_nothing_has_a_figure(tmp_path):
    write_record(tmp_path / "a", upto=1)
    figures.save_curves(find_runs([tmp_path])[0], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000


@pytest.mark.parametrize("captions", [(), ["one", "two", "three"]])
def test_examples(tmp_path, captions):
    path = tmp_path / "examples.png"
    figures.save_examples(example_set(captions=captions), path)
    assert pixels(path, figures.ORANGE) > 1000
    # Two classes are right, one is wrong.
    assert pixels(path, figures.BLUE) > pixels(path, figures.VERMILION) > 20


def test_overview_has_a_row_a_run(tmp_path):
    heights, grids = [], []
    for count in (1, 2):
        path = tmp_path / f"{count}.png"
        figures.save_overview([example_set()] * count, path)
        heights.append(matplotlib.image.imread(path).shape[0])
        grids.append(pixels(path, figures.ORANGE))
    assert heights[1] - heights[0] == pytest.approx(0.86 * figures.DPI, abs=1)
    assert grids[1] == pytest.approx(2 * grids[0], rel=0.1) and grids[0] > 1000


def test_runs_with_different_numbers_of_examples_fit(tmp_path):
    figures.save_overview([example_set(2), example_set(4, size=20)], tmp_path / "overview.png")
    assert (tmp_path / "overview.png").stat().st_size > 10_000


def test_points_on_the_horizon_are_not_drawn(tmp_path):
    """A projective grid has points at 1e6; lines to them would cross the picture."""
    examples = example_set(1)
    figures.save_examples(examples, tmp_path / "without.png")
    examples.grids[0, 7:] = 1e6
    figures.save_examples(examples, tmp_path / "with.png")
    drawn = [pixels(tmp_path / f"{name}.png", figures.ORANGE) for name in ("without", "with")]
    assert 0.3 < drawn[1] / drawn[0] < 0.7


@pytest.mark.parametrize("transformers", [1, 2])
def test_channels_have_a_row_and_transformers_a_colour(tmp_path, transformers):
    single = example_set(2)
    examples = figures.ChannelExamples(
        name="A-run, seed 0",
        inputs=np.stack([single.inputs] * 2, axis=1),
        grids=np.stack([single.grids] * transformers, axis=1),
        outputs=np.zeros((2, transformers, 2, 12, 12)),
        digits=np.array([[1, 2], [3, 4]]),
        predictions=np.array([3, 0]),
    )
    path = tmp_path / "channels.png"
    figures.save_channels(examples, path)
    for color, shown in zip(figures.GRIDS, [True, transformers == 2, False], strict=False):
        assert (pixels(path, color) > 500) == shown
    # One sum is right, the other is not.
    assert min(pixels(path, color) for color in (figures.BLUE, figures.VERMILION)) > 20
