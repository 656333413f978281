import sys

import numpy as np
import pytest
from skimage.transform import resize
from sklearn.datasets import load_digits

from stn_jax.data import digits
from stn_jax.data.types import fingerprint


@pytest.fixture(scope="module")
def loaded():
    return digits.load()


def test_shapes_types_and_split(loaded):
    assert loaded.train_images.shape == (1400, 28, 28, 1)
    assert loaded.test_images.shape == (397, 28, 28, 1)
    assert loaded.train_images.dtype == loaded.test_images.dtype == np.uint8
    assert loaded.train_labels.dtype == loaded.test_labels.dtype == np.int32
    labels = np.concatenate([loaded.train_labels, loaded.test_labels])
    np.testing.assert_array_equal(labels, load_digits().target)
    assert np.bincount(loaded.test_labels, minlength=10).min() >= 35  # no digit is rare


def test_images_are_scikit_learns_enlarged_and_centred(loaded):
    images = np.concatenate([loaded.train_images, loaded.test_images])[..., 0]
    inner = images[:, 4:24, 4:24]
    assert images.astype(int).sum() == inner.astype(int).sum()  # the margin is empty
    small = load_digits().images
    # Where every tap lies inside, bilinear enlargement is the same for every kind of border.
    expected = np.stack([resize(d / 16, (20, 20), order=1, mode="edge") for d in small[:200]])
    np.testing.assert_allclose(inner[:200, 2:-2, 2:-2], 255 * expected[:, 2:-2, 2:-2], atol=0.51)
    # Area pixels grow 2.5 fold in each direction; only what bleeds over the border is lost.
    ratio = inner.sum((1, 2)) / (small.sum((1, 2)) * 255 / 16 * 2.5**2)
    assert 0.85 < ratio.min() <= ratio.max() < 1.01


def test_says_that_it_is_not_mnist(loaded):
    assert loaded.name == "sklearn-digits"
    assert "not MNIST" in loaded.source
    assert loaded.fingerprint == digits.load().fingerprint
    assert loaded.fingerprint == fingerprint(
        loaded.train_images, loaded.train_labels, loaded.test_images, loaded.test_labels
    )


def test_without_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r'pip install "stn-jax\[quickstart\]"'):
        digits.load()
