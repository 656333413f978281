"""Extruded digits in volumes (V4)."""

import functools

import jax
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from scipy.spatial.transform import Rotation

from stn_jax.data import digits
from stn_jax.data.distorted_mnist import Labelled, fixed_keys
from stn_jax.data.mnist_3d import (
    Extrusion,
    Pose,
    fixed_set,
    render,
    rotation,
    training_batch,
)

EXTRUSION = Extrusion(size=60, depth=8, max_angle=45.0)
SMALL = Extrusion(size=42, depth=4, max_angle=30.0)


@functools.cache
def toy():
    loaded = digits.load()
    return Labelled(loaded.train_images, loaded.train_labels)


@functools.cache
def poses(extrusion=EXTRUSION, count=4000):
    keys = jax.random.split(jax.random.key(0), count)
    return jax.tree.map(np.asarray, jax.jit(extrusion.poses)(keys))


def turns(pose):
    return Rotation.from_euler("xyz", pose.angles).as_matrix()


def test_rotation_is_scipys():
    """About the fixed axes: x, then y, then z."""
    angles = poses().angles[:20]
    found = jax.jit(jax.vmap(rotation))(angles)
    np.testing.assert_allclose(found, Rotation.from_euler("xyz", angles).as_matrix(), atol=1e-6)


@pytest.mark.parametrize("extrusion", [EXTRUSION, SMALL])
def test_volumes_are_scipys_turned_stacks_of_layers(extrusion):
    pose = jax.tree.map(lambda x: x[:5], poses(extrusion))  # one more than are rendered at a time
    images = toy().image[:5].astype(np.float32) / 255
    volumes = np.asarray(jax.jit(extrusion.render)(images, pose))
    size, depth = extrusion.size, extrusion.depth
    assert volumes.shape == (5, *extrusion.volume_shape) and volumes.dtype == np.float32
    for volume, image, turn, centre in zip(
        volumes[..., 0], images[..., 0], turns(pose), pose.centre, strict=True
    ):
        layers = np.tile(image, (depth, 1, 1))
        inverse = turn.T[::-1, ::-1]  # SciPy's order is z, y, x
        middle = (np.array(layers.shape) - 1) / 2
        offset = middle - inverse @ ((size - 1) / 2 + centre[::-1])
        expected = scipy.ndimage.affine_transform(
            layers, inverse, offset, (size,) * 3, order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(volume, expected, atol=1e-4)
        assert expected.max() > 0.8


def test_a_digit_that_is_not_moved_is_its_own_layers():
    image = toy().image[:1].astype(np.float32) / 255
    at_rest = Pose(np.zeros((1, 3), np.float32), np.zeros((1, 3), np.float32))
    volume = np.asarray(jax.jit(EXTRUSION.render)(image, at_rest))[0, ..., 0]
    expected = np.zeros((60, 60, 60))
    expected[26:34, 16:44, 16:44] = image[0, ..., 0]
    np.testing.assert_allclose(volume, expected, atol=1e-5)


@pytest.mark.parametrize("extrusion", [EXTRUSION, SMALL])
def test_angles_are_uniform_and_boxes_stay_inside_and_reach_the_walls(extrusion):
    pose = poses(extrusion)
    for angle in pose.angles.T:
        share = angle / np.radians(extrusion.max_angle) / 2 + 0.5
        assert scipy.stats.kstest(share, "uniform").pvalue > 1e-3
    signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), axis=-1).reshape(8, 3)
    corners = signs * np.array([28, 28, extrusion.depth]) / 2
    reached = np.einsum("nij,kj->nki", turns(pose), corners) + pose.centre[:, None]
    outermost = np.abs(reached).max(axis=(0, 1))
    assert np.all(outermost <= extrusion.size / 2 + 1e-3)
    assert np.all(outermost > extrusion.size / 2 - 0.1)
    # Every axis apart from the others, and centred.
    correlations = np.corrcoef(np.column_stack([pose.angles, pose.centre]).T) - np.eye(6)
    assert np.abs(correlations).max() < 5 / np.sqrt(len(pose.centre))
    assert np.abs(pose.centre.mean(axis=0)).max() < 0.5


def test_turning_keeps_the_ink():
    pose = jax.tree.map(lambda x: x[:8], poses())
    images = toy().image[:8].astype(np.float32) / 255
    volumes = jax.jit(EXTRUSION.render)(images, pose)
    expected = EXTRUSION.depth * images.sum(axis=(1, 2, 3))
    np.testing.assert_allclose(volumes.sum(axis=(1, 2, 3, 4)), expected, rtol=0.01)


@pytest.mark.parametrize("options", [{"depth": 0}, {"size": 40}, {"depth": 60}])
def test_digits_that_do_not_fit_are_refused(options):
    with pytest.raises(ValueError, match="1 or more layers has to fit .* size is"):
        Extrusion(**{"size": 60, "depth": 8, "max_angle": 45.0} | options)


# Batches and the test set.


draw = jax.jit(functools.partial(training_batch, extrusion=SMALL, batch_size=6))
render_small = jax.jit(functools.partial(render, extrusion=SMALL))


def batch(seed):
    return jax.tree.map(np.asarray, draw(jax.random.key(seed), toy()))


def test_keys_decide_the_batch():
    one, other = batch(0), batch(1)
    assert one.image.shape == (6, 42, 42, 42, 1) and one.image.dtype == np.float32
    assert one.label.shape == (6,) and one.label.dtype == np.int32
    assert np.abs(one.image - other.image).max() > 0.1
    jax.tree.map(np.testing.assert_array_equal, one, batch(0))


def test_labels_are_those_of_the_digits():
    """Ten digits, each of one grey value that tells its label."""
    label = np.arange(10, dtype=np.int32)
    images = np.tile((20 * label + 60).astype(np.uint8)[:, None, None, None], (1, 28, 28, 1))
    squares = Labelled(images, label)
    drawn = [draw(jax.random.key(seed), squares) for seed in (0, 1)]
    for image, label in drawn:
        brightest = np.rint(255 * np.asarray(image).max(axis=(1, 2, 3, 4)))
        np.testing.assert_array_equal(brightest, 20 * label + 60)
    assert len({int(x) for _, label in drawn for x in label}) > 4


def test_the_fixed_set_is_small_and_the_same_whatever_the_selection():
    whole = fixed_set(toy(), extrusion=SMALL)
    some = fixed_set(toy(), extrusion=SMALL, index=[7, 2, 29])
    expected = jax.tree.map(lambda x: np.asarray(x)[[7, 2, 29]], whole)
    jax.tree.map(np.testing.assert_array_equal, some, expected)
    assert whole.image.dtype == np.uint8
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(whole)) < 850 * len(toy().label)
    assert len(np.unique(whole.pose.centre, axis=0)) == len(toy().label)
    np.testing.assert_allclose(
        whole.pose.centre[:3], SMALL.poses(fixed_keys(np.arange(3))).centre, atol=1e-5
    )


def test_each_volume_is_rendered_alone():
    posed = fixed_set(toy(), extrusion=SMALL, index=range(6))
    together = render_small(posed)
    np.testing.assert_array_equal(together.label, posed.label)
    mirrored = render_small(jax.tree.map(lambda x: x[::-1], posed))
    np.testing.assert_allclose(mirrored.image[::-1], together.image, atol=1e-5)
    np.testing.assert_array_equal(mirrored.label[::-1], together.label)
