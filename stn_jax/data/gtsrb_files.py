"""Readers of GTSRB's files: the publisher's folders, or sheets of 32x32 tiles.

The publisher's archives unpack to

    Final_Training/Images/<class>/<track>_<frame>.ppm     and GT-<class>.csv beside them
    Final_Test/Images/<number>.ppm                        GT-final_test.csv comes on its own

with lists separated by `;`: Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId. The sheets
are `train_00.webp` and so on, 1024x1024 pixels of 32x32 tiles, row by row, with `train.csv` and
`test.csv`, separated by commas, that have the same columns, an index, and the folder in the name.

A region of interest nearly always keeps five pixels or more from each side of the image, if its
second corner is read as an outer edge; so it is here, although the publisher does not say it.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from stn_jax.data.gtsrb import NUM_CLASSES

TILE = 32  # px
SHEET = 1024  # px, the width of a sheet, and its height but for the last one's
FOLDERS = {"train": "Final_Training", "test": "Final_Test"}
TEST_LIST = "GT-final_test.csv"
COLUMNS = ("Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId")
SHEET_COLUMNS = (
    "original_width",
    "original_height",
    "roi_x1",
    "roi_y1",
    "roi_x2",
    "roi_y2",
    "label",
)


class Entry(NamedTuple):
    """What the lists say of an image.

    Attributes:
        name: relative to the folder of the split's images, such as 00014/00003_00012.ppm.
        label: 0 to 42.
        size: width and height of the original, in pixels.
        box: the sign's (left, top, right, bottom) there, from outer edge to outer edge.
        index: place in the list.
    """

    name: str
    label: int
    size: tuple[int, int]
    box: tuple[int, int, int, int]
    index: int

    @property
    def track(self) -> str:
        """Which approach to one sign the image is a frame of: "" if the name does not say it."""
        return self.name.rpartition("_")[0]


class Source(NamedTuple):
    """A folder with images in one of the two forms.

    Attributes:
        folder: the one that has both splits in it.
        sheets: whether they are sheets.
    """

    folder: Path
    sheets: bool

    @property
    def pixels(self) -> int | None:
        """The side of all images, None if they have the sizes of the originals."""
        return TILE if self.sheets else None


def find(folder: Path) -> Source | None:
    """Look for either form in a folder, or in GTSRB in it; None if it is not there."""
    for place in (folder, folder / "GTSRB"):
        if (place / "train.csv").is_file():
            return Source(place, sheets=True)
        if (place / FOLDERS["train"]).is_dir():
            return Source(place, sheets=False)
    return None


def read_entries(source: Source, split: str) -> list[Entry]:
    """Read the lists of a split: by name, so that the frames of a track follow each other.

    Raises:
        FileNotFoundError: a list is missing.
        ValueError: a list is damaged; names file and line.
    """
    if source.sheets:
        return sorted(_read_list(source.folder / f"{split}.csv", "", SHEET_COLUMNS, ","))
    images = source.folder / FOLDERS[split] / "Images"
    if split == "test":
        places = (images, images.parent, source.folder, source.folder.parent)
        found = [place / TEST_LIST for place in places if (place / TEST_LIST).is_file()]
        if not found:
            raise FileNotFoundError(
                f"{images} has no {TEST_LIST}: the publisher has it in an archive of its own."
            )
        return sorted(_read_list(found[0], "", COLUMNS, ";"))
    classes = sorted(path.name for path in images.glob("[0-9]*") if path.is_dir())
    if not classes:
        raise FileNotFoundError(f"{images} has no folders of classes.")
    entries = []
    for name in classes:
        entries += _read_list(images / name / f"GT-{name}.csv", f"{name}/", COLUMNS, ";")
    return sorted(entries)


def images(
    source: Source, split: str, entries: Sequence[Entry]
) -> Iterator[tuple[Entry, Image.Image | None]]:
    """Yield entries, in their order, with their images: RGB, or None if missing or damaged.

    Raises:
        FileNotFoundError: a sheet is missing.
        ValueError: a sheet is damaged, or has no such tile, or an image is not of the size that
            the list says; names it.
    """
    if not source.sheets:
        for entry in entries:
            path = source.folder / FOLDERS[split] / "Images" / entry.name
            image = _open(path)
            if image is not None and image.size != entry.size:
                raise ValueError(
                    f"{path}: is of {image.size[0]}x{image.size[1]} pixels, but of "
                    f"{entry.size[0]}x{entry.size[1]} in the list."
                )
            yield entry, image
        return
    number, tiles = -1, None
    per_sheet = (SHEET // TILE) ** 2
    for entry in entries:
        if entry.index // per_sheet != number:
            number = entry.index // per_sheet
            path = source.folder / f"{split}_{number:02d}.webp"
            tiles = _read_sheet(path)
        tile = entry.index % per_sheet
        if tile >= len(tiles):
            raise ValueError(
                f"{path}: has {len(tiles)} tiles, but {entry.name} is at index {entry.index}, "
                f"its tile {tile}."
            )
        yield entry, Image.fromarray(tiles[tile])


def _read_list(path: Path, folder: str, columns: Sequence[str], delimiter: str) -> list[Entry]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}.")
    name_column = "Filename" if delimiter == ";" else "name"
    entries, names, places = [], set(), set()
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            for index, row in enumerate(csv.DictReader(file, delimiter=delimiter)):
                width, height, left, top, right, bottom, label = (int(row[c]) for c in columns)
                if not 0 <= label < NUM_CLASSES:
                    raise ValueError(f"class {label} is not one of 0 to {NUM_CLASSES - 1}")
                if not (0 <= left < right <= width and 0 <= top < bottom <= height):
                    raise ValueError(f"box {(left, top, right, bottom)} in {width}x{height}")
                place = int(row.get("index", index))
                if place < 0 or place in places:
                    raise ValueError(f"index {place} {'is negative' if place < 0 else 'again'}")
                box = (left, top, right, bottom)
                name = folder + row[name_column]
                if name in names or name == folder:
                    raise ValueError("the same name again" if name in names else "no name")
                if folder and int(folder[:-1]) != label:
                    raise ValueError(f"class {label} in the folder of class {int(folder[:-1])}")
                names.add(name)
                places.add(place)
                entries.append(Entry(name, label, (width, height), box, place))
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            reason = f"no column {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"{path}, line {len(entries) + 2}: damaged ({reason}).") from error
    if not entries:
        raise ValueError(f"{path}: damaged (it lists no image).")
    return entries


def _open(path: Path) -> Image.Image | None:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError):  # PPM's way of saying that a header is none
        return None


def _read_sheet(path: Path) -> np.ndarray:
    """Return the tiles of a sheet, uint8 [T, 32, 32, 3]; the last rows may be missing."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}.")
    image = _open(path)
    if image is None or image.width != SHEET or image.height % TILE:
        raise ValueError(f"{path}: damaged, or not {SHEET} pixels wide.")
    rows = image.height // TILE
    pixels = np.asarray(image).reshape(rows, TILE, SHEET // TILE, TILE, 3)
    return pixels.swapaxes(1, 2).reshape(-1, TILE, TILE, 3)
