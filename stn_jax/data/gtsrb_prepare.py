"""From GTSRB's files to arrays on disk, in `gtsrb/<size>` of the place where data lie.

Written are the fields of `gtsrb.Signs`, a file each, and `info.json`; all of it is there or none.
Images are resized whole, width and height apart, with Pillow's bilinear filter: it averages where
an image shrinks, and interpolates where it grows.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from stn_jax.data import gtsrb_files
from stn_jax.data.gtsrb import FORMAT, NO_TRACK, SPLITS, Signs, array_path, folder_of, read_info
from stn_jax.data.gtsrb_files import Entry, Source
from stn_jax.data.types import fingerprint

UNREADABLE = "unreadable_image"


def prepare(source: Source, place: Path, *, size: int) -> None:
    """Write both splits at one size.

    Images that are missing or cannot be decoded are left out, and counted.

    Args:
        source: the publisher's files, as `gtsrb_files.find` finds them.
        place: where data lie.
        size: side of the images in pixels.

    Raises:
        FileNotFoundError: a list or a sheet is missing, or all images of a split are.
        ValueError: a list or a sheet is damaged, an image is not of the size that its list says, or
            `size` is not positive.
    """
    if size < 1:
        raise ValueError(f"size must be positive, got {size}.")
    # Both lists first: a damaged one is not found only after minutes.
    entries = {split: gtsrb_files.read_entries(source, split) for split in SPLITS}
    folder = folder_of(place, size)
    partial = folder.with_name(f"{size}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    arrays, counts = [], {}
    for split in SPLITS:
        signs, counts[split] = _read(source, split, entries[split], size)
        for field, array in signs._asdict().items():
            np.save(array_path(partial, split, field), array)
        arrays += signs
    info = {
        "format": FORMAT,
        "source": str(source.folder),
        "pixels": source.pixels,
        "counts": counts,
        "fingerprint": fingerprint(*arrays),
    }
    (partial / "info.json").write_text(f"{json.dumps(info, indent=1)}\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def describe(folder: Path) -> Iterator[str]:
    """Yield lines that say what is in a folder of signs, and how many images were left out."""
    for split, counts in read_info(folder)["counts"].items():
        left_out = f", {counts[UNREADABLE]:,} missing or damaged" if counts[UNREADABLE] else ""
        yield f"{folder} {split}: {counts['written']:,} of {counts['entries']:,} images{left_out}"


def _read(
    source: Source, split: str, entries: Sequence[Entry], size: int
) -> tuple[Signs, dict[str, int]]:
    read, pixels = [], np.empty((len(entries), size, size, 3), np.uint8)
    progress = tqdm(
        gtsrb_files.images(source, split, entries), split, len(entries), disable=None, unit="image"
    )
    for entry, image in progress:
        if image is not None:
            resized = image.resize((size, size), Image.Resampling.BILINEAR)
            pixels[len(read)] = np.asarray(resized)
            read.append(entry)
    if not read:
        raise FileNotFoundError(f"{source.folder} has no image of the {split} split.")
    names = sorted({entry.track for entry in read} - {""})
    number = {"": NO_TRACK} | {name: row for row, name in enumerate(names)}
    box = np.array([entry.box for entry in read], np.float64)
    sides = np.tile([entry.size for entry in read], 2)
    signs = Signs(
        image=pixels[: len(read)],
        label=np.array([entry.label for entry in read], np.int32),
        box=(box * size / sides).astype(np.float32),
        track=np.array([number[entry.track] for entry in read], np.int32),
    )
    return signs, {
        "entries": len(entries),
        "written": len(read),
        UNREADABLE: len(entries) - len(read),
    }
