"""What the data sets share: the record of a digit set, and the place where data lie."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np


class DataNotFoundError(FileNotFoundError):
    """A data set is not where it was looked for; the message says where, and how to get it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Digits:
    """A set of single digits, whole, in host memory.

    Attributes:
        train_images: [N, 28, 28, 1] uint8, ink 255 on background 0.
        train_labels: [N] int32, 0 to 9.
        test_images: [M, 28, 28, 1] uint8.
        test_labels: [M] int32.
        name: the data set, as run records name it.
        source: which files the arrays were read from, for people.
        fingerprint: `fingerprint` of the four arrays, in this order.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    name: str
    source: str
    fingerprint: str


def fingerprint(*arrays: np.ndarray) -> str:
    """Return 16 hex digits of SHA-256 over the arrays' types, shapes and contents."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def resolve_data_dir(data_dir: str | os.PathLike | None = None) -> Path:
    """Return the place where data lie: the argument, else $STN_DATA_DIR, else ~/.cache/stn_jax.

    The first that is given decides, whether it exists or not: a mistyped place is an error, not
    a reason to read from another one.
    """
    return Path(data_dir or os.environ.get("STN_DATA_DIR") or "~/.cache/stn_jax").expanduser()
