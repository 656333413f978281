"""The file `digitStruct.mat` of the Street View House Numbers (SVHN): which digits are where.

A MATLAB 7.3 file, which is HDF5. `digitStruct/name` and `digitStruct/bbox` hold one object
reference an image: to its file name as UTF-16 units, and to a group with the fields `label`,
`left`, `top`, `width` and `height`. A field of an image with one digit holds the number itself, a
field of an image with more digits one further reference a digit.

It is read through h5py's low-level interface, which takes about a third of the time of the other.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from h5py import h5d, h5f, h5g, h5r, h5s, h5t

BOX_FIELDS = ("left", "top", "width", "height")
BAD_LABEL = -1
_DIGITS = {label: label % 10 for label in range(1, 11)}  # MATLAB's label 10 is digit 0


class Entry(NamedTuple):
    """What is said about one image.

    Attributes:
        name: the image's file name, as `1.png`.
        labels: [n] int64, digits 0 to 9 in the order listed, left to right; BAD_LABEL where the
            file has no digit's label.
        boxes: [n, 4] float64, left, top, width, height in pixels; left and top are the box's
            outer edges, 0 being the outer edge of the first pixel. Nothing is clipped.
    """

    name: str
    labels: np.ndarray
    boxes: np.ndarray


def count(path: str | os.PathLike) -> int:
    """Return the number of images that a `digitStruct.mat` describes.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: as `read`.
    """
    with _File(path) as file:
        return len(file.references("name"))


def read(path: str | os.PathLike) -> Iterator[Entry]:
    """Yield what a `digitStruct.mat` says about each image, in its order.

    MATLAB counts pixels from 1, but these boxes count from 0: the publisher's own see_bboxes.m
    shows rows top + 1 to top + height. So nothing is subtracted. Label 10 becomes digit 0.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is damaged, cut short, of another format, or a reference leads nowhere; the
            message names the file and the entry, counted from 1 as MATLAB does.
    """
    with _File(path) as file:
        names, boxes = file.references("name"), file.references("bbox")
        if len(names) != len(boxes):
            raise ValueError(f"{path}: {len(names)} names, but {len(boxes)} entries of boxes.")
        for number, (name, box) in enumerate(zip(names, boxes, strict=True), 1):
            try:
                yield file.entry(name, box)
            except _ERRORS as error:
                reason = " ".join(str(error.args[0] if error.args else error).split())
                raise ValueError(
                    f"{path}: entry {number} of {len(names)} is damaged ({reason}); "
                    "get the file again."
                ) from error


_CACHE_BYTES = 2**20
# What h5py raises on damaged files, and _File does; MemoryError where a length is damaged.
_ERRORS = (KeyError, MemoryError, OSError, RuntimeError, TypeError, UnicodeError, ValueError)


class _File:
    """An open `digitStruct.mat`, and how its parts are read."""

    def __init__(self, path: str | os.PathLike):
        self._path = Path(path)

    def __enter__(self) -> "_File":
        if not self._path.is_file():
            raise FileNotFoundError(f"{self._path} is not there.")
        try:
            self._id = h5f.open(os.fsencode(self._path), h5f.ACC_RDONLY)
        except OSError as error:
            raise ValueError(
                f"{self._path}: not a MATLAB 7.3 (HDF5) file, or cut short ({error}); get it again."
            ) from error
        # Each object is read once, and the library would keep the last 32 MiB of them, which in
        # memory are several times as much.
        cache = self._id.get_mdc_config()
        cache.set_initial_size = True
        cache.initial_size = cache.min_size = cache.max_size = _CACHE_BYTES
        self._id.set_mdc_config(cache)
        return self

    def __exit__(self, *_) -> None:
        self._id.close()

    def references(self, field: str) -> np.ndarray:
        """Return the object references of all entries, [N]."""
        try:
            group = h5g.open(self._id, b"digitStruct")
            references = _values(h5d.open(group, field.encode()))
        except _ERRORS as error:
            raise ValueError(
                f"{self._path}: has no readable digitStruct/{field} ({error}); get it again."
            ) from error
        if references.dtype != object:
            raise ValueError(
                f"{self._path}: digitStruct/{field} holds {references.dtype}, not references."
            )
        return references

    def entry(self, name: h5r.Reference, box: h5r.Reference) -> Entry:
        """Follow the two references of one image."""
        units = _values(self._follow(name))
        text = units.astype("<u2").tobytes().decode("utf-16-le")
        if not text or "/" in text or "\0" in text:
            raise ValueError(f"{text!r} is no file name")
        group = self._follow(box, h5g.GroupID, h5d.DatasetID)
        if isinstance(group, h5d.DatasetID):  # how MATLAB stores an empty struct
            if _values(group, empty=True).size:
                raise ValueError(f"the boxes of {text} are numbers, not fields")
            return Entry(text, np.zeros(0, np.int64), np.zeros((0, 4)))
        fields = {name: self._field(group, name) for name in ("label", *BOX_FIELDS)}
        lengths = {name: len(values) for name, values in fields.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the fields of {text} differ in length: {lengths}")
        labels = np.array([_DIGITS.get(label, BAD_LABEL) for label in fields["label"]], np.int64)
        boxes = np.array([fields[name] for name in BOX_FIELDS], np.float64).T
        return Entry(text, labels, boxes)

    def _field(self, group: h5g.GroupID, name: str) -> list[float]:
        values = _values(h5d.open(group, name.encode()), empty=True)
        if values.dtype == object:
            return [_number(self._follow(value)) for value in values]
        return values.astype(np.float64).tolist()

    def _follow(self, reference: h5r.Reference, *kinds: type) -> h5g.GroupID | h5d.DatasetID:
        if not isinstance(reference, h5r.Reference):
            raise TypeError(f"{type(reference).__name__} instead of an object reference")
        if not reference:
            raise ValueError("a reference leads nowhere")
        found = h5r.dereference(reference, self._id)
        if not isinstance(found, kinds or h5d.DatasetID):
            raise TypeError("a reference leads to something of another kind")
        return found


def _values(dataset: h5d.DatasetID, *, empty: bool = False) -> np.ndarray:
    """Read a data set, flattened: [n]; `empty` ones of MATLAB hold their shape instead."""
    values = np.empty(dataset.shape, dataset.dtype)
    dataset.read(h5s.ALL, h5s.ALL, values)
    if empty and values.dtype.kind == "u" and 0 in values:
        return np.zeros(0)
    return values.ravel()


def _number(dataset: h5d.DatasetID) -> float:
    """Read a data set of one number; `_values` would look at its type and shape first."""
    if dataset.get_space().get_simple_extent_npoints() != 1:
        raise ValueError(f"{dataset.shape} numbers instead of one")
    value = np.empty(1)
    dataset.read(h5s.ALL, h5s.ALL, value, h5t.NATIVE_DOUBLE)
    return value[0]
