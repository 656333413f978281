"""From CUB's images to arrays on disk, in `cub/<size>` of the place where data lie.

JPEG files are decoded here, once, by worker processes: a training batch then only copies its crops
out of the memory-mapped file, in threads. That takes a tenth of what decoding would in every epoch,
even of JPEG files in the prepared size (one core, milliseconds an image: 0.2 to 1.5 at 256 px, 0.8
to 6 at 512 px). Images are resized, shorter side `size`, with Pillow's bilinear filter:
it averages where an image shrinks, and interpolates where it grows.

Written are `pixels.raw`, the values of all images one after the other, the arrays of `cub.ARRAYS`,
a file each, and `info.json`. Until all is there, it lies in `cub/<size>.partial`, with a journal of
the images whose pixels are on disk: called again after an interruption, `prepare` goes on behind
the last one of these, and ends with the same fingerprint.
"""

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import PIL
from PIL import Image
from tqdm import tqdm

from stn_jax.data import archives, cub_files, cub_tfds
from stn_jax.data.cub import ARRAYS, FORMAT, PIXELS, SPLITS, folder_of, read_info
from stn_jax.data.cub_files import Listed, Source
from stn_jax.data.types import fingerprint
from stn_jax.data.workers import in_order

# What an image may have against it -> what that means.
PROBLEMS = {"missing_image": "listed, but not there", "unreadable_image": "cannot be decoded"}

# A line of the journal: row of the lists, prepared height and width, width and height of the
# original, digest of the values.
_ENTRY = np.dtype(
    [
        ("row", np.int32),
        ("shape", np.int32, 2),
        ("original_size", np.int32, 2),
        ("digest", np.uint8, 16),
    ]
)
_COMMIT_EVERY = 200  # images; a kill costs no more
_NUM_EXAMPLES = 5


def find(path: Path) -> Source | None:
    """Return CUB as a path has it, published or prepared by TFDS; None if it does not."""
    return cub_files.find(path) or cub_tfds.find(path)


def prepare(source: Source, place: Path, *, size: int, workers: int = 1) -> None:
    """Write both splits at one size: the same values however many processes decode.

    Images that are missing or cannot be decoded are left out, and counted.

    Args:
        source: as `find` finds it.
        place: where data lie.
        size: shorter side of the images in pixels.
        workers: processes that decode and resize; with 1, it is this one.

    Raises:
        FileNotFoundError: a list is missing, or all images of a split are.
        ValueError: a list or an archive is damaged, or size or workers are not positive. What was
            written until then is kept.
        OSError: the disk is full, for example; likewise.
    """
    if size < 1:
        raise ValueError(f"size must be positive, got {size}.")
    listed = source.read_lists()
    folder = folder_of(place, size)
    partial = folder.with_name(f"{size}.partial")
    _begin(partial, _key(listed, size))
    unreadable = _write_pixels(source, listed, partial, size, workers)
    _finish(source, listed, partial, folder, unreadable)


def resize(image: Image.Image, size: int) -> Image.Image:
    """Resize an image so that its shorter side becomes `size`, and it keeps its proportions."""
    sides = [round(side * size / min(image.size)) for side in image.size]
    return image.resize(sides, Image.Resampling.BILINEAR)


def _key(listed: Listed, size: int) -> str:
    """Say which images these are, and how they are prepared: only those are continued."""
    digest = hashlib.sha256(json.dumps([FORMAT, size, PIL.__version__, *listed.name]).encode())
    digest.update(fingerprint(listed.id, listed.number, listed.train).encode())
    return digest.hexdigest()


def _begin(partial: Path, key: str) -> None:
    """Bring the folder into the state of its last commit; empty it if it is of other images."""
    path, pixels = partial / "key", partial / PIXELS
    if path.is_file() and path.read_text(encoding="ascii") == key:
        entries = _entries(partial)
        if pixels.stat().st_size >= _num_values(entries):
            os.truncate(pixels, _num_values(entries))
            os.truncate(partial / "journal", entries.nbytes)
            return
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    pixels.touch()
    (partial / "journal").touch()
    path.write_text(key, encoding="ascii")


