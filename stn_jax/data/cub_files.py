"""CUB-200-2011 as published: an archive of JPEG files and lists, or the folder in it.

Each line of a list begins with the number of an image, a class or a part:

    images.txt               image, path in images/      001.Black_footed_Albatross/....jpg
    image_class_labels.txt   image, class
    train_test_split.txt     image, 1 for training or 0 for testing
    classes.txt              class, name
    bounding_boxes.txt       image, x, y, width, height
    parts/parts.txt          part, name
    parts/part_locs.txt      image, part, x, y, 1 if visible or 0; x and y in pixels, as above

Archives are streamed: nothing of them is put on disk. A folder with some of the classes is read,
too, if all of its lists are of the same images.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from stn_jax.data import archives
from stn_jax.data.cub import PARTS

FOLDER = "CUB_200_2011"
ARCHIVE = f"{FOLDER}.tgz"
URL = f"https://data.caltech.edu/records/65de6-vp158/files/{ARCHIVE}"
SIZE = 1_150_585_339  # bytes
# As TFDS has noted it. The publisher's MD5 is 97eceeb196236b17998738112f37df78.
SHA256 = "0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081"
LISTS = (
    "images.txt",
    "image_class_labels.txt",
    "train_test_split.txt",
    "classes.txt",
    "bounding_boxes.txt",
    "parts/parts.txt",
    "parts/part_locs.txt",
)


class Listed(NamedTuple):
    """What a source says of its images, in its order.

    Attributes:
        name: paths in the folder of images, with `/`.
        id: [N] int32, all different; negative where the source has none.
        number: [N] int32, the class as the publisher numbers it, from 1 on.
        train: [N] bool, whether in the training split.
        box: [N, 4] float32, the bird's (left, top, right, bottom) in pixels.
        part: [N, 15, 2] float32, (x, y) of `cub.PARTS` in pixels; NaN where not visible.
        part_visible: [N, 15] bool.
        class_names: number -> name, of the classes that have images.
        parts: whether the source has parts at all.
    """

    name: list[str]
    id: np.ndarray
    number: np.ndarray
    train: np.ndarray
    box: np.ndarray
    part: np.ndarray
    part_visible: np.ndarray
    class_names: dict[int, str]
    parts: bool


class Source(NamedTuple):
    """Where CUB is, and how to read it.

    Attributes:
        path: folder or archive.
        read_lists: function without arguments.
        images: function of names, yielding name and content of those images that are there, in any
            order.
    """

    path: Path
    read_lists: Callable[[], Listed]
    images: Callable[[Collection[str]], Iterator[tuple[str, bytes]]]


def find(path: Path) -> Source | None:
    """Return the published folder or archive that a path is, or that is in it; None if neither."""
    for place in (path, path / FOLDER):
        if (place / LISTS[0]).is_file() or (place.name == FOLDER and place.is_dir()):
            return Source(place, partial(_lists_of_folder, place), partial(_images_in, place))
    for place in (path, path / ARCHIVE):
        if place.is_file():
            return archive(place)
    return None


def archive(path: Path) -> Source:
    """Return an archive as a source."""
    return Source(path, partial(_lists_of_archive, path), partial(_images_of_archive, path))


def _lists_of_folder(folder: Path) -> Listed:
    """Read the lists.

    Raises:
        FileNotFoundError: one is missing.
        ValueError: one is damaged; names it and, if it can, the line.
    """
    contents = {}
    for name in LISTS:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"there is no {folder / name}.")
        contents[name] = (folder / name).read_bytes()
    return _parse(folder, contents)


def _lists_of_archive(path: Path) -> Listed:
    """Read the lists, from as much of the archive as is needed.

    Raises:
        ValueError: the archive is damaged, or lacks a list; or as `_lists_of_folder`.
    """
    contents = {}
    with _naming(path), contextlib.closing(archives.members(path)) as members:
        for member, file in members:
            name = _relative(member)
            if name in LISTS:
                contents[name] = file.read()
            if len(contents) == len(LISTS):
                break
    if missing := [name for name in LISTS if name not in contents]:
        raise ValueError(f"{path}: has no {FOLDER}/{missing[0]}, so it is no archive of CUB.")
    return _parse(path, contents)


def _images_in(folder: Path, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        path = folder / "images" / name
        if path.is_file():
            yield name, path.read_bytes()


def _images_of_archive(path: Path, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
    left = {f"images/{name}" for name in names}
    with _naming(path):
        for member, file in archives.members(path):
            name = _relative(member)
            if name in left:
                left.remove(name)
                yield name.removeprefix("images/"), file.read()


def _naming(path: Path) -> contextlib.AbstractContextManager[None]:
    return archives.naming(path, unpacked=path.parent / FOLDER)


def _relative(member: PurePosixPath) -> str:
    """Return a name in the archive as one in the folder; "" if it is not in there."""
    parts = member.parts
    return "/".join(parts[parts.index(FOLDER) + 1 :]) if FOLDER in parts else ""


def _parse(path: Path, contents: dict[str, bytes]) -> Listed:
    try:
        texts = {name: _text(name, content) for name, content in contents.items()}
        return _listed(texts)
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from error


def _text(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: damaged ({error}).") from error


def _listed(texts: dict[str, str]) -> Listed:
    """Bring what the lists say into the order of images.txt."""
    names, classes = _names(texts, "images.txt"), _names(texts, "classes.txt")
    parts = _names(texts, "parts/parts.txt")
    if list(parts.items()) != list(enumerate(PARTS, start=1)):
        raise ValueError(f"parts/parts.txt: not the {len(PARTS)} parts, {', '.join(PARTS)}.")
    if len(set(names.values())) != len(names):
        raise ValueError("images.txt: lists an image twice.")
    ids = list(names)
    number = _of_images(texts, "image_class_labels.txt", ids, 1)[:, 0, 0].astype(np.int32)
    split = _of_images(texts, "train_test_split.txt", ids, 1)[:, 0, 0]
    box = _of_images(texts, "bounding_boxes.txt", ids, 4)[:, 0]
    locations = _of_images(texts, "parts/part_locs.txt", ids, 4, lines=len(PARTS))
    for image, of_image, side, points in zip(ids, number.tolist(), split, locations, strict=True):
        if of_image not in classes:
            raise ValueError(f"image_class_labels.txt: image {image} has the class {of_image}.")
        if side not in (0, 1):
            raise ValueError(f"train_test_split.txt: image {image} has {side:g}, neither 0 nor 1.")
        if points[:, 0].tolist() != list(parts) or not np.isin(points[:, 3], (0, 1)).all():
            raise ValueError(f"parts/part_locs.txt: damaged where image {image} is.")
    visible = locations[:, :, 3] == 1
    return Listed(
        name=list(names.values()),
        id=np.array(ids, np.int32),
        number=number,
        train=split == 1,
        box=np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], axis=1).astype(np.float32),
        part=np.where(visible[:, :, None], locations[:, :, 1:3], np.nan).astype(np.float32),
        part_visible=visible,
        class_names={n: classes[n] for n in sorted(set(number.tolist()))},
        parts=True,
    )


def _names(texts: dict[str, str], name: str) -> dict[int, str]:
    """Read a list of a number and a name a line."""
    found = {}
    for at, line in _lines(texts, name):
        words = line.split(maxsplit=1)
        if len(words) != 2 or not words[0].isdecimal() or int(words[0]) in found:
            raise ValueError(f"{name}, line {at}: damaged ({line!r}).")
        found[int(words[0])] = words[1].strip()
    if not found:
        raise ValueError(f"{name}: empty.")
    return found


def _of_images(
    texts: dict[str, str], name: str, ids: list[int], columns: int, *, lines: int = 1
) -> np.ndarray:
    """Read a list that has some lines of numbers for each image: float64 [N, lines, columns]."""
    rows: dict[int, list[list[float]]] = {image: [] for image in ids}
    for at, line in _lines(texts, name):
        words = line.split()
        try:
            image, values = int(words[0]), [float(word) for word in words[1:]]
        except ValueError as error:
            raise ValueError(f"{name}, line {at}: damaged ({error}).") from error
        if len(values) != columns or not np.isfinite(values).all():
            raise ValueError(f"{name}, line {at}: damaged ({line!r}).")
        if image not in rows:
            raise ValueError(f"{name}, line {at}: images.txt has no image {image}.")
        rows[image].append(values)
    for image, found in rows.items():
        if len(found) != lines:
            raise ValueError(f"{name}: {len(found)} lines instead of {lines} for image {image}.")
    return np.array([rows[image] for image in ids])


def _lines(texts: dict[str, str], name: str) -> Iterator[tuple[int, str]]:
    """Yield number and content of the lines that are not empty."""
    for at, line in enumerate(texts[name].splitlines(), start=1):
        if line.strip():
            yield at, line
