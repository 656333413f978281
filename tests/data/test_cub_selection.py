"""Which birds are trained and evaluated on (B15, B17)."""

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from stn_jax.data.cub import Birds, Cub
from stn_jax.data.cub_selection import fold, leave_out


def labels():
    """Return labels of classes of 5 to 12 images, mixed."""
    return np.random.default_rng(0).permutation(np.repeat(np.arange(8), np.arange(5, 13)))


def test_every_image_is_held_out_once_and_classes_are_divided_evenly():
    """B15; no fold has more of a class than scikit-learn's largest, nor fewer than its smallest."""
    label = labels()
    found = [fold(label, number, folds=4, seed=3) for number in range(4)]
    assert sorted(np.concatenate([held for _, held in found])) == list(range(len(label)))
    theirs = StratifiedKFold(4, shuffle=True, random_state=0).split(label, label)
    for name, folds in (("ours", found), ("theirs", list(theirs))):
        counts = np.array([np.bincount(label[held], minlength=8) for _, held in folds])
        assert np.ptp(counts, axis=0).max() <= 1, name
    assert np.ptp([len(held) for _, held in found]) <= 1
    for kept, held in found:
        assert sorted([*kept, *held]) == list(range(len(label)))
        assert list(kept) == sorted(kept) and list(held) == sorted(held)


def test_the_seed_decides():
    label = labels()
    held = {tuple(fold(label, 0, folds=4, seed=seed)[1]) for seed in range(20)}
    assert len(held) == 20
    assert tuple(fold(label, 0, folds=4, seed=7)[1]) in held


@pytest.mark.parametrize(
    ("number", "folds", "message"),
    [
        (0, 1, "fold 0 of 1"),
        (4, 4, "fold 4 of 4"),
        (-1, 4, "fold -1 of 4"),
        (0, 6, "class 0 has 5 images, not one for each of 6 folds"),
    ],
)
def test_folds_that_there_are_not(number, folds, message):
    with pytest.raises(ValueError, match=message):
        fold(labels(), number, folds=folds, seed=0)


def numbered(ids):
    ids = np.array(ids, np.int32)
    zeros = np.zeros(len(ids), np.int64)
    return Birds(np.zeros(0, np.uint8), zeros, np.zeros((len(ids), 2), np.int32), zeros, ids)


def data(train=(2, 4), test=(1, 3, 5, 6)):
    return Cub(
        train=numbered(train),
        test=numbered(test),
        class_names=("a",),
        name="cub_20",
        source="images in a folder",
        fingerprint="",
        counts={},
    )


def test_test_images_that_a_file_names_are_left_out(tmp_path):
    """B17."""
    path = tmp_path / "in_imagenet.txt"
    path.write_text("# seen by eye\n5\n\n  3  # this one, too\n5\n")
    assert leave_out(data(), path).id.tolist() == [1, 6]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3\n4\n", r"in_imagenet.txt, line 2: 4 is a training image"),
        ("7", "line 1: 7 is none of the images"),
        ("#\nthree", "line 2: 'three' is not the number of an image"),
        ("-3", "'-3' is not the number"),
        ("# none\n", "in_imagenet.txt names no image"),
    ],
)
def test_files_that_name_others(tmp_path, text, message):
    path = tmp_path / "in_imagenet.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        leave_out(data(), path)


def test_images_without_numbers_cannot_be_left_out(tmp_path):
    with pytest.raises(ValueError, match="without the images' numbers"):
        leave_out(data(train=(-1,), test=(-2, -3)), tmp_path / "any")
    with pytest.raises(FileNotFoundError):
        leave_out(data(), tmp_path / "any")
