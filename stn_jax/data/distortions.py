"""The distortions of the MNIST experiments (A.4), as jittable functions built on `geometry`.

Every distortion draws one warp per example, as the parameters of a transform that takes output
to source positions, and samples the digit bilinearly with 0 outside. Lengths are in pixels of
the 28x28 digit. What the paper leaves open:

* R, P and E keep 28x28; RTS has a 42x42 and TC a 60x60 canvas.
* RTS: the angle is uniform in [-45, 45] degrees, and the scaled (not the rotated) digit box stays
  inside the canvas.
* P: each corner moves by N(0, 5 px) in x and in y, independently, after scaling about the centre.
  A few draws fold the quadrilateral; what lies behind the horizon reads 0.
* E: the 4x4 control points span the digit's image, move by N(0, 1.5 px) in x and in y; the spline
  maps output to source positions of the scaled digit.
* TC: whole-pixel positions; each of the six patches comes from another digit, drawn with
  replacement, and is merged by maximum.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from stn_jax import geometry

DIGIT = 28
_PATCH = 6
# Normalised units (border pixel centres at +-1) per pixel of the digit.
_UNIT = 2 / (DIGIT - 1)


@dataclass(frozen=True)
class Distortion:
    """A random family of warps from a digit to a canvas.

    Attributes:
      name: how the paper calls it.
      size: the canvas is size x size.
      draw: function of a key, giving the pose: a dict of scalars and small arrays for one example.
      grid: function of the poses (batched) and the canvas (H, W), giving grids [B, H, W, 2].
      num_patches: 6x6 patches of clutter added to each canvas.
    """

    name: str
    size: int
    draw: Callable[[jax.Array], dict[str, jax.Array]]
    grid: Callable[..., jax.Array]
    num_patches: int = 0

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape (H, W, C) of a distorted digit."""
        return (self.size, self.size, 1)

    def poses(self, keys: jax.Array) -> dict[str, jax.Array]:
        """Draw the poses that `__call__` uses with the same keys [B]: a dict of [B, ...]."""
        return jax.vmap(lambda key: self.draw(jax.random.fold_in(key, 0)))(keys)

    def clutter(self, keys: jax.Array, own: jax.Array, count: int) -> dict[str, jax.Array]:
        """Draw the patches that `__call__` adds with the same keys [B], cut from `count` digits.

        Returns:
          "digit" [B, P], the digits that P patches are cut from, and the first row and column of
          each in its digit, "source" [B, P, 2], and on the canvas, "target" [B, P, 2]; all int32.
        """

        def draw(key: jax.Array, own: jax.Array) -> dict[str, jax.Array]:
            return _draw_clutter(jax.random.fold_in(key, 1), own, count, self)

        return jax.vmap(draw)(keys, own)

    def __call__(
        self, keys: jax.Array, images: jax.Array, *, digits: jax.Array, own: jax.Array
    ) -> jax.Array:
        """Distort each image with its own key.

        Args:
          keys: [B] PRNG keys; an example's distortion depends on its key (and image) alone.
          images: [B, 28, 28, 1] float, 0 to 1.
          digits: [M, 28, 28, 1] uint8, the training digits that clutter is cut from (TC).
          own: [B] int32, the digit of `digits` that must not clutter each image: itself.

        Returns:
          [B, size, size, 1] float, 0 to 1.
        """
        clutter = self.clutter(keys, own, len(digits)) if self.num_patches else {}
        return self.render(images, self.poses(keys), clutter, digits)

    def render(
        self,
        images: jax.Array,
        poses: dict[str, jax.Array],
        clutter: dict[str, jax.Array],
        digits: jax.Array,
    ) -> jax.Array:
        """Put images [B, 28, 28, 1] into given poses, and patches of `digits` on top.

        Args:
          images: as `__call__` takes them, and so are `digits`.
          poses: as `poses` draws them.
          clutter: as `clutter` draws it; {} for none.
          digits: [M, 28, 28, 1] uint8.

        Returns:
          [B, size, size, 1] float, 0 to 1.
        """
        canvas = geometry.sample(images, self.grid(poses, (self.size, self.size)))
        if clutter:
            canvas = jax.vmap(_add_clutter, (0, 0, None))(canvas, clutter, jnp.asarray(digits))
        return canvas


def _draw_clutter(
    key: jax.Array, own: jax.Array, count: int, distortion: Distortion
) -> dict[str, jax.Array]:
    """Draw 6x6 patches of other digits than one's own, and uniform places for them."""
    digit_key, source_key, target_key = jax.random.split(key, 3)
    patches, free = distortion.num_patches, distortion.size - _PATCH
    return {
        "digit": (own + 1 + jax.random.randint(digit_key, (patches,), 0, count - 1)) % count,
        "source": jax.random.randint(source_key, (patches, 2), 0, DIGIT - _PATCH + 1),
        "target": jax.random.randint(target_key, (patches, 2), 0, free + 1),
    }


