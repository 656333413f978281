"""Caltech-UCSD Birds 200-2011 (CUB): prepared images, read as arrays.

`cub_prepare.prepare`, which scripts/prepare_data.py calls, writes `cub/<size>` into the place where
data lie (the argument `data_dir`, else $STN_DATA_DIR, else ~/.cache/stn_jax); `load` reads that.
Nothing is downloaded here.

Networks are trained on `Birds`: images and labels. Boxes and parts, which the paper does not use
(Sect. 4.3), are kept apart from them, in `Annotations`, for measuring.
"""

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stn_jax.data.types import DataNotFoundError, resolve_data_dir

SPLITS = ("train", "test")
PUBLISHED_COUNTS = {"train": 5_994, "test": 5_794}
NUM_CLASSES = 200  # as published

# The publisher's parts, in its order -> the region of the bird that they are counted to here.
PARTS = {
    "back": "body",
    "beak": "head",
    "belly": "body",
    "breast": "body",
    "crown": "head",
    "forehead": "head",
    "left eye": "head",
    "left leg": "body",
    "left wing": "body",
    "nape": "head",
    "right eye": "head",
    "right leg": "body",
    "right wing": "body",
    "tail": "body",
    "throat": "head",
}

FORMAT = 1  # of the prepared files
PIXELS = "pixels.raw"


class Birds(NamedTuple):
    """The images of one split, of one shorter side and varying longer side.

    Attributes:
        pixels: [T] uint8, the values of all prepared images one after the other; memory-mapped.
        start: [N] int64, where each image begins in them.
        shape: [N, 2] int32, its height and width.
        label: [N] int32, counted from 0 through the classes that there are, in their order.
        id: [N] int32, as in the publisher's images.txt; negative where the source has no ids.
    """

    pixels: np.ndarray
    start: np.ndarray
    shape: np.ndarray
    label: np.ndarray
    id: np.ndarray

    def select(self, rows: np.ndarray) -> "Birds":
        """Return some of these, by index [n] or mask [N]."""
        return Birds(self.pixels, *(field[rows] for field in self[1:]))

    def image(self, row: int) -> np.ndarray:
        """Return one image, uint8 [H, W, 3], RGB; a view, not yet read from disk."""
        height, width = self.shape[row].tolist()
        start = int(self.start[row])
        return self.pixels[start : start + height * width * 3].reshape(height, width, 3)


class Annotations(NamedTuple):
    """What is known of images besides their class, in pixels of the original image.

    Positions are read as if 0 were the outer edge of the first pixel; the publisher does not say.

    Attributes:
        id: [N] int32, as in `Birds`.
        size: [N, 2] int32, width and height of the original.
        box: [N, 4] float32, the bird's box (left, top, right, bottom); may reach out of the image.
        part: [N, 15, 2] float32, (x, y) of `PARTS`; NaN where not visible.
        visible: [N, 15] bool.
    """

    id: np.ndarray
    size: np.ndarray
    box: np.ndarray
    part: np.ndarray
    visible: np.ndarray

    def select(self, ids: np.ndarray) -> "Annotations":
        """Return those of the images with some ids [n], in their order.

        Raises:
            ValueError: there is no such image; names the first.
        """
        row_of = {number: row for row, number in enumerate(self.id.tolist())}
        if unknown := [number for number in ids.tolist() if number not in row_of]:
            raise ValueError(f"there is no image {unknown[0]}.")
        rows = np.array([row_of[number] for number in ids.tolist()], np.int64)
        return Annotations(*(field[rows] for field in self))


@dataclass(frozen=True, eq=False, kw_only=True)
class Cub:
    """The prepared splits at one size.

    Attributes:
        train: 5,994 images as published.
        test: 5,794 images.
        class_names: by label, such as 001.Black_footed_Albatross.
        name: the data set, as run records name it: also says if classes are missing.
        source: where the arrays were read from, for people.
        fingerprint: of all images and annotations, 16 hex digits.
        counts: split -> entries in the publisher's lists, images written, and each kind of problem
            with the number of its images.
    """

    train: Birds
    test: Birds
    class_names: tuple[str, ...]
    name: str
    source: str
    fingerprint: str
    counts: dict[str, dict[str, int]]


def folder_of(place: Path, size: int) -> Path:
    """Return where images of a shorter side lie in a place."""
    return place / "cub" / str(size)


