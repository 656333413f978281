"""Files that several processes of a sweep write."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class BusyError(RuntimeError):
    """Another process holds what is to be had alone."""


@contextlib.contextmanager
def exclusive(path: Path, *, busy: str = "") -> Iterator[None]:
    """Hold a lock file for this process.

    Args:
      path: the file; it and its directory are made if they are not there.
      busy: says in an error who else holds it; "" waits until it is free.

    Raises:
      BusyError: if another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            raise BusyError(busy) from None
        yield


def update_json(path: Path, added: dict[str, Any]) -> None:
    """Add to the object that a file holds, and replace it at once and whole."""
    with exclusive(path.with_suffix(".lock")):
        known = json.loads(path.read_text()) if path.exists() else {}
        temporary = path.with_suffix(".tmp")
        with temporary.open("w") as file:
            file.write(json.dumps(known | added, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def append_json(path: Path, content: Any) -> None:
    """Append a line to a file, on the disk when this returns."""
    with path.open("a+b") as file:
        # What a full disk cut off must not run into this line.
        end = file.seek(0, os.SEEK_END)
        torn = end and (file.seek(end - 1), file.read(1))[1] != b"\n"
        file.write((b"\n" if torn else b"") + json.dumps(content).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_json_lines(path: Path) -> Iterator[Any]:
    """Yield the content of a file's lines, but for those that were cut off."""
    for text in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            yield json.loads(text)
