"""What the data sets share: the record of a digit set, and the place where data lie and how."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def read_info(
    folder: Path, version: int, look: Callable[[dict[str, Any]], Any]
) -> dict[str, Any] | None:
    """Return what `info.json` of a folder of prepared images says, or None if there is none.

    Args:
        folder: of the images.
        version: the format that is read.
        look: looks up, in what was read, all that readers need.

    Raises:
        ValueError: it is damaged or of another format.
    """
    path = folder / "info.json"
    remedy = f"delete {folder} and prepare it again."
    if not path.is_file():
        return None
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        found = info["format"]
        look(info)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: damaged ({error}); {remedy}") from error
    if found != version:
        raise ValueError(f"{path}: of format {found}, but this version reads {version}; {remedy}")
    return info


def resolve_data_dir(data_dir: str | os.PathLike | None = None) -> Path:
    """Return the place where data lie: the argument, else $STN_DATA_DIR, else ~/.cache/stn_jax.

    The first that is given decides, whether it exists or not: a mistyped place is an error, not
    a reason to read from another one.
    """
    return Path(data_dir or os.environ.get("STN_DATA_DIR") or "~/.cache/stn_jax").expanduser()
