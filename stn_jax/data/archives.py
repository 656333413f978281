"""Published .tar.gz archives, streamed: nothing of them is put on disk here."""

import contextlib
import gzip
import io
import struct
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from PIL import Image

# How Pillow reports damaged images.
DAMAGES = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    Image.DecompressionBombError,
)


def members(path: Path) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """Yield the files of an archive by their names; each is to be read at once or never.

    An archive that is iterated over to its end has been checked: there gzip keeps the checksum of
    all that was in it.
    """
    with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if member.isfile():
                yield PurePosixPath(member.name), archive.extractfile(member)
        # tarfile takes an archive that ends in mid-header for complete, gzip does not.
        while stream.read(1 << 20):
            pass


@contextlib.contextmanager
def naming(path: Path, *, unpacked: Path) -> Iterator[None]:
    """Name the archive in what is raised while it is read.

    Args:
        path: of the archive.
        unpacked: where to unpack what can be saved of a damaged one.

    Raises:
        ValueError: the archive is damaged or cut short.
    """
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError) as error:
        raise ValueError(
            f"{path}: damaged or cut short ({error}); get it again, or unpack what is in it into "
            f"{unpacked} to do without the rest."
        ) from error


def decode(content: bytes) -> Image.Image | None:
    """Return an image in RGB, or None if it is damaged.

    Also a PNG that could be decoded, but whose checksums are wrong, is damaged.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.verify()
        # An image that was verified cannot be decoded any more.
        with Image.open(io.BytesIO(content)) as image:
            return image.convert("RGB")
    except DAMAGES:
        return None
