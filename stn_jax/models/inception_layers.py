"""What Inception networks are made of: convolutions with batch normalisation, pooling, branches.

Public weights of one name come from implementations that differ in details: which zeros surround a
map before a window with a stride, whether average pooling counts them. A network with the other
detail takes the weights without an error and is wrong, so every step names its own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from stn_jax.models.layers import he_normal

STATISTICS = ("stored", "batch")
# Share of the stored statistics that a training step with those of the batch keeps.
MOMENTUM = 0.99


class Conv(NamedTuple):
    """A convolution, followed by batch normalisation and ReLU.

    Attributes:
      name: of the layer, within its block.
      filters: how many.
      size: (height, width) of the window.
      stride: pixels from one output to the next.
      padding: a key of `PADDINGS`.
      normalised: whether it has batch normalisation, or a bias instead.
    """

    name: str
    filters: int
    size: tuple[int, int]
    stride: int = 1
    padding: str = "same"
    normalised: bool = True


class Pool(NamedTuple):
    """Pooling over 3x3 windows.

    Attributes:
      kind: "max"; "average" of nine values, zeros around the map among them; or "average_inside"
        of those within the map only.
      stride: pixels from one output to the next.
      padding: a key of `PADDINGS`.
    """

    kind: str
    stride: int = 1
    padding: str = "same"


class Fork(NamedTuple):
    """Sequences of steps side by side, their outputs joined along the channels."""

    branches: tuple["Block", ...]


Block: TypeAlias = tuple[Conv | Pool | Fork, ...]


def _same(size: int, window: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def _symmetric(size: int, window: int, stride: int) -> tuple[int, int]:
    return (window - 1) // 2, (window - 1) // 2


def _valid(size: int, window: int, stride: int) -> tuple[int, int]:
    return 0, 0


def _partial(size: int, window: int, stride: int) -> tuple[int, int]:
    return 0, -(size - window) % stride


# Name -> function of (size of an axis, window, stride) giving what is added before and behind it.
# "same" is TensorFlow's: ceil(size / stride) outputs, the odd zero behind. "symmetric" is what
# Caffe's and PyTorch's convolutions have; with a stride it is another one. "partial" adds only what
# a last window lacks, as their pooling in ceil mode does.
PADDINGS: dict[str, Callable[[int, int, int], tuple[int, int]]] = {
    "same": _same,
    "symmetric": _symmetric,
    "valid": _valid,
    "partial": _partial,
}


class ConvUnit(nnx.Module):
    """A convolution, batch normalisation (Ioffe & Szegedy 2015), ReLU.

    Attributes:
      kernel: [kh, kw, C, F].
      bias: [F], batch normalisation's beta, or the convolution's own without normalisation.
      scale: [F], batch normalisation's gamma.
      mean: [F], stored statistics, which are state and not trained.
      var: [F], likewise.
    """

    def __init__(
        self,
        in_features: int,
        conv: Conv,
        *,
        epsilon: float | None,
        statistics: str,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        """Build the unit, with He normal weights; see `Inception` for the options."""
        shape = (*conv.size, in_features, conv.filters)
        epsilon = epsilon if conv.normalised else None
        self.kernel = nnx.Param(he_normal(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(conv.filters))
        if epsilon is not None:
            self.scale = nnx.Param(jnp.ones(conv.filters))
            self.mean = nnx.BatchStat(jnp.zeros(conv.filters))
            self.var = nnx.BatchStat(jnp.ones(conv.filters))
        self.conv, self.epsilon, self.dtype = conv, epsilon, dtype
        self.statistics = statistics
        self.use_running_average = True  # Flax's name: train() and eval() set it.

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return [B, H', W', F] of x [B, H, W, C], both of the unit's dtype."""
        kernel, bias = self.kernel[...], self.bias[...]
        if self.epsilon is None:
            return self._activate(convolve(x, kernel.astype(self.dtype), self.conv), bias)
        if self.statistics == "stored" or self.use_running_average:
            # Within the kernel the normalisation takes no memory, nor does its gradient.
            gain = self.scale[...] * lax.rsqrt(self.var[...] + self.epsilon)
            kernel = (kernel * gain[None, None, None]).astype(self.dtype)
            return self._activate(convolve(x, kernel, self.conv), bias - self.mean[...] * gain)
        y = convolve(x, kernel.astype(self.dtype), self.conv).astype(jnp.float32)
        mean, var = jnp.mean(y, axis=(0, 1, 2)), jnp.var(y, axis=(0, 1, 2))
        for stored, new in ((self.mean, mean), (self.var, var)):
            stored[...] = MOMENTUM * stored[...] + (1 - MOMENTUM) * new
        gain = self.scale[...] * lax.rsqrt(var + self.epsilon)
        return self._activate(y * gain[None, None, None], bias - mean * gain)

    def _activate(self, x: jax.Array, bias: jax.Array) -> jax.Array:
        return jax.nn.relu(x + bias[None, None, None].astype(x.dtype)).astype(self.dtype)


