"""The spatial transformer module: localisation network, grid generator, sampler (Fig. 2)."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from stn_jax.geometry import Transform, get_transform, sample
from stn_jax.geometry.checks import at_least_float32, spatial_shape
from stn_jax.geometry.sampling import check_options


class SpatialTransformer(nnx.Module):
    """Warp a feature map by a transform predicted from it (Sect. 3).

    Can stand at any depth and any number of times. Before training it is the identity: the
    regression layer has zero weights and the identity's parameters as bias (Sect. 4.2, A.4). It
    returns a pair, the warped map and theta, and so is no member for `nnx.Sequential`.

    Attributes:
      localisation: the localisation network.
      regression: the final layer, features to theta.
      transform: the family of warps.
      output_shape: (H', W'), of volumes (D', H', W'), or None for the input's size.
    """

    def __init__(
        self,
        localisation: Callable[[jax.Array], jax.Array],
        transform: str | Transform = "affine",
        output_shape: Sequence[int] | None = None,
        *,
        kernel: str = "bilinear",
        padding: str = "zeros",
        align_corners: bool = True,
        rngs: nnx.Rngs,
    ):
        """Build a transformer around a localisation network.

        Args:
          localisation: maps the input to features [B, F], with F as its `num_features`.
          transform: a name in `geometry.TRANSFORMS`, or a `geometry.Transform`.
          output_shape: (H', W') or (D', H', W') of the output; by default the input's size.
          kernel: as in `geometry.sample`.
          padding: as in `geometry.sample`.
          align_corners: as in `geometry.sample`.
          rngs: unused by the zero weights, but part of every layer's signature.

        Raises:
          ValueError: if there is no such transform, kernel or padding, or `output_shape` is not of
            positive sizes, one an axis of the transform's.
          TypeError: if the localisation network does not say how many features it gives.
        """
        if not hasattr(localisation, "num_features"):
            raise TypeError(
                f"the localisation network {type(localisation).__name__} needs an attribute "
                "num_features: the width of the features that it returns."
            )
        self.localisation = localisation
        self.transform = get_transform(transform)
        if output_shape is not None:
            name = f"output_shape of transform '{self.transform.name}'"
            output_shape = spatial_shape(output_shape, dims=(self.transform.dims,), name=name)
        self.output_shape = output_shape
        check_options(kernel, padding)
        self.kernel, self.padding, self.align_corners = kernel, padding, align_corners
        identity = self.transform.identity
        self.regression = nnx.Linear(
            localisation.num_features,
            self.transform.num_params,
            kernel_init=nnx.initializers.zeros,
            bias_init=lambda key, shape, dtype: jnp.asarray(identity, dtype).reshape(shape),
            rngs=rngs,
        )

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Warp x.

        Args:
          x: [B, H, W, C] float; [B, D, H, W, C] if the transform warps volumes.

        Returns:
          The warped map, [B, H', W', C] or [B, D', H', W', C], in x's dtype, and theta [B, P],
          float32 (or float64).
        """
        theta = self.regression(self.localisation(x))
        theta = theta.astype(at_least_float32(theta.dtype))
        shape = x.shape[1:-1] if self.output_shape is None else self.output_shape
        grid = self.transform.grid(theta, shape, align_corners=self.align_corners)
        warped = sample(
            x, grid, kernel=self.kernel, padding=self.padding, align_corners=self.align_corners
        )
        return warped, theta


class ParallelTransformers(nnx.Module):
    """Transformers side by side on one input, their outputs joined along the channels (Sect. 3.4).

    Can stand wherever a single one does.

    Attributes:
      members: the transformers; their transforms have one number of parameters.
    """

    def __init__(self, members: Sequence[SpatialTransformer]):
        """Put the transformers side by side.

        Raises:
          ValueError: if there are none, or if they differ in the number of parameters or in the
            size of their output.
        """
        if not members:
            raise ValueError("there has to be one transformer at least.")
        for what, values in {
            "numbers of parameters": [member.transform.num_params for member in members],
            "output shapes": [member.output_shape for member in members],
        }.items():
            if len(set(values)) > 1:
                raise ValueError(f"parallel transformers need equal {what}, got {values}.")
        self.members = nnx.List(members)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Warp x by each transformer.

        Args:
          x: [B, H, W, C] float.

        Returns:
          The warped maps [B, H', W', N * C], all channels of the first transformer first, and
          theta [B, N, P], float32 (or float64).
        """
        warped, theta = zip(*(member(x) for member in self.members), strict=True)
        return jnp.concatenate(warped, axis=-1), jnp.stack(theta, axis=1)
