"""The networks of co-localisation, and its loss (A.2): what finds the object, what compares."""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stn_jax.models.layers import flatten
from stn_jax.models.localisation import StridedLocalisation
from stn_jax.models.mnist import CNN

# The eight sides from which a square image can be seen: transposed or not, mirrored in x, in y.
VIEWS = np.array(list(itertools.product((False, True), repeat=3)))


class Colocaliser(nnx.Module):
    """A localisation network that finds a box: attention transforms (Eq. 2) within bounds.

    The paper leaves theta free. Here the box stays on the image and between two sizes, since a crop
    that leaves the image sees nothing, and learns nothing there.

    Attributes:
      localisation: the localisation network.
      regression: the final layer, features to three numbers without bounds; 0 before training.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        *,
        stride: int = 4,
        initial_scale: float,
        min_scale: float,
        max_scale: float,
        scale_rate: float,
        rngs: nnx.Rngs,
    ):
        """Build the network for images [H, W, C].

        Args:
          input_shape: (H, W, C).
          stride: of the convolution; A.2 has 4.
          initial_scale: s of the box in the middle of the image that all images start with.
          min_scale: bounds s from below.
          max_scale: bounds s from above.
          scale_rate: of the last layer's output for s; below 1, a box moves before it shrinks.
          rngs: for the weights.

        Raises:
          ValueError: unless 0 < min_scale < initial_scale < max_scale <= 1.
        """
        if not 0 < min_scale < initial_scale < max_scale <= 1:
            raise ValueError(
                "scales must be 0 < min_scale < initial_scale < max_scale <= 1, got "
                f"{min_scale}, {initial_scale}, {max_scale}."
            )
        self.localisation = StridedLocalisation(input_shape, stride=stride, rngs=rngs)
        self.regression = nnx.Linear(
            self.localisation.num_features, 3, kernel_init=nnx.initializers.zeros, rngs=rngs
        )
        self.min_scale, self.scale_range = min_scale, max_scale - min_scale
        self.scale_rate = scale_rate
        share = (initial_scale - min_scale) / self.scale_range
        self.offset = float(np.log(share / (1 - share)))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return theta [B, 3], (s, tx, ty), of images x [B, H, W, C]; |tx|, |ty| <= 1 - s."""
        free = self.regression(self.localisation(x)).astype(jnp.float32)
        size = jax.nn.sigmoid(self.scale_rate * free[:, :1] + self.offset)
        scale = self.min_scale + self.scale_range * size
        return jnp.concatenate([scale, (1 - scale) * jnp.tanh(free[:, 1:])], axis=-1)


def turn(images: jax.Array, view: jax.Array) -> jax.Array:
    """Return square images [B, N, N, C] as they are seen from some sides.

    Args:
      images: of any dtype.
      view: bool [B, 3], whether each is transposed, and then mirrored in x, and in y.
    """
    transposed, in_x, in_y = view.T[:, :, None, None, None]
    images = jnp.where(transposed, images.swapaxes(1, 2), images)
    images = jnp.where(in_x, images[:, :, ::-1], images)
    return jnp.where(in_y, images[:, ::-1], images)


def turn_back(theta: jax.Array, view: jax.Array) -> jax.Array:
    """Return the attention transforms [B, 3] of images that theta [B, 3] is of their views.

    Args:
      theta: (s, tx, ty) of what `turn` makes of the images.
      view: bool [B, 3], as `turn` takes it.
    """
    place = theta[:, 1:] * jnp.where(view[:, 1:], -1, 1)
    place = jnp.where(view[:, :1], place[:, ::-1], place)
    return jnp.concatenate([theta[:, :1], place], axis=-1)


class Encoder(nnx.Module):
    """What the encoding function e of Eq. 8 is made of: a trained CNN's three layers."""

    def __init__(self, classifier: CNN):
        """Read a classifier's activations."""
        self.classifier = classifier

    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """Return each layer's activations [B, K] of images x [B, H, W, C]."""
        return [flatten(a) if a.ndim > 2 else a for a in self.classifier.activations(x)]


def descriptor(
    activations: Callable[[jax.Array], list[jax.Array]], images: jax.Array
) -> Callable[[jax.Array], jax.Array]:
    """Return the encoding function e of Eq. 8: the layers' activations, balanced and joined.

    As they are, squared distances are thousands, and a margin of 1 means nothing; and the largest
    layers decide alone, which hardly feel whether a digit is in the middle of its crop. So each
    layer is divided by a constant, such that they weigh the same and descriptors have a mean square
    length of 1.

    Args:
      activations: gives the layers [B, K] of images [B, H, W, C].
      images: [N, H, W, C] float, what the means are over.
    """
    layers = activations(images)
    scales = [jnp.sqrt(len(layers) * jnp.mean(jnp.sum(a**2, axis=-1))) for a in layers]

    def encode(x: jax.Array) -> jax.Array:
        scaled = [a / scale for a, scale in zip(activations(x), scales, strict=True)]
        return jnp.concatenate(scaled, axis=-1)

    return encode


def triplet_hinge(
    found: jax.Array, others: jax.Array, random: jax.Array, *, margin: float = 1.0
) -> jax.Array:
    """Return each image's share of the co-localisation loss (Eq. 8), over all other images.

    The mean over m != n of max(0, |e_n - e_m|^2 - |e_n - r_n|^2 + margin); Eq. 8 has sums.

    Args:
      found: [N, K] float, e_n: descriptors of the crops that were found, one an image.
      others: [N, K], e_m: the same ones, apart so that gradients can be kept from them.
      random: [N, K], r_n: descriptors of random crops of the same images.
      margin: alpha.

    Returns:
      [N].
    """
    count = len(found)
    to_random = jnp.sum((found - random) ** 2, axis=-1)
    squares = jnp.sum(found**2, axis=-1)[:, None] + jnp.sum(others**2, axis=-1)[None]
    hinge = jnp.maximum(0, squares - 2 * found @ others.T - to_random[:, None] + margin)
    return jnp.sum(jnp.where(np.eye(count, dtype=bool), 0, hinge), axis=-1) / (count - 1)
