"""MNIST: 60,000 training and 10,000 test digits.

One place is looked in: the argument `data_dir`, else $STN_DATA_DIR, else ~/.cache/stn_jax. There,
the first of these that exists is read:

1. the four published idx files, in the place or its folder `mnist`; only NumPy is needed,
2. a folder prepared by TensorFlow Datasets (TFDS), as array_record or TFRecord: the place itself,
   `stn_mnist/1.0.0` (what scripts/prepare_data.py writes) or `mnist/3.0.1` (TFDS's own builder).

All give the same arrays in the same order, the published one. Nothing is downloaded here.
"""

import hashlib
import logging
import os
from pathlib import Path

import numpy as np

from stn_jax.data import idx, tfds_folder
from stn_jax.data.types import DataNotFoundError, Digits, fingerprint, resolve_data_dir

PREPARED_FOLDERS = {"stn_mnist": "1.0.0", "mnist": "3.0.1"}  # TFDS name -> version
# Of the arrays in the published files. The MD5 sums of those, as published:
# train-images-idx3-ubyte.gz f68b3c2dcbeaaa9fbdd348bbdeb94873
# train-labels-idx1-ubyte.gz d53e105ee54ea40749a09fcbcd1e9432
# t10k-images-idx3-ubyte.gz  9fb629c4189551a2d022fa330f9573f3
# t10k-labels-idx1-ubyte.gz  ec29112dd5afa0611ce80d1b7f02629c
PUBLISHED_FINGERPRINT = "ceda791d3e53beaf"


def load(data_dir: str | os.PathLike | None = None) -> Digits:
    """Read MNIST from the place (see the top of this file).

    Digits that are not the published ones (Fashion-MNIST has the same file names) are read too;
    `source` then says so, and a warning is logged. Compare `fingerprint` with
    PUBLISHED_FINGERPRINT to insist.

    Args:
        data_dir: the place; None means $STN_DATA_DIR, or ~/.cache/stn_jax where that is not set.

    Raises:
        DataNotFoundError: at once if there is no MNIST; lists where it was looked for.
        FileNotFoundError: only some of the four idx files are there; names the missing ones.
        ValueError: if a file is damaged, or its content cannot be digits; names the file.
    """
    place = resolve_data_dir(data_dir)
    for folder in (place, place / "mnist"):
        if paths := idx.find(folder):
            return _digits(*_read_idx(paths), source=f"idx files in {folder}")
    looked_for = []
    for folder in (place, *(place / name / v for name, v in PREPARED_FOLDERS.items())):
        try:
            info = tfds_folder.description(folder, PREPARED_FOLDERS)
        except (FileNotFoundError, LookupError, ValueError) as problem:
            looked_for.append(f"  {folder}/dataset_info.json ({problem})")
        else:
            shuffled = not info.get("disableShuffling")
            arrays = _read_prepared(folder, shuffled=shuffled)
            return _digits(*arrays, source=f"TFDS folder {folder}")
    raise DataNotFoundError(
        f"No MNIST in {place} (the argument data_dir, else $STN_DATA_DIR, else ~/.cache/stn_jax). "
        "Looked for:\n"
        + "".join(
            f"  {folder}/{{{','.join(idx.FILES.values())}}}, or .idx for -idx, .gz or not\n"
            for folder in (place, place / "mnist")
        )
        + "\n".join(looked_for)
        + f"\nGet it: python scripts/prepare_data.py mnist --data-dir {place}\n"
        "or put the four idx files there."
    )


def _digits(*arrays: np.ndarray, source: str) -> Digits:
    mark = fingerprint(*arrays)
    if mark != PUBLISHED_FINGERPRINT:
        source += f", NOT the published MNIST: fingerprint {mark}, not {PUBLISHED_FINGERPRINT}"
        logging.getLogger(__name__).warning("Read %s", source)
    fields = dict(zip(idx.FILES, arrays, strict=True))
    return Digits(**fields, name="mnist", source=source, fingerprint=mark)


def _read_idx(paths: dict[str, Path]) -> list[np.ndarray]:
    return [
        *idx.read_digits(paths["train_images"], paths["train_labels"]),
        *idx.read_digits(paths["test_images"], paths["test_labels"]),
    ]


def _read_prepared(folder: Path, *, shuffled: bool) -> list[np.ndarray]:
    arrays = []
    for split in ("train", "test"):
        examples = list(tfds_folder.examples(folder, split))
        images = np.stack([example["image"] for example in examples])
        labels = np.array([example["label"] for example in examples], np.int32)
        if shuffled:
            order = np.argsort(_tfds_order(split, len(examples)))
            images, labels = images[order], labels[order]
        arrays += [images, labels]
    return arrays


def _tfds_order(split: str, count: int) -> list[int]:
    """Return the published indices in the order TFDS stores them: by MD5 of split and index."""

    def key(index: int) -> bytes:
        return hashlib.md5(f"{split}{index}".encode(), usedforsecurity=False).digest()

    return sorted(range(count), key=key)
