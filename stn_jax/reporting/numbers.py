"""Figures of house numbers: where several transformers in turn look (Table 2, right b)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stn_jax.reporting.figures import (
    BLUE,
    DPI,
    GREY,
    GRIDS,
    MARGIN,
    VERMILION,
    Axes,
    new_figure,
    outline,
)

# Regions that reach out of an image are shown whole as far as this from its centre, in its sizes.
MAX_REACH = 1.2


@dataclass(frozen=True, eq=False)
class NumberExamples:
    """What a run's T transformers do to N example images.

    Attributes:
      name: the run's.
      inputs: [N, H, W, 3], 0 to 1.
      regions: [N, T, h, w, 2] points of the input, in pixels, that an evenly spaced h x w of the
        map behind the first 1, 2, ... T transformers reads: their transforms multiplied out.
      outputs: [N, H, W, 3], the input as all of them together would warp it.
      labels: [N] the numbers.
      predictions: [N] what the network reads.
      right: [N] whether it is, at every position, those behind the end included.
    """

    name: str
    inputs: np.ndarray
    regions: np.ndarray
    outputs: np.ndarray
    labels: list[str]
    predictions: list[str]
    right: list[bool]


def save_numbers(examples: NumberExamples, path: Path) -> None:
    """Draw a column an example: input, the regions on it from the first to the last, output."""
    count, transformers = examples.regions.shape[:2]
    figure = new_figure(1.6 * count + 0.4, 5.6)
    panels = figure.subplots(3, count, squeeze=False)
    headings = ("input", "regions" if transformers > 1 else "region", "all of it, warped")
    for axes, heading in zip(panels[:, 0], headings, strict=True):
        axes.set_ylabel(heading, fontsize=9, color=GREY)
    for i, (above, middle, below) in enumerate(panels.T):
        for axes, image in ((above, examples.inputs[i]), (middle, examples.inputs[i])):
            _draw(axes, image)
        _draw(below, examples.outputs[i])
        _draw_regions(middle, examples.regions[i], examples.inputs.shape[1:3], label=i == 0)
        above.set_title(examples.labels[i], fontsize=10)
        below.set_xlabel(
            f"read as {examples.predictions[i] or 'nothing'}",
            fontsize=9,
            color=BLUE if examples.right[i] else VERMILION,
        )
    if transformers > 1:
        figure.legend(loc="outside lower center", ncols=transformers, frameon=False, fontsize=9)
    figure.suptitle(examples.name, fontsize=10, x=0.01, ha="left")
    figure.savefig(path, dpi=DPI)


def _draw(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image, vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _draw_regions(axes: Axes, regions: np.ndarray, shape: tuple[int, int], *, label: bool) -> None:
    outlines = [outline(region) for region in regions]
    for number, points in enumerate(outlines, 1):
        after = "after 1 transformer" if number == 1 else f"after {number}"
        look = {"color": GRIDS[(number - 1) % len(GRIDS)], "lw": 1.5}
        axes.plot(*points.T, label=after if label else None, **look)
    size, centre = max(shape), (np.array(shape[::-1]) - 1) / 2
    reach = max(np.abs(points - centre).max() for points in outlines) + 1
    half = np.clip(reach, (0.5 + MARGIN) * size, MAX_REACH * size)
    (left, right), (top, bottom) = ((k - half, k + half) for k in centre)
    axes.set(xlim=(left, right), ylim=(bottom, top), facecolor="#DDDDDD")
