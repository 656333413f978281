"""Reads the tensors of TensorFlow checkpoints without TensorFlow.

No maintained package does, and one script should not need all of TensorFlow for 300 arrays. Both
formats are read: the one file of TensorFlow before 0.12 (as TensorFlow-Slim's models are published)
and `PREFIX.index` with `PREFIX.data-*`.

Both hold a table of sorted keys as LevelDB writes it: blocks of (key, value), an index of these
blocks, and a footer with the index's place. Values are protocol buffers, of which the few fields
needed are decoded here; the numbers are those of the fields in TensorFlow's saved_tensor_slice,
tensor_bundle, tensor, tensor_shape and tensor_slice protos.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
_FOOTER = 48  # bytes
_UNCOMPRESSED = 0

# TensorFlow's number of a type -> the type, and the field of a tensor that lists its values.
_TYPES: dict[int, tuple[str, int]] = {
    1: ("<f4", 5),
    2: ("<f8", 6),
    3: ("<i4", 7),
    9: ("<i8", 10),
}
_CONTENT = 4  # the field of a tensor with all values as bytes
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class CheckpointError(ValueError):
    """A file is no checkpoint that can be read here."""


def read_checkpoint(path: str | Path) -> dict[str, np.ndarray]:
    """Read the tensors of a checkpoint by name; those that are no numbers are left out.

    Checksums in the file are not verified: a damaged value may go unnoticed.

    Args:
      path: of the file of the old format; or PREFIX, or PREFIX.index, of the new one.

    Raises:
      CheckpointError: if it is no checkpoint, or a damaged one, or is compressed or divided into
        slices, which published ones are not.
      FileNotFoundError: if there is no such file.
    """
    path = Path(path)
    index = path if path.suffix == ".index" else path.with_name(f"{path.name}.index")
    try:
        return _read_bundle(index) if index.is_file() else _read_slices(path)
    except CheckpointError:
        raise
    except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError) as e:
        raise CheckpointError(f"{path} is damaged ({e}).") from e


def _read_slices(path: Path) -> dict[str, np.ndarray]:
    """Read the old format: the values are in the table, behind one entry that describes them."""
    kinds: dict[str, tuple[int, tuple[int, ...]]] = {}
    found = {}
    for key, value in _table(path):
        for number, message in _fields(value):
            if not key and number == 1:  # "": what tensors there are
                for meta in _all(message, 1):
                    name, kind = _one(meta, 1, b"").decode(), _one(meta, 3, 0)
                    kinds[name] = kind, _shape(_one(meta, 2, b""))
            elif key and number == 2:
                name = _one(message, 1, b"").decode()
                kind, shape = kinds[name]
                if kind in _TYPES:
                    found[name] = _values(_one(message, 3, b""), kind, shape, name)
    return found


def _values(tensor: bytes, kind: int, shape: tuple[int, ...], name: str) -> np.ndarray:
    dtype, field = _TYPES[kind]
    if content := _one(tensor, _CONTENT, b""):
        values = np.frombuffer(content, dtype)
    elif kind in (1, 2):
        values = np.frombuffer(b"".join(_all(tensor, field)), dtype)
    else:
        values = np.array(
            [value for packed in _all(tensor, field) for value in _varints(packed)], np.uint64
        ).astype(dtype)
    if values.size != int(np.prod(shape)):
        raise CheckpointError(f"{name} {shape} is divided into slices.")
    return values.reshape(shape)


def _read_bundle(index: Path) -> dict[str, np.ndarray]:
    """Read the new format: the table says where in which file the values are."""
    found, shards = {}, 1
    for key, value in _table(index):
        if not key:
            shards = _one(value, 1, 1)
            continue
        name, kind, shape = key.decode(), _one(value, 1, 0), _shape(_one(value, 2, b""))
        if kind not in _TYPES:
            continue
        if list(_all(value, 7)):
            raise CheckpointError(f"{name} {shape} is divided into slices.")
        data = index.with_suffix(f".data-{_one(value, 3, 0):05}-of-{shards:05}")
        count, dtype = int(np.prod(shape)), _TYPES[kind][0]
        array = np.fromfile(data, dtype, count, offset=_one(value, 4, 0))
        if array.size != count:
            raise CheckpointError(f"{data} ends within {name}.")
        found[name] = array.reshape(shape)
    return found


def _shape(message: bytes) -> tuple[int, ...]:
    return tuple(_one(dimension, 1, 0) for dimension in _all(message, 2))


# Tables.


def _table(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of a table."""
    content = path.read_bytes()
    if len(content) < _FOOTER or content[-len(_MAGIC) :] != _MAGIC:
        raise CheckpointError(f"{path} is no TensorFlow checkpoint, or not a whole one.")
    handles = _varints(content[-_FOOTER : -len(_MAGIC)])
    _, _, offset, size = itertools.islice(handles, 4)  # another index comes first
    for _, handle in _entries(_block(content, offset, size, path)):
        offset, size, *_ = _varints(handle)
        yield from _entries(_block(content, offset, size, path))


def _block(content: bytes, offset: int, size: int, path: Path) -> bytes:
    if content[offset + size] != _UNCOMPRESSED:
        raise CheckpointError(f"{path} is compressed.")
    return content[offset : offset + size]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the (key, value) of a block; a key lacks what it shares with the one before."""
    restarts = int.from_bytes(block[-4:], "little")
    end, place, key = len(block) - 4 * (restarts + 1), 0, b""
    while place < end:
        shared, place = _varint(block, place)
        own, place = _varint(block, place)
        size, place = _varint(block, place)
        key = key[:shared] + block[place : place + own]
        place += own
        yield key, block[place : place + size]
        place += size


# Protocol buffers.


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a message."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, place = _varint(message, place)
        else:
            if wire == _BYTES:
                size, place = _varint(message, place)
            else:
                size = {_FIXED64: 8, _FIXED32: 4}[wire]
            value = message[place : place + size]
            place += size
        yield number, value


def _all(message: bytes, number: int) -> Iterator:
    return (value for found, value in _fields(message) if found == number)


def _one(message: bytes, number: int, default):
    return next(_all(message, number), default)


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, and the place behind it."""
    number = shift = 0
    while True:
        byte = content[place]
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return number, place


def _varints(content: bytes) -> Iterator[int]:
    place = 0
    while place < len(content):
        number, place = _varint(content, place)
        yield number
