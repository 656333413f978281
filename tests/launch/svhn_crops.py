"""A prepared set of house numbers that is no more than bright bars on a dark ground."""

import json
from pathlib import Path

import numpy as np

from stn_jax.data import svhn

SIZE = 64


def write_crops(place: Path, *, train: int = 24, test: int = 10, extra: int = 8) -> None:
    """Write a set as `stn_jax.data.svhn.load` reads it: digit d is a bar of brightness 150 + 10 d.

    Numbers have one digit or two, side by side.
    """
    folder = svhn.folder_of(place, SIZE)
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    splits = {}
    for split, count in (("train", train), ("test", test), ("extra", extra)):
        image = random.integers(0, 30, (count, SIZE, SIZE, 3)).astype(np.uint8)
        label = np.full((count, 5), svhn.NO_DIGIT, np.uint8)
        for number in range(count):
            digits = random.integers(0, 10, 1 + number % 2)
            label[number, : len(digits)] = digits
            for k, digit in enumerate(digits):
                columns = slice(16 + 32 * k // len(digits), 16 + 32 * (k + 1) // len(digits))
                image[number, 12:52, columns] = 150 + 10 * digit
        box = np.tile(np.float32([16, 12, 48, 52]), (count, 1))
        paths = svhn.array_paths(folder, split)
        for field, array in (("image", image), ("label", label), ("box", box)):
            np.save(paths[field], array)
        splits[split] = {"entries": count, "written": count, "fingerprint": split, "problems": {}}
    info = {"format": svhn.FORMAT, "splits": splits}
    (folder / "info.json").write_text(json.dumps(info))
