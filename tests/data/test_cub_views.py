"""What the networks see of the birds (B2, B3)."""

import jax
import numpy as np
import pytest

from stn_jax.data import cub_views
from stn_jax.data.cub import Birds
from stn_jax.training.streaming import stream

SIZE, CROP = 16, 14


def made_up(shapes):
    """Return birds whose pixels (y, x) are (row, y, x)."""
    images = [
        np.stack([np.full(shape, row), *np.indices(shape)], axis=-1).astype(np.uint8)
        for row, shape in enumerate(shapes)
    ]
    lengths = [image.size for image in images]
    return Birds(
        pixels=np.concatenate([image.ravel() for image in images]),
        start=np.cumsum([0, *lengths[:-1]]),
        shape=np.array(shapes, np.int32),
        label=np.arange(len(images), dtype=np.int32) * 10,
        id=np.arange(len(images), dtype=np.int32),
    )


@pytest.fixture
def birds():
    return made_up([(SIZE, 23), (20, SIZE), (SIZE, SIZE), (SIZE, 40)])


def windows(images):
    """Return row of the bird, corner (y, x), and whether it is flipped, of crops made of these."""
    for image in images.astype(int):
        flipped = image[0, 0, 2] > image[0, -1, 2]
        image = image[:, ::-1] if flipped else image
        row, y, x = image[0, 0]
        expected = np.stack([np.full((CROP, CROP), row), *np.indices((CROP, CROP))], axis=-1)
        np.testing.assert_array_equal(image, expected + [0, y, x])
        yield row, y, x, flipped


def test_crops_are_anywhere_in_the_image_and_half_of_them_flipped(birds):
    """B2: at the paper's sizes, 224 of 256."""
    batch = cub_views.read_batch(jax.random.key(0), birds, crop=CROP, batch_size=4000)
    assert batch.image.shape == (4000, CROP, CROP, 3) and batch.image.dtype == np.uint8
    found = np.array(list(windows(batch.image)))
    np.testing.assert_array_equal(batch.label, 10 * found[:, 0])
    assert np.abs(np.bincount(found[:, 0]) / 4000 - 1 / 4).max() < 0.03
    for row, shape in enumerate(birds.shape):
        corners = found[found[:, 0] == row][:, 1:3]
        for axis, side in enumerate(shape):
            counts = np.bincount(corners[:, axis], minlength=side - CROP + 1)
            assert len(counts) == side - CROP + 1 and counts.min() > 0
            expected = len(corners) / len(counts)
            # Chi squared, far beyond the 0.999 quantile for any of these degrees of freedom.
            assert np.sum((counts - expected) ** 2) / expected < 70
    for side in (found[:, 3], found[found[:, 0] == 3][:, 3]):
        assert abs(side.mean() - 0.5) < 0.06
    # Which is flipped does not depend on where it is cropped.
    assert abs(np.corrcoef(found[:, 3], found[:, 1])[0, 1]) < 0.05


def test_the_papers_sizes_fit():
    """B2: 224 of 256, 448 of 512, in the shorter side and anywhere in the longer one."""
    for size, crop in ((256, 224), (512, 448)):
        birds = Birds(
            pixels=np.zeros(size * (size + 5) * 3, np.uint8),
            start=np.zeros(1, np.int64),
            shape=np.array([[size, size + 5]], np.int32),
            label=np.zeros(1, np.int32),
            id=np.ones(1, np.int32),
        )
        batch = cub_views.read_batch(jax.random.key(0), birds, crop=crop, batch_size=2)
        assert batch.image.shape == (2, crop, crop, 3)
        assert cub_views.central_corner(birds.shape, crop).tolist() == [
            [size // 16, size // 16 + 2]
        ]


def test_central_crops(birds):
    """B3."""
    batch = cub_views.read_central(np.array([3, 0, 1]), birds, crop=CROP)
    assert list(windows(batch.image)) == [(3, 1, 13, False), (0, 1, 4, False), (1, 3, 1, False)]
    assert batch.label.tolist() == [30, 0, 10] and batch.image.dtype == np.uint8


def test_a_batch_depends_on_its_key_alone(birds):
    """What a resumed run reads from step 5 on is what an undisturbed one does there."""

    def read(key):
        return cub_views.read_batch(key, birds, crop=CROP, batch_size=3)

    def batches(start):
        calls = list(stream(read, (7, 5), start=start, stop=8, steps_per_call=1))
        return [(call.image, call.label) for call in calls]

    whole, rest = batches(0), batches(5)
    assert whole[0][0].shape == (2, 1, 3, CROP, CROP, 3)
    for (image, label), (image_again, label_again) in zip(whole[5:], rest, strict=True):
        np.testing.assert_array_equal(image, image_again)
        np.testing.assert_array_equal(label, label_again)
    assert (whole[5][0][0] != whole[5][0][1]).any() and (whole[5][0] != whole[6][0]).any()


@pytest.mark.parametrize("crop", [17, 0])
def test_crops_that_do_not_fit(birds, crop):
    with pytest.raises(ValueError, match=f"crop of {crop} px .* shorter side has 16 px"):
        cub_views.read_batch(jax.random.key(0), birds, crop=crop, batch_size=50)
    with pytest.raises(ValueError, match=f"crop of {crop} px"):
        cub_views.read_central(np.arange(4), birds, crop=crop)
