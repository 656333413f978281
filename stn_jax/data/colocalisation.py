"""Co-localisation (A.2): images that share nothing but a digit of one class, at unknown places.

T: a digit at a uniform place, in whole pixels, on a black 84x84 canvas. TC: sixteen 6x6 patches of
other digits on top, drawn and merged as those of distorted MNIST's TC. The paper does not say
which digits are used; the caller decides.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from stn_jax.data.distortions import DIGIT, Distortion, translation

SIZE = 84
CANVASES: dict[str, Distortion] = {
    "T": translation("T", SIZE),
    "TC": translation("TC", SIZE, num_patches=16),
}


class ImageSet(NamedTuple):
    """The images of one problem, and the answer, which only scores are computed from.

    Boxes are (left, top, right, bottom) in pixels, from edge to edge.

    Attributes:
      image: [N, 84, 84, 1] float32, 0 to 1.
      square: [N, 4] float32, the 28x28 box of each pasted digit.
      ink: [N, 4] float32, the smallest box around what is not black in the digit.
    """

    image: jax.Array
    square: jax.Array
    ink: jax.Array


def draw_set(
    key: jax.Array,
    members: jax.Array,
    index: jax.Array,
    clutter: jax.Array,
    *,
    canvas: Distortion,
    count: int,
) -> ImageSet:
    """Draw digits of one class, each once, and put each at a random place.

    Args:
      key: decides which digits, their places and their clutter.
      members: uint8 [M, 28, 28, 1], the digits of the class.
      index: int32 [M], where in `clutter` each of them is, if it is one of those: a digit does
        not clutter itself.
      clutter: uint8 [K, 28, 28, 1], the digits that patches are cut from.
      canvas: one of `CANVASES`.
      count: images of the set.

    Raises:
      ValueError: if the class has fewer digits than the set is to have images.
    """
    if count > len(members):
        raise ValueError(f"a set of {count} images needs as many digits, got {len(members)}.")
    choice_key, canvas_key = jax.random.split(key)
    chosen = jax.random.choice(choice_key, len(members), (count,), replace=False)
    keys = jax.random.split(canvas_key, count)
    digits = members[chosen].astype(jnp.float32) / 255
    image = canvas(keys, digits, digits=clutter, own=index[chosen])
    corner = canvas.poses(keys)["centre"] + (canvas.size - DIGIT) / 2
    square = jnp.concatenate([corner, corner + DIGIT], axis=-1)
    ink = jnp.tile(corner, 2) + jax.vmap(ink_box)(digits[..., 0])
    return ImageSet(image, square, ink)


def ink_box(image: jax.Array) -> jax.Array:
    """Return the smallest box around the pixels above 0 of an image [H, W]: float32 [4]."""
    edges = []
    for axis in (0, 1):  # columns, then rows
        inked = jnp.any(image > 0, axis=axis)
        edges.append((jnp.argmax(inked), inked.size - jnp.argmax(inked[::-1])))
    return jnp.stack([edges[0][0], edges[1][0], edges[0][1], edges[1][1]]).astype(jnp.float32)
