"""Figures from records and NumPy arrays: learning curves, and transformers at work.

Points are in pixels, (x, y), with 0 at the centre of the first pixel, as Matplotlib draws images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stn_jax.reporting.runs import Run

# Matplotlib is heavy, and imported only where it is used: not for its types either.
Axes = Figure = Any

# Of Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, VERMILION, GREY = "#0072B2", "#E69F00", "#D55E00", "#777777"
GRIDS = (ORANGE, "#56B4E9", "#009E73", "#CC79A7")  # of parallel transformers, in turn
DPI = 150
GRID_LINES = 8  # in each direction
# How far beyond an image its sampling grid is shown, as a share of the image's size.
MARGIN = 0.2


@dataclass(frozen=True, eq=False)
class Examples:
    """What a run's transformer does to N example images.

    Attributes:
      name: the run's.
      row: a short heading for the overview.
      inputs: [N, H, W], 0 to 1.
      grids: [N, h, w, 2] points of the input that an evenly spaced h x w of the output reads.
      outputs: [N, H', W'], the warped images.
      labels: [N], the true classes.
      predictions: [N].
      captions: N texts to go with the grids, or none.
    """

    name: str
    row: str
    inputs: np.ndarray
    grids: np.ndarray
    outputs: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    captions: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class ChannelExamples:
    """What a run's T parallel transformers do to N example images of C channels, a digit in each.

    Attributes:
      name: the run's.
      inputs: [N, C, H, W], 0 to 1.
      grids: [N, T, h, w, 2] points of the input that an evenly spaced h x w of the output reads.
      outputs: [N, T, C, H', W'], the warped images.
      digits: [N, C], the true classes.
      predictions: [N], of their sum.
    """

    name: str
    inputs: np.ndarray
    grids: np.ndarray
    outputs: np.ndarray
    digits: np.ndarray
    predictions: np.ndarray


# What curves show beside loss and error, if it was measured.
OTHERS = {"digit_error": "error a digit in %", "overlap": "overlap with the object's box"}


def save_curves(run: Run, path: Path) -> None:
    """Draw loss, error and `OTHERS` over the steps, a line a seed, from the record alone."""
    measured = {name for series in run.measured.values() for name in series.others}
    titles = {"loss": "loss", "error": "error in %"}
    titles |= {name: title for name, title in OTHERS.items() if name in measured}
    figure = new_figure(4 * len(titles), 3.1)
    for axes, (quantity, title) in zip(
        figure.subplots(1, len(titles)), titles.items(), strict=True
    ):
        _draw_curves(axes, run, quantity)
        axes.set_title(title, fontsize=9, loc="left", color=GREY)
        axes.set_xlabel("step", fontsize=9, color=GREY)
    if run.measured:
        figure.axes[0].legend(frameon=False, fontsize=9)
    figure.suptitle(_curves_title(run), fontsize=10, x=0.01, ha="left")
    figure.savefig(path, dpi=DPI)


def save_examples(examples: Examples, path: Path) -> None:
    """Draw a column an example: input, grid on the input, output, true and predicted class."""
    count = len(examples.labels)
    figure = new_figure(1.25 * count + 0.4, 4.6)
    panels = figure.subplots(3, count, squeeze=False)
    for axes, heading in zip(panels[:, 0], ("input", "grid", "output"), strict=True):
        axes.set_ylabel(heading, fontsize=9, color=GREY)
    for i, (above, middle, below) in enumerate(panels.T):
        _draw_triplet((above, middle, below), examples, i)
        above.set_title(f"digit {examples.labels[i]}", fontsize=9)
        if examples.captions:
            middle.set_xlabel(examples.captions[i], fontsize=8, color=GREY)
        below.set_xlabel(
            f"read as {examples.predictions[i]}", fontsize=9, color=_verdict(examples, i)
        )
    figure.suptitle(examples.name, fontsize=10, x=0.01, ha="left")
    figure.savefig(path, dpi=DPI)


def save_overview(runs: Sequence[Examples], path: Path) -> None:
    """Draw a row a run and a triplet an example: input, grid, output (Table 1, right)."""
    # In inches; every panel gets exactly its place.
    panel, space, between, left, top = 0.8, 0.06, 0.2, 1.0, 0.25
    triplet = 3 * (panel + space) + between
    width = left + triplet * max(len(examples.labels) for examples in runs) - between
    height = top + (panel + space) * len(runs)
    figure = new_figure(width, height, layout=None)

    for r, examples in enumerate(runs):
        bottom = height - top - r * (panel + space) - panel
        for i in range(len(examples.labels)):
            edges = [left + i * triplet + k * (panel + space) for k in range(3)]
            places = [(x / width, bottom / height, panel / width, panel / height) for x in edges]
            panels = [figure.add_axes(place) for place in places]
            _draw_triplet(panels, examples, i)
            draw_class(panels[2], examples, i)
            if r == 0:
                headings = ("input", "grid", "output, class")
                for axes, heading in zip(panels, headings, strict=True):
                    axes.set_title(heading, fontsize=8, color=GREY, pad=3)
        middle = (bottom + panel / 2) / height
        figure.text((left - 0.1) / width, middle, examples.row, ha="right", va="center", fontsize=9)
    figure.savefig(path, dpi=DPI)


def save_channels(examples: ChannelExamples, path: Path) -> None:
    """Draw a row a channel: input, each transformer's grid on it and output (Table 4, right)."""
    count, channels = examples.digits.shape
    transformers = examples.grids.shape[1]
    # In inches; every panel gets exactly its place.
    panel, space, between, left, top = 1.1, 0.06, 0.2, 0.9, 0.55
    width = left + panel + transformers * (between + 2 * panel + space)
    block = channels * (panel + space) + between
    height = top + count * block - between
    figure = new_figure(width, height, layout=None)
    figure.text(0.01, 1 - 0.2 / height, examples.name, fontsize=10, va="center")

    def add_panel(i: int, c: int, x: float, image: np.ndarray, heading: str) -> Axes:
        y = height - top - i * block - c * (panel + space) - panel
        axes = figure.add_axes((x / width, y / height, panel / width, panel / height))
        draw_image(axes, image)
        if i == c == 0:
            axes.set_title(heading, fontsize=9, color=GREY, pad=3)
        return axes

    for i, digits in enumerate(examples.digits):
        right = examples.predictions[i] == digits.sum()
        figure.text(
            (left - 0.12) / width,
            1 - (top + i * block + channels * (panel + space) / 2) / height,
            f"{' + '.join(map(str, digits))} = {digits.sum()}\nread as {examples.predictions[i]}",
            ha="right",
            va="center",
            fontsize=9,
            color=BLUE if right else VERMILION,
        )
        for c in range(channels):
            image = examples.inputs[i, c]
            add_panel(i, c, left, image, "input")
            for t in range(transformers):
                x = left + panel + between + t * (2 * panel + space + between)
                name = f"grid {t + 1}" if transformers > 1 else "grid"
                axes = add_panel(i, c, x, image, name)
                draw_grid(axes, examples.grids[i, t], image.shape, GRIDS[t % len(GRIDS)])
                name = f"output {t + 1}" if transformers > 1 else "output"
                add_panel(i, c, x + panel + space, examples.outputs[i, t, c], name)
    figure.savefig(path, dpi=DPI)