def _entries(partial: Path) -> np.ndarray:
    path = partial / "journal"
    return np.fromfile(path, _ENTRY, count=path.stat().st_size // _ENTRY.itemsize)


def _num_values(entries: np.ndarray) -> int:
    return int(3 * np.prod(entries["shape"], axis=1, dtype=np.int64).sum())


class _Decoded(NamedTuple):
    """An image, resized; `original_size` is (width, height), `digest` that of the values."""

    name: str
    values: np.ndarray
    original_size: tuple[int, int]
    digest: np.ndarray


def _decode(named: tuple[str, bytes], *, size: int) -> _Decoded | str:
    """Decode and resize an image; of one that cannot be decoded, return the name."""
    name, content = named
    image = archives.decode(content)
    if image is None:
        return name
    values = np.asarray(resize(image, size))
    digest = np.frombuffer(hashlib.sha256(values.data).digest()[:16], np.uint8)
    return _Decoded(name, values, image.size, digest)


def _write_pixels(
    source: Source, listed: Listed, partial: Path, size: int, workers: int
) -> list[str]:
    """Write the images that are not yet there, and return the names of those that cannot be."""
    row_of = {name: row for row, name in enumerate(listed.name)}
    done = set(_entries(partial)["row"].tolist())
    names = [name for name, row in row_of.items() if row not in done]
    decoded = in_order(functools.partial(_decode, size=size), source.images(names), workers=workers)
    progress = tqdm(
        decoded,
        total=len(row_of),
        initial=len(done),
        desc=f"birds of {size} px",
        unit="image",
        mininterval=1,
        disable=None,
    )
    unreadable, entries = [], []
    with (partial / PIXELS).open("ab") as pixels, (partial / "journal").open("ab") as journal:
        try:
            for image in progress:
                if isinstance(image, str):
                    unreadable.append(image)
                    continue
                pixels.write(image.values.data)
                shape = image.values.shape[:2]
                entries.append((row_of[image.name], shape, image.original_size, image.digest))
                if len(entries) == _COMMIT_EVERY:
                    _commit(pixels, journal, entries)
        finally:
            _commit(pixels, journal, entries)
    return unreadable


def _commit(pixels: IO[bytes], journal: IO[bytes], entries: list[tuple]) -> None:
    """Put pixels on disk first, then the entries that say that they are there."""
    for file, content in ((pixels, b""), (journal, np.array(entries, _ENTRY).tobytes())):
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    entries.clear()


def _finish(
    source: Source, listed: Listed, partial: Path, folder: Path, unreadable: list[str]
) -> None:
    entries = _entries(partial)
    lengths = 3 * np.prod(entries["shape"], axis=1, dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    order = np.argsort(entries["row"])
    entries, starts = entries[order], starts[order]
    rows = entries["row"]
    problems = _problems(listed, rows, unreadable)
    counts = {}
    for split in SPLITS:
        inside = listed.train == (split == "train")
        counts[split] = {
            "entries": int(inside.sum()),
            "written": int(inside[rows].sum()),
            **{kind: int(inside[missing].sum()) for kind, missing in problems.items()},
        }
        if not counts[split]["written"]:
            raise FileNotFoundError(f"{source.path} has no image of the {split} split.")
    _, label = np.unique(listed.number, return_inverse=True)
    arrays = {
        "start": starts,
        "shape": entries["shape"],
        "label": label[rows],
        "id": listed.id[rows],
        "train": listed.train[rows],
        "original_size": entries["original_size"],
        "box": listed.box[rows],
        "part": listed.part[rows],
        "part_visible": listed.part_visible[rows],
    }
    for name, array in arrays.items():
        arrays[name] = array.astype(ARRAYS[name][1])
        np.save(partial / f"{name}.npy", arrays[name])
    # The order of the pixels on disk is the archive's, and no part of the content.
    content = [array for name, array in arrays.items() if name != "start"]
    info = {
        "format": FORMAT,
        "source": str(source.path),
        "parts": listed.parts,
        "class_names": list(listed.class_names.values()),
        "pillow": PIL.__version__,
        "counts": counts,
        "examples": {
            kind: [listed.name[row] for row in missing[:_NUM_EXAMPLES]]
            for kind, missing in problems.items()
        },
        "fingerprint": fingerprint(entries["digest"], *content),
    }
    (partial / "info.json").write_text(f"{json.dumps(info, indent=1)}\n", encoding="utf-8")
    for name in ("journal", "key"):
        (partial / name).unlink()
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _problems(listed: Listed, rows: np.ndarray, unreadable: list[str]) -> dict[str, np.ndarray]:
    """Return the rows of the lists that have no image, by the reason why."""
    found = np.isin(listed.name, unreadable)
    absent = ~found
    absent[rows] = False
    return {"missing_image": np.flatnonzero(absent), "unreadable_image": np.flatnonzero(found)}


def describe(folder: Path) -> Iterator[str]:
    """Yield lines that say what is in a folder of birds, and which images were left out."""
    info = read_info(folder)
    for split, counts in info["counts"].items():
        yield f"{folder} {split}: {counts['written']:,} of {counts['entries']:,} images"
    for kind, names in info["examples"].items():
        if names:
            count = sum(counts[kind] for counts in info["counts"].values())
            more = ", ..." if count > len(names) else ""
            yield f"  left out: {count:,} ({PROBLEMS[kind]}): {', '.join(names)}{more}"
