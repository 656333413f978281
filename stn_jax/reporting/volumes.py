"""Figures of volumes: what a 3-D spatial transformer makes of them (Fig. 5)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stn_jax.reporting.figures import (
    BLUE,
    DPI,
    GREY,
    ORANGE,
    VERMILION,
    Axes,
    draw_image,
    new_figure,
)

SLICES = 5
INK = 0.5  # voxels above it are drawn


@dataclass(frozen=True, eq=False)
class VolumeExamples:
    """What a run's 3-D transformer does to N example volumes.

    Attributes:
      name: the run's.
      inputs: [N, D, H, W], 0 to 1.
      corners: [N, 2, 2, 2, 3] points (x, y, z) of the input, in voxels, that the corners of the
        output read, by z, y, x of the output.
      outputs: [N, D', H', W'], the warped volumes.
      labels: [N], the true classes.
      predictions: [N].
    """

    name: str
    inputs: np.ndarray
    corners: np.ndarray
    outputs: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray


def save_volumes(examples: VolumeExamples, path: Path) -> None:
    """Draw a row an example: input, its projection, slices of the output, and their sum.

    The input is shown with the part of it that the output reads, and the face of that part which
    the projection is seen from. Projections are sums over depth, the brightest pixel white.
    """
    count = len(examples.labels)
    # In inches; every panel gets exactly its place.
    solid, panel, slice_, space, top = 2.0, 1.3, 0.8, 0.08, 0.6
    width = solid + 2 * panel + SLICES * (slice_ + space) + 8 * space
    height = top + count * (solid + space)
    figure = new_figure(width, height, layout=None)
    figure.text(0.01, 1 - 0.15 / height, examples.name, fontsize=10, va="center")

    for i in range(count):
        middle = height - top - i * (solid + space) - solid / 2
        left = 0.0

        def add_panel(size: float, heading: str, i=i, middle=middle, **kind) -> Axes:
            nonlocal left
            place = (left / width, (middle - size / 2) / height, size / width, size / height)
            axes = figure.add_axes(place, **kind)
            if i == 0:
                figure.text(
                    (left + size / 2) / width,
                    1 - (top - 0.15) / height,
                    heading,
                    fontsize=9,
                    color=GREY,
                    ha="center",
                )
            left += size + space
            return axes

        axes = add_panel(solid, "input, region", projection="3d")
        _draw_volume(axes, examples.inputs[i], examples.corners[i])
        axes = add_panel(panel, "its projection")
        _draw_projection(axes, examples.inputs[i])
        axes.set_xlabel(f"digit {examples.labels[i]}", fontsize=9)
        left += 2 * space
        brightest = max(examples.outputs[i].max(), 1e-6)
        for n, k in enumerate(shown_slices(examples.outputs[i])):
            axes = add_panel(slice_, "output's slices" if n == SLICES // 2 else "")
            draw_image(axes, examples.outputs[i, k] / brightest)
            axes.set_xlabel(f"z {k + 1}", fontsize=8, color=GREY)
        left += 2 * space
        axes = add_panel(panel, "their sum")
        _draw_projection(axes, examples.outputs[i])
        right = examples.predictions[i] == examples.labels[i]
        axes.set_xlabel(
            f"read as {examples.predictions[i]}", fontsize=9, color=BLUE if right else VERMILION
        )
    figure.savefig(path, dpi=DPI)


def shown_slices(volume: np.ndarray) -> np.ndarray:
    """Return `SLICES` indices evenly from the first to the last slice with ink in it.

    Where ink is in fewer, slices around them are shown, too; a shallower volume's come repeatedly.
    """
    inked = np.flatnonzero(volume.max(axis=(1, 2)) > 0.1 * volume.max())
    first, last = inked[[0, -1]] if inked.size else (0, len(volume) - 1)
    if last - first < SLICES <= len(volume):
        first = np.clip((first + last - SLICES + 1) // 2, 0, len(volume) - SLICES)
        last = first + SLICES - 1
    return np.rint(np.linspace(first, last, SLICES)).astype(int)


def edges(corners: np.ndarray) -> list[np.ndarray]:
    """Return the twelve edges [2, 3] of a box with corners [2, 2, 2, 3]."""
    along = [np.moveaxis(corners, axis, 2).reshape(4, 2, 3) for axis in range(3)]
    return list(np.concatenate(along))


def _draw_projection(axes: Axes, volume: np.ndarray) -> None:
    image = volume.sum(axis=0)
    draw_image(axes, image / max(image.max(), 1e-6))


def _draw_volume(axes: Axes, volume: np.ndarray, corners: np.ndarray) -> None:
    """Draw ink as points, seen from the side that the projection is seen from, and the region."""
    # The figure's vertical axis is the volume's y, which points down.
    depth, height, width = volume.shape
    z, y, x = np.nonzero(volume > INK)
    shade = volume[z, y, x] * (1 - 0.6 * z / depth)
    axes.scatter(x, z, y, c=shade, cmap="gray_r", vmin=0, vmax=1, s=3, marker="s", lw=0)
    for edge in edges(corners):
        axes.plot(*edge[:, [0, 2, 1]].T, color=ORANGE, lw=0.8, alpha=0.8)
    front = corners[0][[0, 0, 1, 1, 0], [0, 1, 1, 0, 0]]
    axes.plot(*front[:, [0, 2, 1]].T, color=ORANGE, lw=2)
    axes.set(xlim=(0, width), ylim=(0, depth), zlim=(height, 0))
    axes.set(xticklabels=[], yticklabels=[], zticklabels=[])
    axes.tick_params(length=0)
    axes.set_box_aspect((width, depth, height))
    axes.view_init(elev=18, azim=-65)
