"""The German Traffic Sign Recognition Benchmark (GTSRB): prepared images, read as arrays.

`gtsrb_prepare.prepare`, which scripts/prepare_data.py calls, writes `gtsrb/<size>` into the place
where data lie (the argument `data_dir`, else $STN_DATA_DIR, else ~/.cache/stn_jax); `load` reads
that. Nothing is downloaded here.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stn_jax.data import types
from stn_jax.data.types import DataNotFoundError, resolve_data_dir

SPLITS = ("train", "test")
PUBLISHED_COUNTS = {"train": 39_209, "test": 12_630}
NUM_CLASSES = 43
NO_TRACK = -1

FORMAT = 1  # of the prepared files


class Signs(NamedTuple):
    """The traffic signs of one split.

    Attributes:
        image: [N, S, S, 3] uint8, RGB: whole images, resized to a square.
        label: [N] int32, 0 to 42.
        box: [N, 4] float32, the sign's box (left, top, right, bottom) in pixels of the resized
            image, from outer edge to outer edge.
        track: [N] int32, which approach to one sign the image is a frame of: counted through all
            classes, frames in order of time and next to each other. NO_TRACK in the test split,
            whose tracks were not published.
    """

    image: np.ndarray
    label: np.ndarray
    box: np.ndarray
    track: np.ndarray

    def select(self, rows: np.ndarray) -> "Signs":
        """Return some of these, by index [n] or mask [N]."""
        return Signs(*(field[rows] for field in self))


@dataclass(frozen=True, eq=False, kw_only=True)
class Gtsrb:
    """The prepared splits at one size.

    Attributes:
        train: 39,209 signs as published.
        test: 12,630 signs.
        name: the data set, as run records name it: also says if the pixels are not the originals.
        source: where the arrays were read from, for people.
        fingerprint: of all arrays, 16 hex digits.
        counts: split -> entries in the publisher's files, images written, and each kind of problem
            with the number of its images.
    """

    train: Signs
    test: Signs
    name: str
    source: str
    fingerprint: str
    counts: dict[str, dict[str, int]]


def folder_of(place: Path, size: int) -> Path:
    """Return where images of a size lie in a place."""
    return place / "gtsrb" / str(size)


def array_path(folder: Path, split: str, field: str) -> Path:
    """Return the file of a field of `Signs`."""
    return folder / f"{split}_{field}.npy"


def load(data_dir: str | os.PathLike | None = None, *, size: int = 48) -> Gtsrb:
    """Read the prepared images of both splits into memory (48 px: 360 MB).

    Other counts than the published ones, and classes without an image, are accepted; `source` then
    says so, and a warning is logged.

    Args:
        data_dir: the place; None means $STN_DATA_DIR, or ~/.cache/stn_jax where that is not set.
        size: side of the images in pixels.

    Raises:
        DataNotFoundError: they are not prepared; says how to prepare them.
        ValueError: a file is damaged; names it and says what to do.
    """
    place = resolve_data_dir(data_dir)
    folder = folder_of(place, size)
    info = read_info(folder)
    if info is None:
        raise DataNotFoundError(
            f"No traffic signs of {size} px in {folder} (in the argument data_dir, else "
            "$STN_DATA_DIR, else ~/.cache/stn_jax).\n"
            f"Get them: python scripts/prepare_data.py gtsrb --data-dir {place} --size {size} "
            "--from FOLDER_OF_THE_PUBLISHED_FILES"
        )
    counts = info["counts"]
    splits = {split: _read(folder, split, size, counts[split]["written"]) for split in SPLITS}
    name, source = f"gtsrb_{size}", f"images in {folder}"
    if info["pixels"]:
        name += f"_from_{info['pixels']}"
        source += f", resized from {info['pixels']}x{info['pixels']} instead of the originals"
    others = []
    for split, published in PUBLISHED_COUNTS.items():
        if (written := counts[split]["written"]) != published:
            others.append(f"{written} images in {split}, not {published}")
        classes = np.unique(splits[split].label)
        if len(classes) < NUM_CLASSES:
            missing = sorted({*range(NUM_CLASSES)} - {*classes.tolist()})
            others.append(f"none of class {', '.join(map(str, missing))} in {split}")
    if others:
        source += f", NOT the published GTSRB: {', '.join(others)}"
        logging.getLogger(__name__).warning("Read %s", source)
    return Gtsrb(**splits, name=name, source=source, fingerprint=info["fingerprint"], counts=counts)


def read_info(folder: Path) -> dict[str, Any] | None:
    """Return what `info.json` of a folder of prepared images says, or None if there is none.

    Raises:
        ValueError: it is damaged or of another format.
    """

    def look(info: dict[str, Any]) -> None:
        _ = info["fingerprint"], info["pixels"], info["source"]
        _ = [info["counts"][split]["written"] for split in SPLITS]

    return types.read_info(folder, FORMAT, look)


def _read(folder: Path, split: str, size: int, count: int) -> Signs:
    expected = Signs(
        image=((size, size, 3), np.uint8),
        label=((), np.int32),
        box=((4,), np.float32),
        track=((), np.int32),
    )
    arrays = []
    for field, (shape, dtype) in expected._asdict().items():
        path = array_path(folder, split, field)
        remedy = f"delete {folder} and prepare it again."
        try:
            array = np.load(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: missing or damaged ({error}); {remedy}") from error
        if (array.shape, array.dtype) != ((count, *shape), dtype):
            raise ValueError(
                f"{path}: {array.dtype} {list(array.shape)} instead of {np.dtype(dtype)} "
                f"{[count, *shape]}; {remedy}"
            )
        arrays.append(array)
    return Signs(*arrays)


def hold_out_tracks(signs: Signs, *, tracks: int = 1, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose whole tracks of each class at random, for validation.

    Frames of one track are nearly the same image: single images, held out, would be recognised by
    their neighbours.

    Args:
        signs: with tracks.
        tracks: how many of each class.
        seed: decides which.

    Returns:
        Rows to train on, and rows that are held out; int [n], each in order.

    Raises:
        ValueError: if `tracks` is not positive, or a class has not one more to train on; names it.
    """
    if tracks < 1:
        raise ValueError(f"a positive number of tracks is held out of each class, got {tracks}.")
    random = np.random.default_rng(seed)
    held = []
    for label in np.unique(signs.label):
        left = np.unique(signs.track[signs.label == label])
        if len(left) <= tracks:
            raise ValueError(
                f"{tracks} cannot be held out of class {label}, which has {len(left)}, if one must "
                "be left."
            )
        for _ in range(tracks):  # in turn: a single one is the one that records were made with
            held.append(random.choice(left))
            left = left[left != held[-1]]
    mask = np.isin(signs.track, held)
    return np.flatnonzero(~mask), np.flatnonzero(mask)
