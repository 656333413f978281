"""Tensors that are the same on every machine and for every package: random bits, by name."""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

# Source -> (height, width) of its images: small, not square, with odd sizes on the way where the
# network takes them (BN-Inception's branches only fit for multiples of 32).
SIZES = {
    "tf_slim_inception_v2": (75, 96),
    "pytorch_bn_inception": (64, 96),
    "torchvision_inception_v3": (107, 139),
    "folded_inception_v3": (107, 139),
}


def draw(name: str, shape: Sequence[int], low: float, high: float) -> np.ndarray:
    """Return uniform numbers, float32; NumPy promises that bits stay the same, not numbers."""
    bits = np.random.PCG64(zlib.crc32(name.encode())).random_raw(int(np.prod(shape)))
    return (low + (high - low) * (bits >> 11) / 2.0**53).astype(np.float32).reshape(shape)


def image(source: str) -> np.ndarray:
    """Return an image [1, H, W, 3] for a source's network."""
    return draw("image", (1, *SIZES[source], 3), -1, 1)


def fill(shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Return tensors of the given shapes that keep activations of a moderate size.

    Kernels are [F, C, kh, kw] in PyTorch, [kh, kw, C, F] in TensorFlow; others have one axis.
    """
    tensors = {}
    for name, shape in shapes.items():
        torch = "/" not in name
        if len(shape) > 1:
            inputs = np.prod(shape[1:] if torch else shape[:-1])
            if name.endswith("depthwise_weights"):
                inputs = np.prod(shape[:2])
            limit = np.sqrt(6 / inputs)
            tensors[name] = draw(name, shape, -limit, limit)
        elif any(part in name for part in ("var", "bn.weight")):
            tensors[name] = draw(name, shape, 0.5, 1.5)
        else:
            tensors[name] = draw(name, shape, -0.2, 0.2)
    return tensors
