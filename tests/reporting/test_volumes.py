import matplotlib.image
import numpy as np
import pytest

from stn_jax.reporting import figures
from stn_jax.reporting.volumes import SLICES, VolumeExamples, edges, save_volumes, shown_slices
from tests.reporting.test_figures import pixels


def example_set(count, size=10, depth=4):
    rng = np.random.default_rng(0)
    corners = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij")[::-1], axis=-1)
    return VolumeExamples(
        name="A-run, seed 0",
        inputs=(rng.uniform(size=(count, size, size, size)) > 0.9).astype(float),
        corners=np.stack([corners * (size - 1.0)] * count),
        outputs=np.zeros((count, depth, 6, 6)),
        labels=np.arange(count),
        predictions=np.array([*range(count - 1), 9]),
    )


def test_edges_are_those_of_a_box():
    corners = example_set(1, size=2).corners[0]
    lengths = np.array([edge[1] - edge[0] for edge in edges(corners)])
    assert lengths.shape == (12, 3)
    np.testing.assert_array_equal(np.abs(lengths).sum(axis=0), [4, 4, 4])
    np.testing.assert_array_equal(np.abs(lengths).sum(axis=1), np.ones(12))
    assert len({tuple(map(tuple, edge)) for edge in edges(corners)}) == 12


def test_volumes_have_a_row_an_example(tmp_path):
    heights, regions = [], []
    for count in (1, 2):
        path = tmp_path / f"{count}.png"
        save_volumes(example_set(count), path)
        image = matplotlib.image.imread(path)
        heights.append(image.shape[0])
        regions.append(pixels(path, figures.ORANGE))
        assert image.std() > 0.05
    assert heights[1] - heights[0] > 200
    assert regions[1] > 1.5 * regions[0] > 500
    # One class is right, the other is not.
    assert min(pixels(path, color) for color in (figures.BLUE, figures.VERMILION)) > 20


def test_slices_with_ink_are_shown():
    volume = np.zeros((20, 4, 4))
    volume[6:15, 1, 1] = 1
    np.testing.assert_array_equal(shown_slices(volume), [6, 8, 10, 12, 14])
    np.testing.assert_array_equal(shown_slices(np.zeros((9, 4, 4))), [0, 2, 4, 6, 8])


@pytest.mark.parametrize(
    ("first", "last", "shown"), [(7, 9, 6), (0, 1, 0), (18, 19, 15), (3, 7, 3)]
)
def test_no_slice_is_shown_twice(first, last, shown):
    volume = np.zeros((20, 4, 4))
    volume[first : last + 1, 1, 1] = 1
    np.testing.assert_array_equal(shown_slices(volume), range(shown, shown + 5))


def test_fewer_slices_than_are_shown_fit(tmp_path):
    save_volumes(example_set(1, depth=SLICES - 3), tmp_path / "volumes.png")
    assert (tmp_path / "volumes.png").stat().st_size > 10_000
