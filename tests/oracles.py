"""Slow, literal references in NumPy float64, written from the paper and from nothing else here.

Images are [B, H, W, C] or [B, D, H, W, C]; points are [B, ..., N] with last axis (x, y[, z]).
"""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

Kernel = Callable[[np.ndarray, int], np.ndarray]


def bilinear(x: np.ndarray, m: int) -> np.ndarray:
    """Eq. 5, one axis."""
    return np.maximum(0, 1 - np.abs(x - m))


def bilinear_slope(x: np.ndarray, m: int) -> np.ndarray:
    """Eq. 7, one axis, as the derivative from the right: the two differ at |x - m| in {0, 1}."""
    return np.where((m - 1 <= x) & (x < m), 1.0, np.where((m <= x) & (x < m + 1), -1.0, 0.0))


def integer(x: np.ndarray, m: int) -> np.ndarray:
    """Eq. 4, one axis: the pixel at floor(x + 0.5)."""
    return np.where(np.floor(x + 0.5) == m, 1.0, 0.0)


def integer_slope(x: np.ndarray, m: int) -> np.ndarray:
    """Return the sub-gradient of Eq. 4: zero."""
    return np.zeros_like(x)


def weights(points: np.ndarray, pixel: Sequence[int], kernels: Sequence[Kernel]) -> np.ndarray:
    """Return k(x; m) k(y; n) of one pixel, indexed (n, m), with one kernel an axis (x, y[, z])."""
    return np.prod([k(points[..., i], pixel[-1 - i]) for i, k in enumerate(kernels)], axis=0)


def kernel_sum(image: np.ndarray, points: np.ndarray, kernels: Sequence[Kernel]) -> np.ndarray:
    """Eq. 3, and Eq. 9 in volumes: sum over *all* pixels; points in pixels."""
    total = np.zeros((*points.shape[:-1], image.shape[-1]))
    for pixel in np.ndindex(image.shape[1:-1]):
        value = np.expand_dims(image[:, *pixel], tuple(range(1, points.ndim - 1)))
        total += weights(points, pixel, kernels)[..., None] * value
    return total


def image_gradient(
    shape: Sequence[int], points: np.ndarray, cotangent: np.ndarray, kernels: Sequence[Kernel]
) -> np.ndarray:
    """Eq. 6 without its stray sum: the derivative in a pixel is that pixel's weight alone."""
    gradient = np.zeros((len(points), *shape, cotangent.shape[-1]))
    for pixel in np.ndindex(*shape):
        weighted = weights(points, pixel, kernels)[..., None] * cotangent
        gradient[:, *pixel] = weighted.sum(axis=tuple(range(1, points.ndim - 1)))
    return gradient


def normalised(points: np.ndarray, shape: Sequence[int], align_corners: bool) -> np.ndarray:
    """Convert from pixels: -1 and +1 are the centres of the border pixels, or their outer edges."""
    sizes = np.array(shape[::-1], np.float64)
    half = (sizes - 1) / 2 if align_corners else sizes / 2
    return (points - (sizes - 1) / 2) / np.where(half > 0, half, 1)


def regular_points(shape: Sequence[int], align_corners: bool) -> np.ndarray:
    """Return the pixel centres of an image in normalised coordinates, [*shape, N]."""
    points = np.array([pixel[::-1] for pixel in np.ndindex(*shape)])
    return normalised(points, shape, align_corners).reshape(*shape, len(shape))


def apply_homography(matrix: np.ndarray, points: np.ndarray, smallest: float) -> np.ndarray:
    """Map points [P, 2] by one homography; NaN where the denominator is not above `smallest`."""
    mapped = np.full(points.shape, np.nan)
    for i, (x, y) in enumerate(points):
        u, v, w = np.asarray(matrix, np.float64) @ [x, y, 1.0]
        if w > smallest:
            mapped[i] = u / w, v / w
    return mapped


def thin_plate_spline(controls: np.ndarray, values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return Bookstein's spline through values [K, 2] at controls [K, 2], read at points."""

    def u(p: np.ndarray, q: np.ndarray) -> float:
        squared = float(np.sum((p - q) ** 2))
        return squared * np.log(squared) if squared else 0.0

    count = len(controls)
    system, right = np.zeros((count + 3, count + 3)), np.zeros((count + 3, 2))
    for i in range(count):
        system[i, :count] = [u(controls[i], controls[j]) for j in range(count)]
        system[i, count:] = system[count:, i] = 1, *controls[i]
        right[i] = values[i]
    solution = np.linalg.solve(system, right)
    features = [[*(u(p, c) for c in controls), 1, *p] for p in points]
    return np.array(features) @ solution


def import_torch():
    """Return PyTorch, or skip the calling test and say how to get it."""
    return pytest.importorskip("torch", reason="needs PyTorch: pip install 'stn-jax[bench]'")


def torch_sample(
    image: np.ndarray,
    grid: np.ndarray,
    cotangent: np.ndarray,
    *,
    kernel: str,
    padding: str,
    align_corners: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return PyTorch's samples, and its gradients in image and grid."""
    torch = import_torch()
    u = torch.tensor(np.moveaxis(image, -1, 1), requires_grad=True)
    g = torch.tensor(grid, requires_grad=True)
    v = torch.nn.functional.grid_sample(
        u, g, mode=kernel, padding_mode=padding, align_corners=align_corners
    )
    v.backward(torch.tensor(np.moveaxis(cotangent, -1, 1)))
    channels_last = [np.moveaxis(a.numpy(), 1, -1) for a in (v.detach(), u.grad)]
    return *channels_last, g.grad.numpy()
