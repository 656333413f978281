"""Made-up digits, and the files that MNIST is published in."""

import numpy as np

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def idx_bytes(array):
    """The file format as published, written down a second time."""
    dimensions = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return b"\x00\x00\x08" + bytes([array.ndim]) + dimensions + array.tobytes()


def digit_arrays(train=23, test=7):
    rng = np.random.default_rng(0)
    arrays = []
    for count in (train, test):
        arrays.append(rng.integers(0, 256, (count, 28, 28), np.uint8))
        arrays.append((np.arange(count) * 3 % 10).astype(np.uint8))
    return arrays
