"""Affine transforms held to rotation, scale and translation (G5)."""

import itertools

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
    np.testing.assert_allclose(geometry.similarity_to_affine(theta, parts), affine, atol=1e-6)
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
    with pytest.raises(ValueError, match=r"rotation and scale must be \[B, 2\], got \[3, 4\]"):
        geometry.similarity_to_affine(np.zeros((3, 4), np.float32), ("rotation", "scale"))
