"""Street View House Numbers (SVHN), whole numbers: prepared crops, read as arrays.

`svhn_prepare.prepare`, which scripts/prepare_data.py calls, writes `svhn/<size>` into the place
where data lie (the argument `data_dir`, else $STN_DATA_DIR, else ~/.cache/stn_jax); `load` reads
that. Nothing is downloaded here.
"""

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stn_jax.data import types
from stn_jax.data.types import DataNotFoundError, resolve_data_dir

SPLITS = ("train", "test", "extra")
NEEDED = ("train", "test")
# Images of each split as published. One of train's has six digits: 235,754 remain with extra's.
PUBLISHED_COUNTS = {"train": 33_402, "test": 13_068, "extra": 202_353}
MAX_DIGITS = 5
NO_DIGIT = 10

# Size of a crop in pixels -> its region as a multiple of the box around all digits, about the same
# centre. The looser one has twice as many pixels for twice the region: digits of the same size.
SIZES = {64: 1.3, 128: 2.6}

# Problems of a source that is not whole; none are known of the published files.
LOST = ("missing_image", "unreadable_image")

FORMAT = 1  # of the prepared files


class Numbers(NamedTuple):
    """The house numbers of one split.

    Attributes:
        image: [N, S, S, 3] uint8, RGB; memory-mapped.
        label: [N, 5] uint8, digits 0 to 9 in the order listed, left to right, then NO_DIGIT.
        box: [N, 4] float32, the box around all digits: (left, top, right, bottom) in pixels of the
            crop, from outer edge to outer edge.
    """

    image: np.ndarray
    label: np.ndarray
    box: np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class Svhn:
    """The prepared splits at one size.

    Attributes:
        splits: by name; train and test always, extra where it was prepared.
        name: the data set, as run records name it.
        source: where the arrays were read from, for people.
        fingerprint: 16 hex digits that depend on all arrays of all splits, as they were prepared.
        counts: split -> entries in the publisher's file, images written, and each kind of problem
            with the number of its images (`svhn_prepare` explains the kinds).
    """

    splits: dict[str, Numbers]
    name: str
    source: str
    fingerprint: str
    counts: dict[str, dict[str, int]]


def folder_of(place: Path, size: int) -> Path:
    """Return where crops of a size lie in a place.

    Raises:
        ValueError: there is no such size; names those there are.
    """
    if size not in SIZES:
        raise ValueError(f"size {size} is not one of {', '.join(map(str, SIZES))}.")
    return place / "svhn" / str(size)


def array_paths(folder: Path, split: str) -> dict[str, Path]:
    """Return the files of a split, keyed as the fields of `Numbers`."""
    names = {"image": "images", "label": "labels", "box": "boxes"}
    return {field: folder / f"{split}_{name}.npy" for field, name in names.items()}


def load(data_dir: str | os.PathLike | None = None, *, size: int) -> Svhn:
    """Open the prepared crops; images stay on disk until they are looked at.

    Shapes are checked, contents are not: reading all of them would take as long as the disk needs.
    Other images than the published ones, a part of them for example, are opened too; `source` then
    says so, and a warning is logged.

    Args:
        data_dir: the place; None means $STN_DATA_DIR, or ~/.cache/stn_jax where that is not set.
        size: of the crops in pixels, one of `SIZES`.

    Raises:
        DataNotFoundError: train or test is not prepared; says how to prepare it.
        ValueError: there is no such size, or a file is damaged; names it and says what to do.
    """
    place = resolve_data_dir(data_dir)
    folder = folder_of(place, size)
    info = read_info(folder) or {"splits": {}}
    if missing := [split for split in NEEDED if split not in info["splits"]]:
        raise DataNotFoundError(
            f"No {' and no '.join(missing)} split of SVHN in {folder} (in the argument data_dir, "
            "else $STN_DATA_DIR, else ~/.cache/stn_jax).\n"
            f"Get it: python scripts/prepare_data.py svhn --data-dir {place} --size {size}\n"
            "with --from DIR if you have the publisher's files."
        )
    splits, counts, others = {}, {}, []
    for split in SPLITS:
        if split not in info["splits"]:
            continue
        record = info["splits"][split]
        splits[split] = open_split(folder, split, written=record["written"])
        counts[split] = {
            "entries": record["entries"],
            "written": record["written"],
            **{kind: problem["count"] for kind, problem in record["problems"].items()},
        }
        if record["entries"] != PUBLISHED_COUNTS[split]:
            others.append(f"{record['entries']} images in {split}, not {PUBLISHED_COUNTS[split]}")
        elif lost := sum(counts[split].get(kind, 0) for kind in LOST):
            others.append(f"{lost} images of {split} are missing or damaged")
    source = f"crops in {folder}"
    if others:
        source += f", NOT the published SVHN: {', '.join(others)}"
        logging.getLogger(__name__).warning("Read %s", source)
    marks = "".join(f"{split}{info['splits'][split]['fingerprint']}" for split in splits)
    return Svhn(
        splits=splits,
        name=f"svhn_{size}",
        source=source,
        fingerprint=hashlib.sha256(marks.encode()).hexdigest()[:16],
        counts=counts,
    )


def read_info(folder: Path) -> dict[str, Any] | None:
    """Return what `info.json` of a folder of crops says, or None if there is none.

    Raises:
        ValueError: it is damaged or of another format.
    """

    def look(info: dict[str, Any]) -> None:
        for record in info["splits"].values():
            _ = record["entries"], record["written"], record["fingerprint"]
            _ = [problem["count"] for problem in record["problems"].values()]

    return types.read_info(folder, FORMAT, look)


def open_split(folder: Path, split: str, *, written: int) -> Numbers:
    """Open the arrays of a finished split.

    Raises:
        ValueError: a file is missing, cut short, or not of the type and shape it ought to be.
    """
    size = int(folder.name)
    expected = Numbers(
        image=((written, size, size, 3), np.uint8),
        label=((written, MAX_DIGITS), np.uint8),
        box=((written, 4), np.float32),
    )
    arrays = {}
    for field, path in array_paths(folder, split).items():
        shape, dtype = getattr(expected, field)
        try:
            array = np.load(path, mmap_mode="r" if field == "image" else None)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(
                f"{path}: damaged ({error}); delete {folder} and prepare it again."
            ) from error
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(
                f"{path}: {array.dtype} {array.shape}, but {np.dtype(dtype)} {shape} are "
                f"announced in info.json; delete {folder} and prepare it again."
            )
        arrays[field] = array
    return Numbers(**arrays)
