"""What is timed of reading batches from disk."""

import numpy as np

from stn_jax.benchmarks import reading


def test_numbers_are_read_as_training_reads_them():
    """Ten batches of 128 crops a call, other ones each time."""
    contender = reading.numbers(64, count=256)
    first, second = contender.call(), contender.call()
    assert first.image.shape == (1, 10, 128, 64, 64, 3) and first.image.dtype == np.uint8
    assert first.label.shape == (1, 10, 128, 5) and contender.units == 160
    assert not np.array_equal(first.label, second.label)


def test_birds_are_read_as_training_reads_them():
    """A.6: a batch of 256 crops of 224 px from images of 256 px; other ones each time."""
    contender = reading.birds(224, count=16)
    first, second = contender.call(), contender.call()
    assert first.image.shape == (1, 1, 256, 224, 224, 3) and first.image.dtype == np.uint8
    assert first.label.shape == (1, 1, 256) and contender.units == 16
    assert not np.array_equal(first.image, second.image)


def test_rows_are_of_the_papers_sizes():
    assert [row.case for row in reading.input_rows()] == [
        "64 px, batch 128",
        "128 px, batch 128",
        "birds, 224 px, batch 256",
        "birds, 448 px, batch 256",
    ]