def load(data_dir: str | os.PathLike | None = None, *, size: int) -> Cub:
    """Open the prepared images; pixels stay on disk until they are looked at.

    Other images than the published ones, some of the classes for example, are opened too; `source`
    then says so, and a warning is logged.

    Args:
        data_dir: the place; None means $STN_DATA_DIR, or ~/.cache/stn_jax where that is not set.
        size: shorter side of the images in pixels.

    Raises:
        DataNotFoundError: they are not prepared; says how to prepare them.
        ValueError: a file is damaged; names it and says what to do.
    """
    folder, info = _open(data_dir, size)
    counts, class_names = info["counts"], tuple(info["class_names"])
    total = sum(counts[split]["written"] for split in SPLITS)
    start, shape, label, number, train = (
        _read(folder, name, total) for name in ("start", "shape", "label", "id", "train")
    )
    birds = Birds(_map_pixels(folder, start, shape), start, shape, label, number)
    splits = {"train": birds.select(train), "test": birds.select(~train)}
    name, source = f"cub_{size}", f"images in {folder}"
    others = [
        f"{counts[split]['written']} images in {split}, not {published}"
        for split, published in PUBLISHED_COUNTS.items()
        if counts[split]["written"] != published
    ]
    if len(class_names) != NUM_CLASSES:
        name += f"_{len(class_names)}_classes"
        others.append(f"{len(class_names)} classes, not {NUM_CLASSES}")
    if others:
        source += f", NOT the published CUB-200-2011: {', '.join(others)}"
        logging.getLogger(__name__).warning("Read %s", source)
    return Cub(
        **splits,
        class_names=class_names,
        name=name,
        source=source,
        fingerprint=info["fingerprint"],
        counts=counts,
    )


def load_annotations(data_dir: str | os.PathLike | None = None, *, size: int) -> Annotations:
    """Read boxes and parts of all images of both splits, for measuring only.

    The arguments are those of `load`; positions do not depend on the size.

    Raises:
        DataNotFoundError: they are not prepared, or the source that they were prepared from has
            none; says what to do.
        ValueError: a file is damaged; names it and says what to do.
    """
    folder, info = _open(data_dir, size)
    if not info["parts"]:
        raise DataNotFoundError(
            f"{folder} was prepared from {info['source']}, which has no parts: delete it and "
            "prepare it again from the publisher's files."
        )
    total = sum(info["counts"][split]["written"] for split in SPLITS)
    return Annotations(
        *(
            _read(folder, name, total)
            for name in ("id", "original_size", "box", "part", "part_visible")
        )
    )


def read_info(folder: Path) -> dict[str, Any] | None:
    """Return what `info.json` of a folder of prepared images says, or None if there is none.

    Raises:
        ValueError: it is damaged or of another format.
    """
    path = folder / "info.json"
    if not path.is_file():
        return None
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        version, _, _ = info["format"], info["fingerprint"], list(info["class_names"])
        _, _ = info["source"], info["parts"]
        _ = [info["counts"][split]["written"] for split in SPLITS]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged ({error}); {_remedy(folder)}") from error
    if version != FORMAT:
        raise ValueError(
            f"{path}: of format {version}, but this version reads {FORMAT}; {_remedy(folder)}"
        )
    return info


# Array of a prepared folder -> shape of a row, type. Rows are in the order of the lists.
ARRAYS = {
    "start": ((), np.int64),
    "shape": ((2,), np.int32),
    "label": ((), np.int32),
    "id": ((), np.int32),
    "train": ((), np.bool_),
    "original_size": ((2,), np.int32),
    "box": ((4,), np.float32),
    "part": ((len(PARTS), 2), np.float32),
    "part_visible": ((len(PARTS),), np.bool_),
}


def _open(data_dir: str | os.PathLike | None, size: int) -> tuple[Path, dict[str, Any]]:
    place = resolve_data_dir(data_dir)
    folder = folder_of(place, size)
    info = read_info(folder)
    if info is None:
        raise DataNotFoundError(
            f"No birds of {size} px in {folder} (in the argument data_dir, else $STN_DATA_DIR, "
            "else ~/.cache/stn_jax).\n"
            f"Get them: python scripts/prepare_data.py cub --data-dir {place} --size {size}\n"
            "with --from CUB_200_2011 or CUB_200_2011.tgz if you have the publisher's files."
        )
    return folder, info


def _read(folder: Path, name: str, count: int) -> np.ndarray:
    path, (row, dtype) = folder / f"{name}.npy", ARRAYS[name]
    try:
        array = np.load(path)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: missing or damaged ({error}); {_remedy(folder)}") from error
    if (array.shape, array.dtype) != ((count, *row), dtype):
        raise ValueError(
            f"{path}: {array.dtype} {list(array.shape)} instead of {np.dtype(dtype)} "
            f"{[count, *row]}; {_remedy(folder)}"
        )
    return array


def _map_pixels(folder: Path, start: np.ndarray, shape: np.ndarray) -> np.ndarray:
    path = folder / PIXELS
    expected = int(np.max(start + 3 * np.prod(shape, axis=1, dtype=np.int64)))
    found = os.path.getsize(path) if path.is_file() else 0
    if found != expected:
        raise ValueError(f"{path}: {found:,} bytes instead of {expected:,}; {_remedy(folder)}")
    # A plain array: views of it are made faster than those of a memmap.
    return np.asarray(np.memmap(path, np.uint8, mode="r"))


def _remedy(folder: Path) -> str:
    return f"delete {folder} and prepare it again."