def convolve(x: jax.Array, kernel: jax.Array, conv: Conv) -> jax.Array:
    """Convolve (cross-correlate) x [B, H, W, C] with a kernel [kh, kw, C, F] of one dtype."""
    if conv.size == (1, 1) and conv.stride == 1:
        return x @ kernel[0, 0]  # On CPUs the gradient takes two thirds of the time.
    margins = _margins(x, conv.size, conv.stride, conv.padding)
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (conv.stride,) * 2, margins, dimension_numbers=layout
    )


def pool(x: jax.Array, step: Pool) -> jax.Array:
    """Pool x [B, H, W, C] over 3x3 windows.

    Raises:
      ValueError: if there is no such kind.
    """
    window, strides = (1, 3, 3, 1), (1, step.stride, step.stride, 1)
    margins = ((0, 0), *_margins(x, (3, 3), step.stride, step.padding), (0, 0))

    def reduce(x: jax.Array, start: float, function: Callable[..., jax.Array]) -> jax.Array:
        return lax.reduce_window(x, start, function, window, strides, margins)

    if step.kind == "max":
        return reduce(x, -jnp.inf, lax.max)
    if step.kind == "average":
        return reduce(x, 0.0, lax.add) / 9
    if step.kind == "average_inside":
        inside = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
        return reduce(x, 0.0, lax.add) / reduce(inside, 0.0, lax.add)
    raise ValueError(f"pooling is 'max', 'average' or 'average_inside', got {step.kind!r}.")


def _margins(
    x: jax.Array, window: Sequence[int], stride: int, padding: str
) -> list[tuple[int, int]]:
    """Return what is added above and below, left and right of maps [B, H, W, C]."""
    add = PADDINGS[padding]
    return [add(size, k, stride) for size, k in zip(x.shape[1:3], window, strict=True)]


def run_block(block: Block, convs: Mapping[str, ConvUnit], x: jax.Array) -> jax.Array:
    """Take x [B, H, W, C] through the steps of a block, with its units by name."""
    for step in block:
        if isinstance(step, Conv):
            x = convs[step.name](x)
        elif isinstance(step, Pool):
            x = pool(x, step)
        else:
            x = jnp.concatenate([run_block(part, convs, x) for part in step.branches], axis=-1)
    return x


def convs_of(block: Block, in_features: int) -> tuple[dict[str, tuple[int, Conv]], int]:
    """Return the convolutions of a block by name, with their input's channels, and its output's."""
    found: dict[str, tuple[int, Conv]] = {}
    features = in_features
    for step in block:
        if isinstance(step, Conv):
            found[step.name] = (features, step)
            features = step.filters
        elif isinstance(step, Fork):
            parts = [convs_of(part, features) for part in step.branches]
            found |= {name: conv for convs, _ in parts for name, conv in convs.items()}
            features = sum(width for _, width in parts)
    return found, features


def block_output(block: Block, size: tuple[int, int]) -> tuple[int, int]:
    """Return the size (h, w) of what a block makes of maps of a size (H, W); 0 if too small.

    Raises:
      ValueError: if its branches make different ones, which cannot be joined.
    """
    for step in block:
        if isinstance(step, Fork):
            sizes = {block_output(branch, size) for branch in step.branches}
            if len(sizes) > 1:
                made = " and ".join(f"{h}x{w}" for h, w in sorted(sizes))
                raise ValueError(f"its branches make maps of {made} from {size[0]}x{size[1]}.")
            (size,) = sizes
            continue
        window = step.size if isinstance(step, Conv) else (3, 3)
        add = PADDINGS[step.padding]
        size = tuple(
            max((n + sum(add(n, k, step.stride)) - k) // step.stride + 1, 0)
            for n, k in zip(size, window, strict=True)
        )
    return size
