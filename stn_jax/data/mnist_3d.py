"""Extruded digits in volumes (A.3): endless training batches and one fixed test set.

The paper gives the size of the volumes and says that digits are randomly placed and rotated in
three dimensions. The rest is ours: how deep they are extruded, that they are turned by a uniform
angle about each axis, which keeps a 6 and a 9 apart if it is less than a quarter turn, and that the
turned box of a digit stays inside.

A volume has 216,000 voxels. The test set is therefore kept as digits with their poses, and rendered
batch by batch; each digit has one pose, the same for every model and seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from stn_jax import geometry
from stn_jax.data.distorted_mnist import Labelled, fixed_keys
from stn_jax.data.distortions import DIGIT

NUM_CLASSES = 10
# Volumes rendered together. All of a batch at once take twice the time on CPUs: what lies between
# digit and volume does not fit into the cache then.
_TOGETHER = 4


class Pose(NamedTuple):
    """Where digits stand in their volumes: voxel = R digit + centre, from the centres of both.

    Attributes:
      angles: [B, 3] radians, about the x, y and z axis; R turns about x first and about z last.
      centre: [B, 3] voxels, (x, y, z).
    """

    angles: jax.Array
    centre: jax.Array


class Posed(NamedTuple):
    """Digits with poses: a set of volumes that are not rendered yet.

    Attributes:
      image: [N, 28, 28, 1] uint8.
      label: [N] int32.
      pose: of N digits.
    """

    image: jax.Array
    label: jax.Array
    pose: Pose


@dataclass(frozen=True, kw_only=True)
class Extrusion:
    """How digits become volumes.

    Attributes:
      size: the volume is size x size x size.
      depth: layers of a digit, each its image.
      max_angle: of the rotation about each axis, in degrees.
    """

    size: int
    depth: int
    max_angle: float

    def __post_init__(self):
        """Refuse digits that do not fit in every pose.

        Raises:
          ValueError: if a digit's diagonal is longer than the volume's side.
        """
        diagonal = (2 * DIGIT**2 + self.depth**2) ** 0.5
        if self.depth < 1 or diagonal > self.size:
            raise ValueError(
                f"a digit of {DIGIT}x{DIGIT} pixels and 1 or more layers has to fit in every pose: "
                f"with depth {self.depth} its diagonal is {diagonal:.1f}, size is {self.size}."
            )

    @property
    def volume_shape(self) -> tuple[int, int, int, int]:
        """The shape (D, H, W, C) of a volume."""
        return (self.size, self.size, self.size, 1)

    def poses(self, keys: jax.Array) -> Pose:
        """Draw a pose for each of B keys."""
        return jax.vmap(self._draw)(keys)

    def _draw(self, key: jax.Array) -> Pose:
        angle_key, centre_key = jax.random.split(key)
        limit = jnp.radians(self.max_angle)
        angles = jax.random.uniform(angle_key, (3,), minval=-limit, maxval=limit)
        box = jnp.array([DIGIT, DIGIT, self.depth], jnp.float32)
        free = (self.size - jnp.abs(rotation(angles)) @ box) / 2
        return Pose(angles, free * jax.random.uniform(centre_key, (3,), minval=-1, maxval=1))

    def render(self, images: jax.Array, pose: Pose) -> jax.Array:
        """Extrude images and put them into their poses.

        Trilinear sampling of equal layers with 0 around them, at the cost of bilinear sampling: it
        is the bilinear sample of one of them times a weight that falls to 0 in front and behind.

        Args:
          images: [B, 28, 28, 1] float, 0 to 1.
          pose: of B digits.

        Returns:
          [B, size, size, size, 1] float, 0 to 1.
        """
        return jax.lax.map(lambda one: self._render(*one), (images, pose), batch_size=_TOGETHER)

    def _render(self, image: jax.Array, pose: Pose) -> jax.Array:
        """Render one image [28, 28, 1]."""
        size = self.size
        # digit = R^T (voxel - centre), from normalised voxels; x and y normalised for the sampler.
        inverse = rotation(pose.angles).T
        unit = jnp.array([2 / (DIGIT - 1), 2 / (DIGIT - 1), 1])[:, None]
        half = (size - 1) / 2
        theta = unit * jnp.column_stack([inverse * half, -inverse @ pose.centre])
        points = geometry.affine_grid(theta.reshape(1, 12), (size, size, size))
        flat = points[..., :2].reshape(1, size, size * size, 2)
        ink = geometry.sample(image[None], flat).reshape(size, size, size, 1)
        return ink * jnp.clip((self.depth + 1) / 2 - jnp.abs(points[0, ..., 2:]), 0, 1)


def rotation(angles: jax.Array) -> jax.Array:
    """Return the rotation [3, 3] about x, then y, then z by angles [3] in radians."""
    (cx, cy, cz), (sx, sy, sz) = jnp.cos(angles), jnp.sin(angles)
    about_x = jnp.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = jnp.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = jnp.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def training_batch(
    key: jax.Array, digits: Labelled, *, extrusion: Extrusion, batch_size: int
) -> Labelled:
    """Draw digits uniformly with replacement, and put each into a volume afresh.

    Args:
      key: decides which digits, and each one's pose.
      digits: the training digits, uint8 [N, 28, 28, 1].
      extrusion: how they become volumes.
      batch_size: volumes in the batch.

    Returns:
      The batch; images float32 [batch_size, size, size, size, 1].
    """
    index_key, pose_key = jax.random.split(key)
    index = jax.random.randint(index_key, (batch_size,), 0, digits.label.shape[0])
    pose = extrusion.poses(jax.random.split(pose_key, batch_size))
    return render(Posed(digits.image[index], digits.label[index], pose), extrusion)


def fixed_set(
    digits: Labelled, *, extrusion: Extrusion, index: Sequence[int] | None = None
) -> Posed:
    """Give every digit its one pose, independent of model and seed.

    Args:
      digits: the test (or validation) digits, uint8 [N, 28, 28, 1].
      extrusion: how they become volumes.
      index: these digits only, just as they are in the whole set; by default all.
    """
    index = jnp.arange(digits.label.shape[0]) if index is None else jnp.asarray(index)
    pose = jax.jit(extrusion.poses)(fixed_keys(index))
    return Posed(digits.image[index], digits.label[index], pose)


def render(posed: Posed, extrusion: Extrusion) -> Labelled:
    """Return posed digits as volumes, float32 [N, size, size, size, 1], with their labels."""
    images = posed.image.astype(jnp.float32) / 255
    return Labelled(extrusion.render(images, posed.pose), posed.label)
