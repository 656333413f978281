"""The digits that scikit-learn carries: for the quickstart and the tests, which download nothing.

They are not MNIST, and never enter the tables of the paper's experiments: 1,797 digits of 8x8
pixels, from UCI's "Optical Recognition of Handwritten Digits".
"""

import numpy as np

from stn_jax.data.types import Digits, fingerprint

TEST_SIZE = 397


def load() -> Digits:
    """Return scikit-learn's digits, made to look like MNIST's.

    Each 8x8 digit is enlarged bilinearly to 20x20 and centred in 28x28, as MNIST's digits are, so
    that the distortions find the same margin. The last 397 are the test set, the 1,400 before
    them the training set, always.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from scipy import ndimage
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            'The quickstart\'s digits need scikit-learn: pip install "stn-jax[quickstart]"'
        ) from error

    small, labels = datasets.load_digits(return_X_y=True)
    small = small.reshape(-1, 8, 8) * (255 / 16)  # ink is 16 there
    large = ndimage.zoom(small, (1, 2.5, 2.5), order=1, mode="grid-constant", grid_mode=True)
    images = np.pad(np.rint(large).astype(np.uint8), ((0, 0), (4, 4), (4, 4)))[..., None]
    labels = labels.astype(np.int32)
    arrays = {
        "train_images": images[:-TEST_SIZE],
        "train_labels": labels[:-TEST_SIZE],
        "test_images": images[-TEST_SIZE:],
        "test_labels": labels[-TEST_SIZE:],
    }
    return Digits(
        **arrays,
        name="sklearn-digits",
        source="scikit-learn's bundled 8x8 digits, enlarged; not MNIST",
        fingerprint=fingerprint(*arrays.values()),
    )
