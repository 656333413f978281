"""The idx files in which MNIST was published: big-endian header, then one byte per value.

Header: two zero bytes, 8 (unsigned byte), the number of dimensions, each dimension as uint32.
"""

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np

FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
IMAGE_SHAPE = (28, 28)


def find(folder: str | os.PathLike) -> dict[str, Path] | None:
    """Return the paths of the four files in a folder, keyed as in FILES, or None if it has none.

    Each may be gzipped or not, and spelled `train-images-idx3-ubyte` or `train-images.idx3-ubyte`;
    of several, the first in this order is taken: not gzipped, with a dash.

    Raises:
        FileNotFoundError: some of the four are there, but not all.
    """
    folder = Path(folder)
    found = {}
    for part, name in FILES.items():
        spellings = (name, name.replace("-idx", ".idx"))
        candidates = [folder / (s + suffix) for suffix in ("", ".gz") for s in spellings]
        path = next(filter(Path.is_file, candidates), None)
        if path:
            found[part] = path
    missing = [name for part, name in FILES.items() if part not in found]
    if found and missing:
        raise FileNotFoundError(
            f"{folder} has {', '.join(p.name for p in found.values())}, but lacks "
            f"{', '.join(missing)} (.gz or not): MNIST needs all four."
        )
    return found or None


def read(path: str | os.PathLike, *, ndim: int) -> np.ndarray:
    """Read one idx file of unsigned bytes, gzipped or not.

    Returns:
        uint8, of the shape its header gives; not writeable.

    Raises:
        ValueError: the gzip stream is damaged, the header is not that of `ndim`-dimensional
            unsigned bytes, or the length is not what the header says.
    """
    data = Path(path).read_bytes()
    # Told by content: browsers unpack a .gz without renaming it, and the other way round.
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: damaged gzip file ({error}); get it again.") from error
    magic = bytes([0, 0, 8, ndim])
    if data[:4] != magic:
        raise ValueError(
            f"{path}: starts with bytes {data[:4].hex(' ')!r}, but {ndim}-dimensional idx data "
            f"start with {magic.hex(' ')!r}."
        )
    header = 4 + 4 * ndim
    if len(data) < header:
        raise ValueError(f"{path}: {len(data)} bytes are less than the header's {header}.")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", ndim, offset=4))
    if len(data) != header + math.prod(shape):
        raise ValueError(
            f"{path}: the header announces shape {shape}, {math.prod(shape)} bytes, but "
            f"{len(data) - header} follow it; the file is cut short or damaged, get it again."
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def read_digits(images_path: Path, labels_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read digits and their labels from one images and one labels file.

    Returns:
        images [N, 28, 28, 1] uint8 and labels [N] int32.

    Raises:
        ValueError: as `read`; or images not of 28x28, none at all, not as many as labels, or
            a label outside 0 to 9.
    """
    images = read(images_path, ndim=3)
    labels = read(labels_path, ndim=1)
    if images.shape[1:] != IMAGE_SHAPE:
        raise ValueError(f"{images_path}: images of shape {images.shape[1:]}, not {IMAGE_SHAPE}.")
    if len(images) == 0:
        raise ValueError(f"{images_path}: holds no images.")
    if len(images) != len(labels):
        raise ValueError(
            f"{images_path}: {len(images)} images, but {len(labels)} labels in {labels_path}."
        )
    if labels.max() > 9:
        where = int(labels.argmax())
        raise ValueError(f"{labels_path}: label {labels[where]} at {where}, not in 0 to 9.")
    return images[..., None], labels.astype(np.int32)
