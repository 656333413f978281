"""Figure 4: the boxes of a co-localisation run while it is trained, as a strip and animated."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stn_jax.reporting.animations import save_frames
from stn_jax.reporting.figures import BLUE, DPI, GREY, ORANGE, Axes, draw_image, new_figure

PANEL = 1.2  # inches
STRIP = (0, 60, 180, 300, 600, 900, 1500)  # steps of a strip, beside the last; Figure 4 ends at 180


@dataclass(frozen=True, eq=False)
class MovingBoxes:
    """Boxes of N images after each of S numbers of steps; (left, top, right, bottom), in pixels.

    Attributes:
      name: of the run, and from where the boxes are.
      images: [N, H, W], 0 to 1.
      steps: [S].
      boxes: [S, N, 4], those found.
      squares: [N, 4], the true ones.
      overlaps: [S, N], intersection over union.
    """

    name: str
    images: np.ndarray
    steps: list[int]
    boxes: np.ndarray
    squares: np.ndarray
    overlaps: np.ndarray


def save_strip(moving: MovingBoxes, path: Path) -> None:
    """Draw a row an image and a column a step, with the overlap of the box and the true one."""
    shown = [s for s, step in enumerate(moving.steps) if step in STRIP or step == moving.steps[-1]]
    count = len(moving.images)
    figure = new_figure(PANEL * len(shown), (PANEL + 0.15) * count + 0.45)
    panels = figure.subplots(count, len(shown), squeeze=False)
    for k, s in enumerate(shown):
        panels[0, k].set_title(f"step {moving.steps[s]}", fontsize=8, color=GREY, pad=3)
        for n in range(count):
            _draw(panels[n, k], moving, s, n)
            overlap = f"IoU {moving.overlaps[s, n]:.2f}"
            panels[n, k].set_xlabel(overlap, fontsize=7, color=GREY, labelpad=2)
    figure.suptitle(moving.name, fontsize=10, x=0.01, ha="left")
    figure.savefig(path, dpi=DPI)


def save_animation(moving: MovingBoxes, path: Path) -> None:
    """Draw a GIF without end, a frame for each of the steps, the images side by side."""

    def frame(s: int):
        count = len(moving.images)
        figure = new_figure(PANEL * count + 0.1, PANEL + 0.4)
        for n, axes in enumerate(figure.subplots(1, count, squeeze=False)[0]):
            _draw(axes, moving, s, n)
        figure.suptitle(f"step {moving.steps[s]}", fontsize=9, color=GREY)
        return figure

    save_frames(map(frame, range(len(moving.steps))), path)


def _draw(axes: Axes, moving: MovingBoxes, s: int, n: int) -> None:
    draw_image(axes, moving.images[n])
    for box, look in ((moving.squares[n], (BLUE, ":")), (moving.boxes[s, n], (ORANGE, "-"))):
        left, top, right, bottom = box - 0.5  # from edges to Matplotlib's pixel centres
        color, style = look
        axes.plot(
            [left, right, right, left, left], [top, top, bottom, bottom, top], style, color=color
        )
    height, width = moving.images[n].shape
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
