"""SVHN's full numbers as published: an archive a split, of PNG files and a digitStruct.mat.

Read are `train.tar.gz`, `test.tar.gz` and `extra.tar.gz`, or what lies in them, unpacked. Archives
are streamed: nothing but the digitStruct.mat is put on disk.
"""

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from stn_jax.data import archives, digit_struct
from stn_jax.data.digit_struct import Entry
from stn_jax.data.svhn import SPLITS

URL = "http://ufldl.stanford.edu/housenumbers/"
# Of each split's archive: bytes, SHA-256. The publisher gives none; they are as others who keep the
# data set have noted them (Hugging Face's `datasets`; docTR has those of train and test).
CHECKSUMS = {
    "train": (
        404_141_560,
        "4b17bb33b6cd8f963493168f80143da956f28ec406cc12f8e5745a9f91a51898",
    ),
    "test": (
        276_555_967,
        "57ac9ceb530e4aa85b55d991be8fc49c695b3d71c6f6a88afea86549efde7fb5",
    ),
    "extra": (
        1_955_489_752,
        "e857e27d1e65bd1e7d3959b094061777f6506bbc39889a0df3bba6a729d60f9c",
    ),
}
ANNOTATIONS = "digitStruct.mat"


def find(folder: str | os.PathLike, splits: Iterable[str] = SPLITS) -> dict[str, Path]:
    """Return where each split is that a folder has: an unpacked folder, else an archive.

    Args:
        folder: to look in.
        splits: to look for.

    Raises:
        FileNotFoundError: a split is unpacked but lacks its digitStruct.mat.
    """
    found = {}
    for split in splits:
        unpacked, archive = Path(folder) / split, Path(folder) / f"{split}.tar.gz"
        if (unpacked / ANNOTATIONS).is_file():
            found[split] = unpacked
        elif archive.is_file():
            found[split] = archive
        elif unpacked.is_dir():
            raise FileNotFoundError(f"{unpacked} lacks {ANNOTATIONS}: unpack {archive.name} again.")
    return found


def read_entries(path: Path, *, scratch: Path) -> list[Entry]:
    """Read the digitStruct.mat of a split.

    Args:
        path: as from `find`.
        scratch: where that of an archive is put while it is read.

    Raises:
        ValueError: as `digit_struct.read`; the archive is damaged or has no digitStruct.mat; or an
            image is described twice.
    """
    if path.is_dir():
        return _parse(path / ANNOTATIONS, path)
    copy = scratch / f"{path.name}.{ANNOTATIONS}"
    try:
        with _naming(path):
            for member, file in archives.members(path):
                if member.name == ANNOTATIONS:
                    with copy.open("wb") as target:
                        shutil.copyfileobj(file, target)
                    break
            else:
                raise ValueError(f"{path}: has no {ANNOTATIONS}, so it is no archive of SVHN.")
        return _parse(copy, path)
    finally:
        copy.unlink(missing_ok=True)


def _parse(path: Path, split: Path) -> list[Entry]:
    try:
        progress = tqdm(
            digit_struct.read(path),
            total=digit_struct.count(path),
            desc=f"{split.name}: {ANNOTATIONS}",
            unit="image",
            mininterval=1,
            disable=None,
        )
        entries = list(progress)
    except ValueError as error:
        message = str(error)
        # The copy is gone when somebody reads this.
        raise ValueError(message.replace(str(path), f"{split}, {ANNOTATIONS}")) from error
    name, times = Counter(entry.name for entry in entries).most_common(1)[0] if entries else ("", 0)
    if times > 1:
        raise ValueError(f"{split}, {ANNOTATIONS}: describes {name} {times} times.")
    return entries


def images(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of those wanted images that are there, in any order.

    An archive is always read to its end, where gzip keeps the checksum of all that was in it.

    Raises:
        ValueError: the archive is damaged or cut short; after images that may be damaged, too.
    """
    if path.is_dir():
        for name in wanted:
            file = path / name
            if file.is_file():
                yield name, file.read_bytes()
        return
    left = set(wanted)
    with _naming(path):
        for member, file in archives.members(path):
            if member.name in left:
                left.remove(member.name)
                yield member.name, file.read()


def _naming(path: Path) -> contextlib.AbstractContextManager[None]:
    return archives.naming(path, unpacked=path.parent / path.name.removesuffix(".tar.gz"))
