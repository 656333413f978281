"""Regular grids, against PyTorch and against pixel centres listed one by one."""

import numpy as np
import pytest

from stn_jax.geometry import grids, regular_grid
from tests import oracles

CONVENTIONS = (True, False)


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("shape", [(4, 7), (1, 5), (1, 1), (2, 3, 4), (1, 3, 1)])
def test_points_are_the_pixel_centres(shape, align_corners):
    grid = regular_grid(shape, align_corners=align_corners)
    assert grid.dtype == np.float32
    expected = oracles.regular_points(shape, align_corners).astype(np.float32)
    np.testing.assert_allclose(grid, expected, atol=1e-7)


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("shape", [(4, 7), (28, 28), (2, 3, 4)])
def test_equals_torch(shape, align_corners):
    torch = oracles.import_torch()
    identity = torch.eye(len(shape), len(shape) + 1)[None]
    theirs = torch.nn.functional.affine_grid(identity, (1, 1, *shape), align_corners=align_corners)
    grid = regular_grid(shape, align_corners=align_corners)
    np.testing.assert_allclose(grid, theirs[0].numpy(), atol=3e-7)


def test_rows_of_the_homogeneous_points_are_x_y_1():
    points = grids.homogeneous_points((3, 4), True)
    grid = regular_grid((3, 4))
    expected = [grid[..., 0].ravel(), grid[..., 1].ravel(), np.ones(12)]
    np.testing.assert_array_equal(points.astype(np.float32), expected)


@pytest.mark.parametrize(
    "make", [regular_grid, lambda shape: grids.homogeneous_points(shape, True)]
)
def test_shared_constants_cannot_be_written_to(make):
    assert make((3, 4)) is make((3, 4))
    with pytest.raises(ValueError, match="read-only"):
        make((3, 4))[...] = 0


@pytest.mark.parametrize("shape", [(4,), (1, 2, 3, 4), (0, 4), (4, -1), (2.5, 4)])
def test_bad_shapes_are_named(shape):
    with pytest.raises(ValueError, match=r"\(H, W\) or \(D, H, W\) of positive integers, got \("):
        regular_grid(shape)
