"""CUB-200-2011 as TensorFlow Datasets (TFDS) has prepared it, read without TensorFlow.

Two data sets of TFDS are known, in either format of `tfds_folder`:

- `stn_cub`, of `cub_builder`, which has all that is in the publisher's lists;
- `caltech_birds2011`, TFDS's own. It has the official split, classes, boxes (clipped to the image)
  and the images' names, but neither their numbers nor the parts. The order of the numbers does not
  follow from the names: images are put in the order of these, and numbered -1, -2 and so on.
"""

import io
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stn_jax.data import tfds_folder
from stn_jax.data.cub import PARTS, SPLITS
from stn_jax.data.cub_files import Listed, Source

FOLDERS = {"stn_cub": "1.0.0", "caltech_birds2011": "0.2.0"}  # TFDS name -> version


def find(path: Path) -> Source | None:
    """Return the prepared folder that a path is, or that is in it; None if neither.

    Raises:
        ValueError: there is one that is damaged, or in a format that is not read.
    """
    for folder in (path, *(path / name / version for name, version in FOLDERS.items())):
        try:
            tfds_folder.description(folder, FOLDERS)
        except (FileNotFoundError, LookupError):
            continue
        except ValueError as error:
            raise ValueError(f"{folder}/dataset_info.json: {error}.") from error
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


def _row(example: Mapping[str, Any], train: bool) -> dict[str, Any]:
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


def _name(example: Mapping[str, Any]) -> str:
    """Return the path in the publisher's folder of images."""
    if "name" in example:
        return example["name"].decode()
    return "/".join(example["image/filename"].decode().split("/")[-2:])


def _examples(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the examples of both splits, with their images as they are encoded."""
    for split in SPLITS:
        encoded = ("image", "segmentation_mask")
        for example in tfds_folder.examples(folder, split, encoded=encoded):
            yield split, example
