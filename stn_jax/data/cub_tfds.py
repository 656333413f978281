"""CUB-200-2011 as TensorFlow Datasets (TFDS) has prepared it, read without TensorFlow.

Two data sets of TFDS are known, in the format array_record:

- `stn_cub`, of `cub_builder`, which has all that is in the publisher's lists;
- `caltech_birds2011`, TFDS's own. It has the official split, classes, boxes (clipped to the image)
  and the images' names, but neither their numbers nor the parts. The order of the numbers does not
  follow from the names: images are put in the order of these, and numbered -1, -2 and so on.
"""

import io
import json
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stn_jax.data.cub import PARTS, SPLITS
from stn_jax.data.cub_files import Listed, Source

FOLDERS = {"stn_cub": "1.0.0", "caltech_birds2011": "0.2.0"}  # TFDS name -> version


def find(path: Path) -> Source | None:
    """Return the prepared folder that a path is, or that is in it; None if neither.

    Raises:
        ValueError: there is one in a format that needs TensorFlow.
    """
    for folder in (path, *(path / name / version for name, version in FOLDERS.items())):
        info_path = folder / "dataset_info.json"
        if not info_path.is_file():
            continue
        try:
            info = json.loads(info_path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{info_path}: damaged ({error}).") from error
        if info.get("name") not in FOLDERS:
            continue
        if info.get("fileFormat") != "array_record":
            raise ValueError(
                f"{folder}: in format {info.get('fileFormat')}, only array_record is read without "
                "TensorFlow: let TFDS prepare it with file_format='array_record', or use the "
                "publisher's archive."
            )
        return Source(folder, partial(_read_lists, folder), partial(_images, folder))
    return None


def _read_lists(folder: Path) -> Listed:
    """Read all but the images.

    Raises:
        ValueError: a file is damaged, or an image cannot be decoded whose box depends on its size.
    """
    rows = sorted(
        (_row(example, split == "train") for split, example in _examples(folder)),
        key=lambda row: row["order"],
    )
    has_ids = "id" in rows[0]
    visible = np.stack([row["part_visible"] for row in rows])
    return Listed(
        name=[row["name"] for row in rows],
        id=np.array([row["id"] if has_ids else -1 - i for i, row in enumerate(rows)], np.int32),
        number=np.array([row["number"] for row in rows], np.int32),
        train=np.array([row["train"] for row in rows]),
        box=np.stack([row["box"] for row in rows]).astype(np.float32),
        part=np.stack([row["part"] for row in rows]).astype(np.float32),
        part_visible=visible,
        class_names=dict(sorted({row["number"]: row["class_name"] for row in rows}.items())),
        parts=has_ids,
    )


def _row(example: dict[str, Any], train: bool) -> dict[str, Any]:
    """Return what the lists have of one example of either data set."""
    row = {"train": train, "number": int(example["label"]) + 1}
    if "id" in example:
        visible = np.asarray(example["part_visible"], bool)
        row |= {
            "id": int(example["id"]),
            "order": int(example["id"]),
            "name": example["name"].decode(),
            "box": example["box"],
            "part": np.where(visible[:, None], example["part"], np.nan),
            "part_visible": visible,
        }
    else:
        name = _name(example)
        try:
            with Image.open(io.BytesIO(example["image"])) as image:
                size = image.size
        except OSError as error:
            raise ValueError(f"image {name} of TFDS's cannot be decoded ({error}).") from error
        row |= {
            "order": name,
            "name": name,
            "box": example["bbox"][[1, 0, 3, 2]] * np.tile(size, 2),
            "part": np.full((len(PARTS), 2), np.nan),
            "part_visible": np.zeros(len(PARTS), bool),
        }
    return row | {"class_name": row["name"].partition("/")[0]}


def _images(folder: Path, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
    wanted = set(names)
    for _, example in _examples(folder):
        name = _name(example)
        if name in wanted:
            yield name, example["image"]


def _name(example: dict[str, Any]) -> str:
    """Return the path in the publisher's folder of images."""
    if "name" in example:
        return example["name"].decode()
    return "/".join(example["image/filename"].decode().split("/")[-2:])


def _examples(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the examples of both splits, with their images as they are encoded."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(folder)
        kept = {"image", "segmentation_mask"} & set(builder.info.features)
        decoders = {name: tfds.decode.SkipDecoding() for name in kept}
        for split in SPLITS:
            for example in builder.as_data_source(split, decoders=decoders):
                yield split, example
    except (RuntimeError, ValueError, OSError, KeyError) as error:  # of array_record and TFDS
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{folder}: damaged ({reason}); delete it and prepare it again."
        ) from error