def _add_clutter(canvas: jax.Array, clutter: dict[str, jax.Array], digits: jax.Array) -> jax.Array:
    """Merge patches with one canvas [H, W, 1] by maximum."""
    offsets = np.stack(np.mgrid[:_PATCH, :_PATCH], axis=-1)
    source, target = (clutter[name][:, None, None] + offsets[None] for name in ("source", "target"))
    patches = digits[clutter["digit"][:, None, None], source[..., 0], source[..., 1], 0]
    values = patches.astype(canvas.dtype) / 255
    return canvas.at[target[..., 0], target[..., 1], 0].max(values)


def _uniform(key: jax.Array, low: float, high: float) -> jax.Array:
    return jax.random.uniform(key, minval=low, maxval=high)


def _draw_rotation(key: jax.Array) -> dict[str, jax.Array]:
    return {"angle": _uniform(key, -np.pi / 2, np.pi / 2)}


def _draw_rts(key: jax.Array) -> dict[str, jax.Array]:
    angle_key, scale_key, centre_key = jax.random.split(key, 3)
    scale = _uniform(scale_key, 0.7, 1.2)
    free = (42 - DIGIT * scale) / 2
    return {
        "angle": _uniform(angle_key, -np.pi / 4, np.pi / 4),
        "scale": scale,
        "centre": free * jax.random.uniform(centre_key, (2,), minval=-1, maxval=1),
    }


def _draw_projective(key: jax.Array) -> dict[str, jax.Array]:
    scale_key, corner_key = jax.random.split(key)
    return {
        "scale": _uniform(scale_key, 0.75, 1.0),
        "corners": 5.0 * jax.random.normal(corner_key, (4, 2)),
    }


def _draw_elastic(key: jax.Array) -> dict[str, jax.Array]:
    scale_key, point_key = jax.random.split(key)
    return {
        "scale": _uniform(scale_key, 0.75, 1.0),
        "points": 1.5 * jax.random.normal(point_key, (2, 16)),
    }


def _draw_translation(key: jax.Array, size: int) -> dict[str, jax.Array]:
    corner = jax.random.randint(key, (2,), 0, size - DIGIT + 1)
    return {"centre": corner - (size - DIGIT) / 2}


def _similarity_grid(pose: dict[str, jax.Array], canvas: tuple[int, int]) -> jax.Array:
    """Source = R(-angle) (target - centre) / scale, all in pixels from the centres."""
    anchor = next(iter(pose.values()))
    angle = pose.get("angle", jnp.zeros(anchor.shape[0]))
    scale = pose.get("scale", jnp.ones_like(angle))
    centre = pose.get("centre", jnp.zeros((*angle.shape, 2)))
    cos, sin = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    half = (canvas[0] - 1) / 2
    x, y = centre[:, 0], centre[:, 1]
    rows = [cos * half, sin * half, -cos * x - sin * y, -sin * half, cos * half, sin * x - cos * y]
    return geometry.affine_grid(jnp.stack(rows, axis=-1) * _UNIT, canvas)


def _projective_grid(pose: dict[str, jax.Array], canvas: tuple[int, int]) -> jax.Array:
    square = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]], np.float32)
    corners = square[None] * pose["scale"][:, None, None] + pose["corners"] * _UNIT
    matrix = geometry.invert_homography(geometry.square_to_quad(corners))
    return geometry.homography_grid(matrix, canvas)


def _elastic_grid(pose: dict[str, jax.Array], canvas: tuple[int, int]) -> jax.Array:
    moved = geometry.control_identity(4).reshape(1, 2, 16) + pose["points"] * _UNIT
    theta = moved / pose["scale"][:, None, None]
    return geometry.tps_grid(theta.reshape(-1, 32), canvas)


def translation(name: str, size: int, *, num_patches: int = 0) -> Distortion:
    """Return the distortion that puts a digit anywhere on a canvas of size x size, in whole pixels.

    Args:
      name: how the paper calls it.
      size: of the canvas.
      num_patches: 6x6 patches of clutter.
    """
    draw = partial(_draw_translation, size=size)
    return Distortion(name, size, draw, _similarity_grid, num_patches)


DISTORTIONS: dict[str, Distortion] = {
    "R": Distortion("R", 28, _draw_rotation, _similarity_grid),
    "RTS": Distortion("RTS", 42, _draw_rts, _similarity_grid),
    "P": Distortion("P", 28, _draw_projective, _projective_grid),
    "E": Distortion("E", 28, _draw_elastic, _elastic_grid),
    "TC": translation("TC", 60, num_patches=6),
}
