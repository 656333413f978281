"""From SVHN's published files to crops on disk, in `svhn/<size>` of the place where data lie.

Written are, for each split, `<split>_images.npy`, `<split>_labels.npy` and `<split>_boxes.npy` (see
`svhn.Numbers`), and `info.json`. Rows are in the order of the digitStruct.mat.

Rows in the making lie in `svhn/partial`, with a byte each that says what became of it. Called again
after an interruption, of whatever kind, `prepare` goes on there and ends with the same bytes. A
split counts as finished once `info.json` has it.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import PIL
from PIL import Image
from tqdm import tqdm

from stn_jax.data import archives, svhn_crops, svhn_files
from stn_jax.data.digit_struct import BAD_LABEL, Entry
from stn_jax.data.svhn import (
    FORMAT,
    LOST,
    MAX_DIGITS,
    NO_DIGIT,
    SIZES,
    array_paths,
    folder_of,
    open_split,
    read_info,
)
from stn_jax.data.types import fingerprint

# What an entry may have against it -> what that means. Of these no crop is written ...
DROPPED = {
    "no_boxes": "no digits are listed",
    "too_long": f"more than {MAX_DIGITS} digits",
    "bad_label": "the label of a digit is none of 1 to 10",
    "missing_image": "there is no such image",
    "unreadable_image": "the image is damaged",
    "no_usable_box": "all boxes are empty or outside the image",
}
# ... and of these one is, their digits' labels included.
KEPT = {
    svhn_crops.CLIPPED: "a box reaches beyond the image: clipped",
    svhn_crops.EMPTY: "a box without width or height: left out of the box around the digits",
    svhn_crops.OUTSIDE: "a box outside the image: left out of the box around the digits",
    "filled_crop": "the region reaches beyond the image: filled from the image's border",
}

# Bits of the byte a row has. 0: nothing became of it yet.
_WRITTEN = 1
_BITS = {
    kind: 2 << bit
    for bit, kind in enumerate((*KEPT, "missing_image", "unreadable_image", "no_usable_box"))
}
_COMMIT_EVERY = 500  # rows; a kill costs no more
_NUM_EXAMPLES = 5


def prepare(
    source: Path, place: Path, *, sizes: Sequence[int], splits: Iterable[str] | None = None
) -> None:
    """Write the crops of all splits that a folder has, unless they are there already.

    Args:
        source: folder with the publisher's files, see `svhn_files.find`.
        place: where data lie.
        sizes: of the crops, of `svhn.SIZES`. An image is decoded once for all of them.
        splits: only these; None means all that are there.

    Raises:
        FileNotFoundError: none of the splits, or not all of those named, are in the folder.
        ValueError: a digitStruct.mat or an archive is damaged, or there is no such size. What was
            written until then is kept.
        OSError: the disk is full, for example; likewise.
    """
    folders = [folder_of(place, size) for size in dict.fromkeys(sizes)]
    wanted = svhn_files.SPLITS if splits is None else list(splits)
    found = svhn_files.find(source, wanted)
    chosen = list(found) if splits is None else wanted
    missing = [split for split in chosen if split not in found]
    if missing or not chosen:
        names = ", ".join(f"{split}.tar.gz" for split in missing or svhn_files.SPLITS)
        raise FileNotFoundError(f"{source} has none of {names}, nor the folders in them.")
    scratch = place / "svhn" / "partial"
    for split in chosen:
        finished = {folder: is_finished(folder, split) for folder in folders}
        if not all(finished.values()):
            left = [folder for folder in folders if not finished[folder]]
            _prepare_split(split, found[split], scratch, left)
        for folder in folders:  # what an interruption in the very end may have left
            shutil.rmtree(scratch / f"{split}-{folder.name}", ignore_errors=True)
    with contextlib.suppress(OSError):  # there is none, or other sizes are in the making
        scratch.rmdir()


def is_finished(folder: Path, split: str) -> bool:
    """Tell whether a split is in a folder of crops, whole.

    Raises:
        ValueError: it should be, but a file is missing or damaged.
    """
    info = read_info(folder)
    if not info or split not in info["splits"]:
        return False
    open_split(folder, split, written=info["splits"][split]["written"])
    return True


def _prepare_split(split: str, path: Path, scratch: Path, folders: Sequence[Path]) -> None:
    scratch.mkdir(parents=True, exist_ok=True)
    entries = svhn_files.read_entries(path, scratch=scratch)
    dropped = {entry.name: kind for entry in entries if (kind := _why_dropped(entry))}
    rows = [entry for entry in entries if entry.name not in dropped]
    with contextlib.ExitStack() as stack:
        partials = [
            stack.enter_context(_Partial(scratch / f"{split}-{folder.name}", rows, folder))
            for folder in folders
        ]
        _check_space(scratch, sum(partial.missing_bytes() for partial in partials))
        if open_partials := [partial for partial in partials if not partial.sealed]:
            _write_rows(split, path, rows, open_partials)
    for partial in partials:
        record = {"source": str(path), "entries": len(entries)}
        partial.finish(split, record, dropped)


def _why_dropped(entry: Entry) -> str | None:
    """Name what is wrong with an entry, if that is known without its image."""
    if len(entry.labels) == 0:
        return "no_boxes"
    if len(entry.labels) > MAX_DIGITS:
        return "too_long"
    return "bad_label" if BAD_LABEL in entry.labels else None


def _write_rows(split: str, path: Path, rows: list[Entry], partials: list["_Partial"]) -> None:
    number = {entry.name: row for row, entry in enumerate(rows)}
    todo = np.any([partial.states == 0 for partial in partials], axis=0)
    names = [rows[row].name for row in np.flatnonzero(todo)]
    progress = tqdm(
        svhn_files.images(path, names),
        total=len(rows),
        initial=len(rows) - len(names),
        desc=f"{split}: crops",
        unit="image",
        mininterval=1,
        disable=None,
    )
    for name, content in progress:
        row = number[name]
        left = [partial for partial in partials if partial.states[row] == 0]
        image = archives.decode(content)
        if image is None:
            box, problems = np.full(4, np.nan), {"unreadable_image"}
        else:
            box, problems = svhn_crops.digits_box(rows[row].boxes, image.size)
            if np.isnan(box[0]):
                problems = {"no_usable_box"}
        for partial in left:
            if np.isnan(box[0]):
                partial.drop(row, problems)
            else:
                partial.write(row, image, box, problems)
    for partial in partials:
        for row in np.flatnonzero(partial.states == 0):
            partial.drop(row, {"missing_image"})
        partial.seal()


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"{needed / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free",
            str(folder),
        )


class _Partial:
    """One split at one size in the making: images, boxes and states, a row for each entry."""

    def __init__(self, scratch: Path, rows: list[Entry], folder: Path):
        self._scratch, self._rows, self._folder = scratch, rows, folder
        self._size = int(folder.name)
        self._images = scratch / "images.npy"
        self._image_bytes = self._size**2 * 3
        self._since_commit = 0

    def __enter__(self) -> "_Partial":
        key = self._key()
        path = self._scratch / "key"
        # The key is written last: with it, all files are there and belong to these rows.
        if not path.is_file() or path.read_text(encoding="ascii") != key:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch.mkdir(parents=True)
            with self._images.open("wb") as file:
                _write_header(file, (len(self._rows), self._size, self._size, 3), np.uint8)
            (self._scratch / "boxes").write_bytes(bytes(16 * len(self._rows)))
            (self._scratch / "states").write_bytes(bytes(len(self._rows)))
            _replace(path, key.encode("ascii"))
        self.states = np.fromfile(self._scratch / "states", np.uint8)
        self._boxes = np.fromfile(self._scratch / "boxes", np.float32).reshape(-1, 4)
        self.sealed = (self._scratch / "sealed").is_file()
        # Once sealed, the images may have been moved away already, see `finish`.
        self._file = None
        if not self.sealed:
            self.states[(self.states & _WRITTEN) == 0] = 0  # another look: the source may be mended
            self._file = self._images.open("r+b", buffering=0)
            self._offset = _header_bytes(self._images)
        return self

    def __exit__(self, kind, *_) -> None:
        if self._file is None:
            return
        try:
            # A full disk is reported once: by what was in progress.
            with contextlib.suppress(*([OSError] if kind else [])):
                self._commit()
        finally:
            self._file.close()

    def _key(self) -> str:
        """Say which rows of which kind these are: only those are continued."""
        digest = hashlib.sha256(json.dumps([FORMAT, self._size, PIL.__version__]).encode())
        for entry in self._rows:
            digest.update(entry.name.encode() + b"\0" + bytes([len(entry.labels)]))
            digest.update(entry.labels.tobytes() + entry.boxes.tobytes())
        return digest.hexdigest()

    def missing_bytes(self) -> int:
        """Return how much the images will grow."""
        if self._file is None:
            return 0
        return max(0, len(self._rows) * self._image_bytes - self._images.stat().st_size)

    def write(self, row: int, image: Image.Image, box: np.ndarray, problems: set[str]) -> None:
        """Write the crop of a row."""
        region = svhn_crops.grow(box, SIZES[self._size])
        if svhn_crops.reaches_out(region, image.size):
            problems = problems | {"filled_crop"}
        crop = svhn_crops.crop(image, region, size=self._size)
        _write_at(self._file, self._offset + row * self._image_bytes, crop.tobytes())
        self._boxes[row] = svhn_crops.in_crop(box, region, size=self._size)
        self._set(row, _WRITTEN, problems)

    def drop(self, row: int, problems: set[str]) -> None:
        """Note that a row will have no crop, and why."""
        self._set(row, 0, problems)

    def seal(self) -> None:
        """Note that the source was read to its end without an error, and nothing is to be added."""
        self._commit()
        _replace(self._scratch / "sealed", b"")
        self.sealed = True

    def _set(self, row: int, state: int, problems: set[str]) -> None:
        self.states[row] = state | sum(_BITS[kind] for kind in problems)
        self._since_commit += 1
        if self._since_commit >= _COMMIT_EVERY:
            self._commit()

    def _commit(self) -> None:
        """Put rows on disk first, then the states that say that they are there."""
        os.fsync(self._file.fileno())
        for name, array in (("boxes", self._boxes), ("states", self.states)):
            with (self._scratch / name).open("r+b", buffering=0) as file:
                _write_at(file, 0, array.tobytes())
                os.fsync(file.fileno())
        self._since_commit = 0

    def finish(self, split: str, record: dict, dropped: dict[str, str]) -> None:
        """Move the arrays to their place and enter the split into info.json.

        Each step can be repeated: an interruption in between costs nothing.
        """
        kept = np.flatnonzero(self.states & _WRITTEN)
        self._folder.mkdir(parents=True, exist_ok=True)
        paths = array_paths(self._folder, split)
        labels = np.full((len(kept), MAX_DIGITS), NO_DIGIT, np.uint8)
        for label, row in zip(labels, kept, strict=True):
            digits = self._rows[row].labels
            label[: len(digits)] = digits
        _replace(paths["label"], _npy(labels))
        _replace(paths["box"], _npy(self._boxes[kept]))
        if len(kept) < len(self._rows):
            self._copy_images(kept, paths["image"])
        elif self._images.is_file():
            self._images.replace(paths["image"])
        arrays = open_split(self._folder, split, written=len(kept))
        problems = self._problems(dropped)
        info = read_info(self._folder) or {
            "format": FORMAT,
            "size": self._size,
            "rule": f"box around all digits, clipped to the image, {SIZES[self._size]} times its "
            "size about its centre, filled from the image's border; resized (Pillow, bilinear)",
            "splits": {},
        }
        info["splits"][split] = {
            **record,
            "written": len(kept),
            "pillow": PIL.__version__,
            "fingerprint": fingerprint(*arrays),
            "problems": {
                kind: {"count": len(names), "examples": names[:_NUM_EXAMPLES]}
                for kind, names in problems.items()
            },
        }
        text = json.dumps(info, indent=1)
        _replace(self._folder / "info.json", text.encode("utf-8"))
        shutil.rmtree(self._scratch)

    def _copy_images(self, kept: np.ndarray, path: Path) -> None:
        """Write the images without the rows that have none."""
        images = np.load(self._whole_images(), mmap_mode="r")
        _check_space(self._folder, len(kept) * self._image_bytes)
        new = path.with_name(f"{path.name}.new")
        with new.open("wb") as file:
            _write_header(file, (len(kept), *images.shape[1:]), np.uint8)
            for rows in np.array_split(kept, len(kept) // _COMMIT_EVERY + 1):
                file.write(images[rows].tobytes())
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)

    def _whole_images(self) -> Path:
        """Give the file its full length: it ends early if its last rows have no image."""
        length = _header_bytes(self._images) + len(self._rows) * self._image_bytes
        os.truncate(self._images, length)
        return self._images

    def _problems(self, dropped: dict[str, str]) -> dict[str, list[str]]:
        """Return the names of the images with each kind of problem, in their order."""
        return {
            kind: [self._rows[row].name for row in np.flatnonzero(self.states & _BITS[kind])]
            if kind in _BITS
            else [name for name, why in dropped.items() if why == kind]
            for kind in (*DROPPED, *KEPT)
        }


def _write_at(file: IO[bytes], offset: int, content: bytes) -> None:
    """Write all of it; a nearly full disk takes a part first, and fails at the next attempt.

    A memory-mapped file is not used: there, a full disk kills the process.
    """
    file.seek(offset)
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _write_header(file: IO[bytes], shape: tuple[int, ...], dtype: type) -> None:
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _header_bytes(path: Path) -> int:
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        return file.tell()


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def describe(folder: Path) -> Iterator[str]:
    """Yield lines that say what is in a folder of crops, and what was wrong with which images."""
    for split, record in (read_info(folder) or {"splits": {}})["splits"].items():
        yield f"{folder} {split}: {record['written']:,} crops of {record['entries']:,} images"
        for kind, problem in record["problems"].items():
            if problem["count"]:
                fate, meaning = ("left out", DROPPED) if kind in DROPPED else ("kept", KEPT)
                examples = ", ".join(problem["examples"])
                if problem["count"] > len(problem["examples"]):
                    examples += ", ..."
                yield f"  {fate}: {problem['count']:,} with {kind} ({meaning[kind]}): {examples}"
        if any(record["problems"][kind]["count"] for kind in LOST):
            yield f"  delete {folder} to prepare it again once those files are mended"
