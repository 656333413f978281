"""Animations: transformers at work while the pose of their input changes, and figures in time."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stn_jax.reporting.figures import (
    BLUE,
    GREY,
    ORANGE,
    VERMILION,
    Examples,
    Figure,
    draw_class,
    draw_grid,
    draw_image,
    new_figure,
)

# Pillow comes with Matplotlib, and is imported only where it is used.
Image = Any

DPI = 100
MILLISECONDS = 100  # a frame


def save_animation(columns: Sequence[Examples], path: Path) -> None:
    """Draw a GIF without end: input with grid above, output and class below.

    Args:
      columns: side by side; frame i shows example i of each, so they all have the same number.
      path: of the file.
    """
    save_frames((_frame(columns, i) for i in range(len(columns[0].labels))), path)


def save_frames(figures: Iterable[Figure], path: Path, *, photographs: bool = False) -> None:
    """Write figures of one size as a GIF without end.

    Args:
      figures: a frame each.
      path: of the file.
      photographs: whether they hold more colours than the greys and lines of the other figures.
    """
    pictures = [_picture(figure) for figure in figures]
    palette = _palette_of(pictures) if photographs else _palette()
    # Without dithering: its noise would be most of the file.
    frames = [picture.quantize(palette=palette, dither=0) for picture in pictures]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=MILLISECONDS, loop=0)


def _frame(columns: Sequence[Examples], i: int) -> Figure:
    # In inches; every panel gets exactly its place.
    panel, space, top = 1.25, 0.08, 0.42
    caption = 0.4 if all(examples.captions for examples in columns) else 0
    width = space + (panel + space) * len(columns)
    height = top + 2 * (panel + space) + caption
    figure = new_figure(width, height, layout=None)
    for k, examples in enumerate(columns):
        left = space + k * (panel + space)
        lower, upper = (caption + space + row * (panel + space) for row in (0, 1))
        places = [(left / width, y / height, panel / width, panel / height) for y in (upper, lower)]
        above, below = (figure.add_axes(place) for place in places)
        draw_image(above, examples.inputs[i])
        draw_grid(above, examples.grids[i], examples.inputs.shape[1:])
        draw_image(below, examples.outputs[i])
        draw_class(below, examples, i)
        above.set_title(examples.row, fontsize=8, pad=3)
        if caption:
            below.set_xlabel(examples.captions[i], fontsize=8, color=GREY)
    return figure


def _picture(figure: Figure) -> Image:
    from PIL import Image

    figure.set_dpi(DPI)
    figure.canvas.draw()
    return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")


def _palette_of(pictures: Sequence[Image]) -> Image:
    """Return the 256 colours that all pictures together are best shown with."""
    from PIL import Image

    whole = Image.fromarray(np.concatenate([np.asarray(picture) for picture in pictures]))
    return whole.quantize(256)


def _palette() -> Image:
    """Return greys, and every colour of the figures on its way from black to white."""
    from PIL import Image

    greys = np.linspace(0, 255, 40)[:, None] * np.ones(3)
    blends = []
    for color in (ORANGE, BLUE, VERMILION):
        full = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
        for share in (0.25, 0.5, 0.75):
            blends += [share * full, share * full + (1 - share) * 255]
        blends.append(full)
    image = Image.new("P", (1, 1))
    image.putpalette(np.rint(np.concatenate([greys, blends])).astype(np.uint8).tobytes())
    return image
