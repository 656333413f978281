"""What the networks see of house numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stn_jax.data import svhn_views
from stn_jax.data.svhn import Numbers
from stn_jax.data.svhn_selection import Selection, hold_out
from stn_jax.data.svhn_views import Indexed, View

SIZE = 16
# Compiled as a whole: each operation by itself takes seconds.
fixed_views = jax.jit(svhn_views.fixed_views, static_argnames="view")
training_views = jax.jit(svhn_views.training_views, static_argnames="view")
training_batch = jax.jit(svhn_views.training_batch, static_argnames=("view", "batch_size"))


def numbers(count: int = 9, size: int = SIZE, seed: int = 0) -> Numbers:
    """Return numbers whose box is a bright patch on a dark image."""
    random = np.random.default_rng(seed)
    image = random.integers(0, 20, (count, size, size, 3)).astype(np.uint8)
    box = np.tile(np.float32([4, 6, 12, 10]), (count, 1))
    image[:, 6:10, 4:12] = 250
    label = random.integers(0, 11, (count, 5)).astype(np.uint8)
    return Numbers(image, label, box)


def on_device(data: Numbers) -> Numbers:
    return Numbers(*map(jnp.asarray, data))


def bright_box(image: np.ndarray) -> list[int]:
    """Return the bounding box (left, top, right, bottom) of what is far above the mean."""
    rows, cols = np.nonzero(image.mean(axis=-1) > 0.5)
    return [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]


def test_whole_crops_with_their_mean_taken_off():
    """H5."""
    data = numbers()
    index = np.arange(9)
    found = fixed_views(Indexed(on_device(data), jnp.asarray(index)), view=View())
    scaled = data.image / 255.0
    expected = scaled - scaled.reshape(9, -1).mean(axis=1)[:, None, None, None]
    np.testing.assert_allclose(found.image, expected, atol=1e-6)
    np.testing.assert_array_equal(found.label, data.label)
    np.testing.assert_array_equal(found.box, data.box)
    assert found.image.dtype == jnp.float32 and found.label.dtype == jnp.int32


def test_windows_are_random_in_training_and_central_otherwise():
    view = View(window=12)
    data = on_device(numbers())
    whole = training_batch(jax.random.key(0), data, view=View(), batch_size=64)
    drawn = training_batch(jax.random.key(0), data, view=view, batch_size=64)
    np.testing.assert_array_equal(drawn.label, whole.label)  # the same numbers
    corners = np.asarray(whole.box - drawn.box)[:, :2].astype(int)
    np.testing.assert_array_equal(np.unique(corners), np.arange(5))
    for image, window, (x, y) in zip(whole.image, drawn.image, corners, strict=True):
        np.testing.assert_array_equal(window, image[y : y + 12, x : x + 12])
    central = fixed_views(Indexed(data, jnp.arange(9)), view=view)
    full = fixed_views(Indexed(data, jnp.arange(9)), view=View())
    np.testing.assert_array_equal(central.image, full.image[:, 2:14, 2:14])


def test_canvases_hold_the_number_where_its_box_says():
    view = View(canvas=40, scale=(0.4, 0.8))
    batch = training_batch(jax.random.key(1), on_device(numbers()), view=view, batch_size=200)
    assert batch.image.shape == (200, 40, 40, 3)
    found = np.array([bright_box(np.asarray(image)) for image in batch.image])
    assert np.abs(found - batch.box).max() < 1.2  # pixels, a bright patch of 8x4 enlarged
    width = np.asarray(batch.box[:, 2] - batch.box[:, 0]) * 2 / 40  # of the crop, in canvases
    assert 0.4 <= width.min() < 0.42 and 0.78 < width.max() <= 0.8
    centre = np.asarray(batch.box[:, :2] + batch.box[:, 2:]) / 2
    assert centre.min() < 11 and centre.max() > 29  # everywhere, and wholly inside
    assert batch.box.min() >= 0 and batch.box.max() <= 40


def test_a_full_canvas_of_half_the_size_is_the_mean_of_four_pixels():
    data = numbers()
    view = View(canvas=SIZE // 2)
    found = fixed_views(Indexed(on_device(data), jnp.arange(9)), view=view)
    whole = fixed_views(Indexed(on_device(data), jnp.arange(9)), view=View())
    quarters = np.reshape(whole.image, (9, 8, 2, 8, 2, 3)).mean(axis=(2, 4))
    np.testing.assert_allclose(found.image, quarters, atol=1e-6)
    np.testing.assert_allclose(found.box, data.box / 2, atol=1e-5)


def test_the_background_of_a_canvas_is_the_mean():
    view = View(canvas=20, scale=(0.5, 0.5))
    batch = fixed_views(Indexed(on_device(numbers()), jnp.arange(9)), view=view)
    outside = np.asarray(batch.image == 0).all(axis=-1).mean(axis=(1, 2))
    assert (outside > 0.6).all()


def test_evaluated_numbers_look_the_same_in_any_batch():
    view = View(canvas=24, scale=(0.4, 0.8))
    data = on_device(numbers())
    whole = fixed_views(Indexed(data, jnp.arange(9)), view=view)
    some = jnp.array([7, 2])
    part = fixed_views(Indexed(Numbers(*(x[some] for x in data)), some), view=view)
    np.testing.assert_allclose(part.image, whole.image[some], atol=1e-6)
    assert np.ptp(np.asarray(whole.box), axis=0).min() > 1  # each in a place of its own


def test_what_is_read_on_the_host_is_what_the_device_draws():
    data, key = numbers(20), jax.random.key(5)
    view = View(canvas=12, window=14, scale=(0.5, 1.0))
    drawn = training_batch(key, on_device(data), view=view, batch_size=6)
    read = svhn_views.read_batch(key, Selection([data]), batch_size=6)
    assert isinstance(read.image, np.ndarray) and read.image.dtype == np.uint8
    viewed = training_views(key, on_device(read), view=view)
    jax.tree.map(np.testing.assert_array_equal, drawn, viewed)


def test_jit_changes_nothing():
    view = View(canvas=12, scale=(0.5, 1.0))
    data, key = on_device(numbers()), jax.random.key(0)

    options = {"view": view, "batch_size": 4}
    eager = svhn_views.training_batch(key, data, **options)
    compiled = training_batch(key, data, **options)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), eager, compiled)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scale": (0.5, 1.5)}, "0 < least <= largest <= 1"),
        ({"canvas": 9, "scale": (0.5,)}, "two numbers, 0 < least"),
        ({"scale": (0.5, 0.8)}, "without a canvas there is no scale"),
        ({"scale": (0.8, 0.5)}, "0 < least <= largest <= 1"),
        ({"window": -1}, "sides in pixels, or 0"),
    ],
)
def test_views_that_there_are_not(fields, message):
    with pytest.raises(ValueError, match=message):
        View(**fields)


def test_sizes_of_inputs():
    assert View().input_size(64) == 64
    assert View(window=54).input_size(64) == 54
    assert View(window=54, canvas=40).input_size(64) == 40
    with pytest.raises(ValueError, match="70 px does not fit in a crop of 64 px"):
        View(window=70).input_size(64)


def test_selections_read_from_several_sets():
    parts = [numbers(5, seed=1), numbers(7, seed=2)]
    joined = Numbers(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))
    whole = Selection(parts)
    assert len(whole) == 12
    index = np.array([11, 0, 4, 5, 5])
    some = whole.select(index)
    for found, expected in ((whole.read(), joined), (some.read(), [x[index] for x in joined])):
        jax.tree.map(np.testing.assert_array_equal, found, Numbers(*expected))
    np.testing.assert_array_equal(some.read(np.array([2, 1])).label, joined.label[[4, 0]])


def test_held_out_numbers_are_never_trained_on():
    """H4."""
    kept, held_out = hold_out(Selection([numbers(30)]), 8, seed=1)
    rows = [{image.tobytes() for image in part.read().image} for part in (kept, held_out)]
    assert [len(part) for part in rows] == [22, 8]
    assert not rows[0] & rows[1]
    again, _ = hold_out(Selection([numbers(30)]), 8, seed=1)
    np.testing.assert_array_equal(again.read().image, kept.read().image)
    with pytest.raises(ValueError, match="30 numbers cannot be held out of 30"):
        hold_out(Selection([numbers(30)]), 30, seed=1)


def test_small_numbers_on_canvases_do_not_alias():
    """A fine checkerboard becomes grey where it is shown below half its size."""
    image = np.zeros((4, SIZE, SIZE, 3), np.uint8)
    image[:, ::2, ::2] = image[:, 1::2, 1::2] = 255
    data = on_device(numbers(4)._replace(image=image))
    view = View(canvas=SIZE, scale=(0.3, 0.49))
    found = fixed_views(Indexed(data, jnp.arange(4)), view=view)
    assert np.abs(found.image).max() < 1e-6
