"""A folder that TensorFlow Datasets (TFDS) has prepared, read without TensorFlow.

In either of two formats: array_record, and TFRecord, TFDS's default, whose files Grain reads. The
checksums of TFRecord are not compared; those of array_record are.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

FORMATS = ("array_record", "tfrecord")


def description(folder: Path, names: Collection[str]) -> dict[str, Any]:
    """Return what TFDS has noted of a folder that can be read.

    Args:
        folder: of one version of a data set.
        names: of the data sets that are expected.

    Raises:
        FileNotFoundError: nothing has been prepared there.
        LookupError: it is another data set.
        ValueError: the description is damaged, or the format is another; names both.
    """
    path = folder / "dataset_info.json"
    if not path.is_file():
        raise FileNotFoundError("not there")
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"damaged: {error}") from error
    if info.get("name") not in names:
        raise LookupError(f"describes {info.get('name')}, not {' or '.join(names)}")
    if info.get("fileFormat") not in FORMATS:
        raise ValueError(f"in format {info.get('fileFormat')}, not {' or '.join(FORMATS)}")
    return info


def examples(folder: Path, split: str, *, encoded: Collection[str] = ()) -> Iterator[Mapping]:
    """Yield the examples of a split in the order in which they are stored.

    Args:
        folder: of one version of a data set.
        split: its name.
        encoded: features, as far as the data set has them, to leave as they are in the file:
            images as PNG or JPEG.

    Raises:
        ValueError: a file is damaged or missing; names the folder.
    """
    import tensorflow_datasets as tfds
    from google.protobuf.message import DecodeError

    try:
        builder = tfds.builder_from_directory(folder)
        features = builder.info.features
        decoders = {name: tfds.decode.SkipDecoding() for name in {*encoded} & {*features}}
        if builder.info.file_format is tfds.core.FileFormat.ARRAY_RECORD:
            yield from builder.as_data_source(split, decoders=decoders)
            return
        info, count = builder.info.splits[split], 0
        for record in _records(info.filepaths):
            yield features.deserialize_example_np(record, decoders=decoders)
            count += 1
        if count != info.num_examples:
            raise ValueError(f"{count} of {info.num_examples} examples of {split} are there")
    except (RuntimeError, ValueError, OSError, KeyError, DecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{folder}: damaged ({reason}); delete it and prepare it again."
        ) from error


def _records(paths: Collection[Path]) -> Iterator[bytes]:
    from grain.experimental import TFRecordIterDataset

    for path in paths:
        yield from TFRecordIterDataset(str(path))
