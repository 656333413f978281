"""Which birds are trained and evaluated on: folds of the training set, and images left out."""

import os
from pathlib import Path

import numpy as np

from stn_jax.data.cub import Birds, Cub


def fold(label: np.ndarray, number: int, *, folds: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide a training set for validation: one of several folds is held out (A.6).

    Each class is divided at random, as evenly as it goes, and so is the whole; each image is held
    out in exactly one of the folds.

    Args:
        label: [N] int, the classes.
        number: which fold is held out, from 0 on.
        folds: how many there are.
        seed: decides which images are in which.

    Returns:
        Rows to train on, and rows that are held out; int [n], each in order.

    Raises:
        ValueError: there is no such fold, or a class has fewer images than there are folds.
    """
    if folds < 2 or not 0 <= number < folds:
        raise ValueError(f"fold {number} of {folds}: there must be two, and they count from 0.")
    classes, counts = np.unique(label, return_counts=True)
    if counts.min() < folds:
        raise ValueError(
            f"class {classes[counts.argmin()]} has {counts.min()} images, not one for each of "
            f"{folds} folds."
        )
    random = np.random.default_rng(seed)
    # Dealt out like cards, class by class, each class from where the last one ended.
    order = np.concatenate([random.permutation(np.flatnonzero(label == c)) for c in classes])
    held = np.zeros(len(label), bool)
    held[order[number::folds]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def leave_out(cub: Cub, path: str | os.PathLike) -> Birds:
    """Return the test set without the images that a file names.

    The paper's second number (Sect. 4.3) leaves out 22 test images that are in ImageNet's training
    set, too. It does not list them: this file is the user's.

    Args:
        cub: the data.
        path: of a text file; on each line the number of an image as in the publisher's images.txt,
            or nothing. What follows a # is a comment.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is no number, or that of no image, or of a training image; names it. Or
            no line is one, or the images have no numbers.
    """
    test, train = set(cub.test.id.tolist()), set(cub.train.id.tolist())
    if min(test | train) < 0:
        raise ValueError(
            f"{cub.source}: prepared from a source without the images' numbers, so {path} cannot "
            "name them; prepare them from the publisher's files."
        )
    left_out = []
    for at, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        if not text.isdecimal():
            raise ValueError(f"{path}, line {at}: {text!r} is not the number of an image.")
        if int(text) not in test:
            fault = "a training image" if int(text) in train else "none of the images"
            raise ValueError(f"{path}, line {at}: {text} is {fault}.")
        left_out.append(int(text))
    if not left_out:
        raise ValueError(f"{path} names no image.")
    return cub.test.select(~np.isin(cub.test.id, left_out))
