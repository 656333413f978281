"""Affine transforms held to rotation, scale and translation (G5)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.transform import SimilarityTransform

from stn_jax import geometry
from stn_jax.geometry.similarity import PARTS

SUBSETS = [
    parts
    for count in (1, 2, 3)
    for parts in itertools.combinations(("rotation", "scale", "translation"), count)
]


def test_parameter_counts_are_the_sums_of_the_parts():
    counts = {"rotation": 1, "scale": 1, "translation": 2}
    for parts in SUBSETS:
        transform = geometry.restricted(*parts)
        assert transform.name == "_".join(parts)
        assert transform.num_params == sum(counts[part] for part in parts)
        np.testing.assert_array_equal(
            transform.grid(transform.identity[None], (4, 6))[0], geometry.regular_grid((4, 6))
        )
    assert set(PARTS) == set(counts)


@pytest.mark.parametrize("parts", SUBSETS, ids="_".join)
def test_equals_the_affine_with_scikit_images_matrix(parts):
    rng = np.random.default_rng(0)
    drawn = {
        "rotation": rng.uniform(-3, 3, (4, 1)),
        "scale": rng.uniform(0.3, 2, (4, 1)),
        "translation": rng.uniform(-1, 1, (4, 2)),
    }
    theta = np.concatenate([drawn[part] for part in parts], axis=1).astype(np.float32)
    rows = []
    for i in range(4):
        values = {"translation": (0, 0)}  # says that it is in the plane
        values |= {part: drawn[part][i].tolist() for part in parts}
        values |= {part: values[part][0] for part in ("rotation", "scale") if part in parts}
        rows.append(SimilarityTransform(**values).params[:2].ravel())
    affine = np.array(rows, np.float32)
    np.testing.assert_allclose(geometry.similarity_to_affine(theta, parts=parts), affine, atol=1e-6)
    for align_corners in (True, False):
        found = geometry.restricted(*parts).grid(theta, (5, 7), align_corners=align_corners)
        expected = geometry.affine_grid(affine, (5, 7), align_corners=align_corners)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_scale_and_translation_are_attention():
    theta = np.float32([[0.5, 0.2, -0.3], [1.5, 0, 1]])
    found = geometry.restricted("scale", "translation").grid(theta, (4, 6))
    np.testing.assert_array_equal(found, geometry.attention_grid(theta, (4, 6)))


def test_a_quarter_turn_turns_the_image():
    image = np.random.default_rng(0).normal(size=(1, 6, 6, 1)).astype(np.float32)
    grid = geometry.similarity_grid(jnp.array([[np.pi / 2]]), (6, 6), parts=("rotation",))
    # Right of the output is what lies below in the input: the image turns anticlockwise.
    np.testing.assert_allclose(geometry.sample(image, grid)[0], np.rot90(image[0]), atol=1e-5)


@pytest.mark.parametrize("parts", [(), ("skew",), ("scale", "rotation"), ("scale", "scale")])
def test_wrong_parts_are_named(parts):
    with pytest.raises(ValueError, match="parts must be some of rotation, scale, translation"):
        geometry.restricted(*parts)


def test_another_number_of_parameters_is_named():
    with pytest.raises(ValueError, match=r"rotation and scale must be \[..., 2\], got \[3, 4\]"):
        geometry.similarity_to_affine(np.zeros((3, 4), np.float32), parts=("rotation", "scale"))


LIMITS = {"max_angle": 0.6, "min_scale": 0.5, "max_scale": 1.5, "max_shift": 0.8}
SIMILARITY = ("rotation", "scale", "translation")


def motion(transform, theta):
    """Angle, scale and translation of a restricted transform, from the grid's corners."""
    corners = np.asarray(transform.grid(np.float32([theta]), (2, 2))[0], np.float64)
    right = (corners[0, 1] - corners[0, 0]) / 2
    return np.arctan2(right[1], right[0]), np.hypot(*right), *corners.mean(axis=(0, 1))


def test_limits_leave_the_identity_and_small_motions_alone():
    """To first order: the slope at the identity is 1, from either side."""
    limited = geometry.restricted(*SIMILARITY, **LIMITS)
    np.testing.assert_array_equal(
        limited.grid(limited.identity[None], (4, 6))[0], geometry.regular_grid((4, 6))
    )
    free = geometry.restricted(*SIMILARITY)
    slopes = [
        jax.jacfwd(lambda theta, t=t: t.grid(theta[None], (3, 4)))(jnp.asarray(t.identity))
        for t in (limited, free)
    ]
    np.testing.assert_allclose(*slopes, atol=1e-6)
    for step in (-0.01, 0.01):
        theta = limited.identity + np.float32(step)
        np.testing.assert_allclose(motion(limited, theta), motion(free, theta), atol=1e-5)


@pytest.mark.parametrize("sign", [-1, 1])
def test_motions_stay_within_the_limits_and_grow_all_the_way(sign):
    limited = geometry.restricted(*SIMILARITY, **LIMITS)
    found = np.array([motion(limited, limited.identity + sign * x) for x in (0.2, 0.7, 1.5, 50)])
    ends = {1: (0.6, 1.5, 0.8, 0.8), -1: (-0.6, 0.5, -0.8, -0.8)}[sign]
    np.testing.assert_allclose(found[-1], ends, atol=1e-5)
    assert np.all(sign * np.diff(found, axis=0) > 0)
    slope = jax.grad(lambda theta: jnp.sum(limited.grid(theta[None], (2, 2))[0, 0]))
    assert np.all(np.isfinite(slope(limited.identity + sign * 2)))


def test_a_limit_on_one_side_leaves_the_other_free():
    only = geometry.restricted("scale", max_scale=1.5)
    assert motion(only, [5.0])[1] == pytest.approx(1.5, abs=1e-2)
    assert motion(only, [0.125])[1] == pytest.approx(0.125)
    assert motion(geometry.restricted("scale", min_scale=0.5), [7.0])[1] == pytest.approx(7)


@pytest.mark.parametrize(
    ("parts", "limits", "message"),
    [
        (("scale",), {"max_scale": 1.0}, "max_scale must be between 1.0 and inf, got 1.0"),
        (("scale",), {"min_scale": 0.0}, "min_scale must be between 0.0 and 1.0, got 0.0"),
        (("rotation",), {"max_angle": -1}, "max_angle must be between 0.0 and inf, got -1"),
        (("rotation",), {"max_shift": 0.5}, "limits on translation, but the parts are rotation"),
    ],
)
def test_limits_without_room_or_on_other_parts_are_named(parts, limits, message):
    with pytest.raises(ValueError, match=message):
        geometry.restricted(*parts, **limits)