def grid_lines(grid: np.ndarray, count: int = GRID_LINES) -> list[np.ndarray]:
    """Return rows and columns of a grid as polylines, evenly spaced, the border's included.

    Args:
      grid: [h, w, 2] points.
      count: lines in each direction.

    Returns:
      `count` rows [w, 2] and `count` columns [h, 2].
    """
    rows, columns = (np.rint(np.linspace(0, n - 1, count)).astype(int) for n in grid.shape[:2])
    return [*grid[rows], *np.moveaxis(grid, 1, 0)[columns]]


def outline(grid: np.ndarray) -> np.ndarray:
    """Return the border of a grid [h, w, 2] as a closed polyline [P, 2]."""
    sides = grid[0, :-1], grid[:-1, -1], grid[-1, :0:-1], grid[::-1, 0]
    return np.concatenate(sides)


def _draw_triplet(panels: Sequence[Axes], examples: Examples, i: int) -> None:
    for axes, image in zip(
        panels, (examples.inputs[i], examples.inputs[i], examples.outputs[i]), strict=True
    ):
        draw_image(axes, image)
    draw_grid(panels[1], examples.grids[i], examples.inputs.shape[1:])


def draw_image(axes: Axes, image: np.ndarray) -> None:
    """Draw an image [H, W], 0 black and 1 white."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def draw_grid(axes: Axes, grid: np.ndarray, shape: tuple[int, int], color: str = ORANGE) -> None:
    """Draw a grid [h, w, 2] over the image of a shape, with a margin around the image."""
    size = max(shape)
    # Points on the horizon of a projective transform are far away: no lines to there.
    far = np.abs(grid).max(axis=-1, keepdims=True) > 10 * size
    grid = np.where(far, np.nan, grid)
    for line in grid_lines(grid):
        axes.plot(*line.T, color=color, lw=0.5, alpha=0.8)
    axes.plot(*outline(grid).T, color=color, lw=1.5)
    low, high = -0.5 - MARGIN * size, size - 0.5 + MARGIN * size
    axes.set(xlim=(low, high), ylim=(high, low), facecolor="#DDDDDD")


def draw_class(axes: Axes, examples: Examples, i: int) -> None:
    """Write the predicted class into a corner; its colour tells whether it is the true one."""
    axes.text(
        0.93,
        0.07,
        str(examples.predictions[i]),
        transform=axes.transAxes,
        ha="right",
        va="bottom",
        fontsize=8,
        weight="bold",
        color=_verdict(examples, i),
        bbox={"facecolor": "white", "linewidth": 0, "pad": 1.5},
    )


def _draw_curves(axes: Axes, run: Run, quantity: str) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

    for split, measured in run.measured.items():
        if quantity in OTHERS:
            values_by_step = measured.others.get(quantity, {})
        else:
            values_by_step = dict(zip(measured.steps, getattr(measured, quantity), strict=True))
        if not values_by_step:
            continue
        seeds = np.array(list(values_by_step.values())).T
        look = {"color": BLUE, "lw": 1} if split == "train" else {"color": VERMILION, "marker": "o"}
        for i, values in enumerate(seeds):
            axes.plot([*values_by_step], values, ms=3.5, label=split if i == 0 else None, **look)
    if quantity == "overlap":
        axes.set_ylim(0, 1)
    else:
        axes.set_yscale("log", nonpositive="clip")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.tick_params(labelsize=8, color="#DDDDDD", labelcolor="#444444")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#DDDDDD")
    axes.grid(color="#EEEEEE")


def _curves_title(run: Run) -> str:
    parts = [run.name, f"seed{'s' * (len(run.seeds) > 1)} {', '.join(map(str, run.seeds))}"]
    if run.status != "finished":
        parts.append(f"{run.status} at step {run.step:,}")
    if errors := run.final_errors("test").values():
        parts.append(f"test error {', '.join(f'{error:.2f}' for error in errors)} %")
    return "  ·  ".join(parts)


def _verdict(examples: Examples, i: int) -> str:
    return BLUE if examples.predictions[i] == examples.labels[i] else VERMILION


def new_figure(width: float, height: float, *, layout: str | None = "constrained") -> Figure:
    """Return an empty figure of a size in inches that is drawn without a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure
