"""Regions that transformers read, against boxes."""

import numpy as np
import pytest

from stn_jax.launch import regions


def test_measures_of_known_regions():
    """The identity, the box itself, and a region that misses it."""
    box = np.float32([[10, 5, 30, 15]])
    shape = (20, 40)
    identity = np.float32([[1, 0, 0, 0, 1, 0]])
    overlap, whole, found, size = regions.measure(identity, box, shape)
    assert (overlap, whole) == pytest.approx((0.25, 0.25))
    assert (found, size) == pytest.approx((100, 100))
    # From the centre of the first to that of the last of 20 columns and 10 rows.
    half = [19 / 39, 9 / 19]
    exact = np.float32([[half[0], 0, 0, 0, half[1], 0]])
    overlap, whole, found, size = regions.measure(exact, box, shape)
    assert (overlap, whole, found, size) == pytest.approx((1, 0.25, 100, 25), rel=1e-5)
    elsewhere = np.float32([[0.1, 0, -0.8, 0, 0.1, -0.8]])
    overlap, _, found, size = regions.measure(elsewhere, box, shape)
    assert overlap == found == 0 and 0 < size < 5
