"""Figures of traffic signs: frames of tracks, and how a transformer holds the sign still."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stn_jax.reporting.animations import save_frames
from stn_jax.reporting.figures import (
    BLUE,
    DPI,
    GREY,
    MARGIN,
    ORANGE,
    VERMILION,
    Axes,
    Figure,
    new_figure,
    outline,
)


@dataclass(frozen=True, eq=False)
class TrackExamples:
    """What a run's first transformer does to F frames of each of N tracks.

    Attributes:
      name: the run's, and whether it was trained on the tracks.
      inputs: [N, F, H, W, 3], 0 to 1.
      corners: [N, F, 2, 2, 2] points of the input that the corners of the output read.
      boxes: [N, F, 4], the sign's (left, top, right, bottom), outer edges in pixels.
      outputs: [N, F, H, W, 3].
      labels: [N], the tracks' classes.
      predictions: [N, F], the classes that the network reads.
    """

    name: str
    inputs: np.ndarray
    corners: np.ndarray
    boxes: np.ndarray
    outputs: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray


def save_tracks(examples: TrackExamples, path: Path) -> None:
    """Draw two rows a track, frames from left to right: the region on the input, the output.

    Dots are on the region's corners; the dashed box is the sign's.
    """
    count, frames = examples.predictions.shape
    figure = new_figure(1.05 * frames + 0.5, 2.3 * count + 0.4)
    panels = figure.subplots(2 * count, frames, squeeze=False)
    for i in range(count):
        for f in range(frames):
            _draw(panels[2 * i : 2 * i + 2, f], examples, i, f)
        panels[2 * i, 0].set_ylabel(f"class {examples.labels[i]}", fontsize=9, color=GREY)
        panels[2 * i + 1, 0].set_ylabel("output", fontsize=9, color=GREY)
    figure.suptitle(examples.name, fontsize=10, x=0.01, ha="left")
    figure.savefig(path, dpi=DPI)


def save_motion(examples: TrackExamples, captions: Sequence[str], path: Path) -> None:
    """Draw a GIF without end: a column a track, the input with the region above the output.

    Args:
      examples: what is shown, frame after frame.
      captions: a text for each frame.
      path: of the file.
    """

    def frame(f: int) -> Figure:
        count = len(examples.labels)
        figure = new_figure(1.3 * count + 0.1, 3.2)
        panels = figure.subplots(2, count, squeeze=False)
        for i in range(count):
            _draw(panels[:, i], examples, i, f)
        figure.suptitle(f"{examples.name}\n{captions[f]}", fontsize=7, color=GREY)
        return figure

    save_frames(map(frame, range(len(captions))), path, photographs=True)


def save_overlap(
    name: str, steps: Sequence[int], overlap: Sequence[float], whole: float, path: Path
) -> None:
    """Draw how much a transformer's region and the sign's box overlap over the steps (G12).

    Args:
      name: the run's, and whether it was trained on the signs.
      steps: of the looks.
      overlap: at each, a mean of intersections over unions.
      whole: that of the whole image.
      path: of the file.
    """
    figure = new_figure(5, 3.1)
    axes = figure.subplots()
    axes.axhline(whole, color=GREY, lw=1, ls="--", label="whole image")
    axes.plot(steps, overlap, color=ORANGE, lw=1.5, label="region")
    axes.set_ylim(0, 1)
    axes.set_xlabel("step", fontsize=9, color=GREY)
    axes.set_title("overlap with the sign's box", fontsize=9, loc="left", color=GREY)
    axes.legend(frameon=False, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(name, fontsize=10, x=0.01, ha="left")
    figure.savefig(path, dpi=DPI)


def _draw(panels: Sequence[Axes], examples: TrackExamples, i: int, f: int) -> None:
    above, below = panels
    height, width = examples.inputs.shape[2:4]
    for axes, image in ((above, examples.inputs[i, f]), (below, examples.outputs[i, f])):
        axes.imshow(image, vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    corners = examples.corners[i, f]
    above.plot(*outline(corners).T, color=ORANGE, lw=1.5)
    above.plot(*corners.reshape(-1, 2).T, "o", color="white", mec=ORANGE, ms=4)
    left, top, right, bottom = examples.boxes[i, f] - 0.5  # from edges to pixel centres
    x, y = [left, right, right, left, left], [top, top, bottom, bottom, top]
    above.plot(x, y, "--", color="white", lw=0.8)
    margin = MARGIN / 2 * max(height, width)
    above.set(xlim=(-0.5 - margin, width - 0.5 + margin), facecolor="#DDDDDD")
    above.set(ylim=(height - 0.5 + margin, -0.5 - margin))
    right_class = examples.predictions[i, f] == examples.labels[i]
    below.set_xlabel(
        f"class {examples.predictions[i, f]}",
        fontsize=8,
        color=BLUE if right_class else VERMILION,
    )
