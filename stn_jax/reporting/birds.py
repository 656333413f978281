"""Figures of birds: where parallel transformers look (Table 3, right)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stn_jax.reporting.figures import BLUE, DPI, GREY, MARGIN, VERMILION, new_figure

# Of the transformers in turn: red and green first, as in the paper.
COLOURS = (VERMILION, "#009E73", "#E69F00", "#56B4E9")
NAME_LENGTH = 22


@dataclass(frozen=True, eq=False)
class BirdExamples:
    """What a run's T parallel transformers do to N example images.

    Attributes:
      name: the run's.
      inputs: [N, H, W, 3], 0 to 1.
      corners: [N, T, 4, 2], those of each crop in turn around it, in pixels of the input.
      outputs: [N, T, h, w, 3], the crops.
      labels: [N] names of the classes.
      predictions: [N] likewise, those that the network reads.
    """

    name: str
    inputs: np.ndarray
    corners: np.ndarray
    outputs: np.ndarray
    labels: list[str]
    predictions: list[str]


def save_birds(examples: BirdExamples, path: Path) -> None:
    """Draw a column an example: the boxes on the input, and each crop in its box's colour."""
    count, transformers = examples.corners.shape[:2]
    figure = new_figure(1.8 * count + 0.3, 1.8 * (1 + transformers) + 0.6)
    panels = figure.subplots(1 + transformers, count, squeeze=False)
    height, width = examples.inputs.shape[1:3]
    margin = MARGIN / 2 * max(height, width)
    for i, (above, *below) in enumerate(panels.T):
        above.imshow(np.clip(examples.inputs[i], 0, 1))
        above.set(xlim=(-0.5 - margin, width - 0.5 + margin), facecolor="#DDDDDD")
        above.set(ylim=(height - 0.5 + margin, -0.5 - margin), xticks=[], yticks=[])
        above.set_title(shown(examples.labels[i]), fontsize=8)
        for number, axes in enumerate(below):
            colour = COLOURS[number]
            corners = examples.corners[i, number]
            above.plot(*np.concatenate([corners, corners[:1]]).T, color=colour, lw=2)
            axes.imshow(np.clip(examples.outputs[i, number], 0, 1))
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(edgecolor=colour, linewidth=2.5)
        right = examples.labels[i] == examples.predictions[i]
        below[-1].set_xlabel(
            f"read as {shown(examples.predictions[i])}",
            fontsize=8,
            color=BLUE if right else VERMILION,
        )
    for number, axes in enumerate(panels[1:, 0], 1):
        axes.set_ylabel(f"crop {number}", fontsize=9, color=GREY)
    figure.suptitle(examples.name, fontsize=10, x=0.01, ha="left")
    figure.savefig(path, dpi=DPI)


def shown(name: str) -> str:
    """Return the name of a class for people: without number and underscores, if long cut off."""
    text = name.partition(".")[2].replace("_", " ") or name
    return text if len(text) <= NAME_LENGTH else f"{text[: NAME_LENGTH - 1]}…"
