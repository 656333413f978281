"""Downloads of large files that go on where they were interrupted."""

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

RETRIES = 5  # in a row, without a byte gained
PAUSE = 2.0  # seconds before each


def fetch(url: str, path: Path, *, timeout: float, sha256: str) -> None:
    """Download a file; only a whole one gets its name.

    What has come lies in `<path>.part`. A later call asks the server for the rest only, provided
    that the file there is still the same by its ETag or date; else it starts again.

    Args:
        url: http or https.
        path: where the file is to be; folders are made.
        timeout: seconds of silence until the connection counts as lost.
        sha256: of the file, in hex digits.

    Raises:
        ConnectionError: the connection fails again and again, or the server refuses; what has come
            is kept.
        OSError: the disk is full, for example; likewise. Or the file is another one than it
            should be: it is deleted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    failures = 0
    while True:
        before = _size(part)
        try:
            reason = None if _fetch_rest(url, part, timeout=timeout) else "the connection closed"
        except urllib.error.HTTPError as error:
            raise ConnectionError(f"cannot download {url} ({error})") from error
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            ConnectionError,
            TimeoutError,
        ) as e:
            reason = str(e) or type(e).__name__
        if reason is None:
            with part.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != sha256:
                part.unlink()
                raise OSError(f"{url} has the SHA-256 sum {found}, not {sha256}: deleted.")
            part.replace(path)
            _validator_path(part).unlink(missing_ok=True)
            return
        failures = 1 if _size(part) > before else failures + 1
        if failures > RETRIES:
            raise ConnectionError(
                f"cannot download {url} ({reason}); {_size(part):,} bytes are in {part}, "
                "call again to continue"
            )
        time.sleep(PAUSE)


def _fetch_rest(url: str, part: Path, *, timeout: float) -> bool:
    """Append what is missing, and tell whether that is all of it."""
    have, validator = _size(part), _validator_path(part)
    headers = {"Accept-Encoding": "identity"}
    if have and validator.is_file():
        headers["Range"] = f"bytes={have}-"
        headers["If-Range"] = validator.read_text(encoding="latin-1")
    try:
        answer = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=timeout
        )
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing is left to send, or the file has become shorter
            raise
        total = error.headers.get("Content-Range", "").rpartition("/")[2]
        if total == str(have):
            return True
        part.unlink()
        return False
    with answer:
        resumed = answer.status == 206
        if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise ConnectionError(f"sent {answer.headers.get('Content-Range')} instead of the rest")
        start = have if resumed else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else None
        with part.open("ab" if resumed else "wb") as file:
            if not resumed:
                _note_validator(validator, answer.headers)
            with tqdm(
                desc=part.name.removesuffix(".part"),
                total=total, initial=start, unit="B", unit_scale=True, disable=None,
            ) as progress:  # fmt: skip
                while chunk := answer.read(1 << 18):
                    file.write(chunk)
                    progress.update(len(chunk))
    return total is None or _size(part) == total


def _note_validator(path: Path, headers: http.client.HTTPMessage) -> None:
    """Keep what tells one version of the file from another; weak ETags do not, byte for byte."""
    etag = headers.get("ETag", "")
    value = etag if etag.startswith('"') else headers.get("Last-Modified")
    path.unlink(missing_ok=True)
    if value:
        path.write_text(value, encoding="latin-1")


def _validator_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _size(path: Path) -> int:
    return os.path.getsize(path) if path.is_file() else 0
