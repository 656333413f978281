"""The distortions (D1 to D10): what is drawn, and what is made of it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.interpolate
import scipy.ndimage
import scipy.stats
import skimage.transform

from stn_jax.data import digits as bundled
from stn_jax.data.distortions import DISTORTIONS
from tests import oracles

SIZES = {"R": 28, "RTS": 42, "P": 28, "E": 28, "TC": 60}
every_distortion = pytest.mark.parametrize("name", DISTORTIONS)
DRAWS = 10_000


@functools.cache
def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


@functools.cache
def poses(name):
    drawn = jax.jit(DISTORTIONS[name].poses)(keys(DRAWS))
    return {part: np.asarray(value, np.float64) for part, value in drawn.items()}


# Tests share one batch size, and compiled functions with it. Examples have the first keys of
# many, and so the first of `poses`.
BATCH = 16
OWN = np.arange(BATCH, dtype=np.int32) % 5
WHITE = np.full((5, 28, 28, 1), 255, np.uint8)


def noise(count=BATCH):
    return np.random.default_rng(0).uniform(size=(count, 28, 28, 1)).astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)
def compiled(distortion, batch, images, digits, own):
    return distortion(batch, images, digits=digits, own=own)


def distort(distortion, images, *, chosen=slice(BATCH), digits=WHITE, own=OWN):
    return np.asarray(compiled(distortion, keys(DRAWS)[chosen], images, digits, own))


def without_clutter(name):
    return dataclasses.replace(DISTORTIONS[name], num_patches=0)


def assert_uniform(values, low, high):
    values = np.ravel(values)
    assert low <= values.min() and values.max() <= high
    assert scipy.stats.kstest(values, "uniform", (low, high - low)).pvalue > 1e-3


def assert_uniform_integers(values, low, high):
    counts = np.bincount(np.ravel(values) - low, minlength=high - low + 1)
    assert counts.size == high - low + 1 and counts.min() > 0
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def assert_normal(values, deviation):
    assert scipy.stats.kstest(np.ravel(values), "norm", (0, deviation)).pvalue > 1e-3


def assert_independent(*columns):
    """Uncorrelated, and so are their sizes."""
    columns = np.stack(columns)
    for values in (columns, np.abs(columns - columns.mean(1, keepdims=True))):
        others = np.corrcoef(values)[~np.eye(len(columns), dtype=bool)]
        assert np.abs(others).max() < 5 / np.sqrt(columns.shape[1])


# What is drawn.


@every_distortion
def test_names_and_sizes(name):
    distortion = DISTORTIONS[name]
    assert distortion.name == name
    assert distortion.image_shape == (SIZES[name], SIZES[name], 1)
    assert distortion.num_patches == (6 if name == "TC" else 0)


def test_r_draws_angles_over_180_degrees():
    """D1."""
    assert poses("R").keys() == {"angle"}
    assert_uniform(np.rad2deg(poses("R")["angle"]), -90, 90)


def test_rts_draws_angle_scale_and_place():
    """D2, D3: the scaled digit box, of 28 pixels a side, stays inside the canvas and fills it."""
    pose = poses("RTS")
    angle, scale, centre = np.rad2deg(pose["angle"]), pose["scale"], pose["centre"]
    assert_uniform(angle, -45, 45)
    assert_uniform(scale, 0.7, 1.2)
    edge = np.abs(centre) + 14 * scale[:, None]
    assert 20.99 < edge.max() <= 21 + 1e-5
    free = 21 - 14 * scale[:, None]
    assert_uniform(centre / free, -1 - 1e-6, 1 + 1e-6)
    assert_independent(angle, scale, *(centre / free).T)


@pytest.mark.parametrize(
    ("name", "part", "deviation", "count"), [("P", "corners", 5, 8), ("E", "points", 1.5, 32)]
)
def test_p_and_e_draw_scale_and_normal_offsets(name, part, deviation, count):
    """D4, D5: x and y of every point on their own."""
    pose = poses(name)
    assert pose.keys() == {"scale", part}
    assert_uniform(pose["scale"], 0.75, 1)
    offsets = pose[part].reshape(DRAWS, count)
    assert_normal(offsets, deviation)
    np.testing.assert_allclose(offsets.std(0), deviation, rtol=0.05)
    np.testing.assert_allclose(offsets.mean(0), 0, atol=0.05 * deviation)
    assert_independent(pose["scale"], *offsets.T)


def test_tc_draws_whole_pixel_places():
    """D6: the digit's corner from 0 to 32 in each direction."""
    corner = poses("TC")["centre"] + 16
    np.testing.assert_array_equal(corner, np.rint(corner))
    corner = corner.astype(int)
    for axis in (0, 1):
        assert_uniform_integers(corner[:, axis], 0, 32)
    assert_independent(*corner.T)


# What is made of it, against other libraries and literal loops, in pixels from here on.


def bilinear(image, x, y):
    """Read an image [28, 28] at points; pixels outside are 0."""
    return scipy.ndimage.map_coordinates(image, [y, x], order=1, mode="grid-constant")


def assert_drawn_well(actual, expected):
    assert actual.shape == expected.shape
    assert expected.max() > 0.5
    np.testing.assert_allclose(actual, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["R", "RTS"])
def test_rotation_scale_and_place_are_scikit_images(name):
    images, size = noise(), SIZES[name]
    pose = poses(name)
    expected = []
    for i, image in enumerate(images[..., 0]):
        move = skimage.transform.SimilarityTransform
        digit_to_canvas = (
            move(translation=(-13.5, -13.5))
            + move(rotation=pose["angle"][i], scale=pose["scale"][i] if "scale" in pose else 1)
            + move(translation=np.full(2, (size - 1) / 2))
            + move(translation=pose["centre"][i] if "centre" in pose else np.zeros(2))
        )
        canvas_to_digit = digit_to_canvas.inverse
        expected.append(
            skimage.transform.warp(image, canvas_to_digit, output_shape=(size, size), order=1)
        )
    assert_drawn_well(distort(DISTORTIONS[name], images)[..., 0], np.stack(expected))


def moved_corners(pose, i):
    square = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]])
    return 13.5 + 13.5 * pose["scale"][i] * square + pose["corners"][i]


def homography(source, target):
    """Solve the eight equations of four point pairs; the ninth entry is 1."""
    rows, right = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    return np.append(np.linalg.solve(rows, right), 1).reshape(3, 3)


def is_convex(corners):
    sides = np.roll(corners[[0, 1, 3, 2]], -1, axis=0) - corners[[0, 1, 3, 2]]
    after = np.roll(sides, -1, axis=0)
    return (sides[:, 0] * after[:, 1] - sides[:, 1] * after[:, 0]).min() > 0


DIGIT_CORNERS = np.array([[0, 0], [27, 0], [0, 27], [27, 27]])


def draws_of_p(*, folded):
    """Return the first draws whose moved corners make a folded quadrilateral, or a plain one."""
    pose = poses("P")
    is_folded = np.array([not is_convex(moved_corners(pose, i)) for i in range(2000)])
    assert 0.005 < is_folded.mean() < 0.03
    return np.flatnonzero(is_folded == folded)[:BATCH]


def test_moved_corners_are_scikit_images_warp():
    """D4, for nearly all draws."""
    chosen, images = draws_of_p(folded=False), noise()
    expected = []
    for i, image in zip(chosen, images[..., 0], strict=True):
        matrix = homography(moved_corners(poses("P"), i), DIGIT_CORNERS)
        canvas_to_digit = skimage.transform.ProjectiveTransform(matrix)
        expected.append(skimage.transform.warp(image, canvas_to_digit, order=1))
    actual = distort(DISTORTIONS["P"], images, chosen=chosen)
    assert_drawn_well(actual[..., 0], np.stack(expected))


def test_folded_corners_leave_what_lies_behind_the_horizon_black():
    """Seen from the digit's centre: what it maps to is in front."""
    chosen, images = draws_of_p(folded=True), noise()
    targets = np.stack(np.meshgrid(range(28), range(28)), axis=-1).reshape(-1, 2)
    expected, behind = [], []
    for i, image in zip(chosen, images[..., 0], strict=True):
        from_centre = homography(DIGIT_CORNERS - 13.5, moved_corners(poses("P"), i))
        points = oracles.apply_homography(np.linalg.inv(from_centre), targets, smallest=1e-3)
        behind.append(np.isnan(points[:, 0]))
        x, y = np.where(np.isnan(points), -100, points).T + 13.5
        expected.append(bilinear(image, x, y).reshape(28, 28))
    assert np.mean(behind) > 0.05
    actual = distort(DISTORTIONS["P"], images, chosen=chosen)
    # Towards the horizon float32 points lose their precision.
    close = np.abs(actual[..., 0] - expected) < 1e-3
    assert close.mean() > 0.995
    np.testing.assert_allclose(actual[..., 0], expected, atol=0.05)


def test_elastic_warp_is_scipys_thin_plate_spline():
    """D5: the spline through 4x4 points goes from output to source, about the digit's centre."""
    images, pose = noise(), poses("E")
    y, x = np.mgrid[:28, :28]
    targets = np.stack([x, y], axis=-1).reshape(-1, 2)
    controls = np.array([(x, y) for y in (0, 9, 18, 27) for x in (0, 9, 18, 27)])
    expected = []
    for i, image in enumerate(images[..., 0]):
        moved = controls + pose["points"][i].T
        spline = scipy.interpolate.RBFInterpolator(
            controls, moved, kernel="thin_plate_spline", degree=1
        )
        x, y = ((spline(targets) - 13.5) / pose["scale"][i] + 13.5).T
        expected.append(bilinear(image, x, y).reshape(28, 28))
    assert_drawn_well(distort(DISTORTIONS["E"], images)[..., 0], np.stack(expected))


def test_some_elastic_warps_fold():
    """D10: about one in a hundred has places where the Jacobian's sign has changed."""
    pose = poses("E")
    steps = []
    grid = jax.jit(lambda pose: DISTORTIONS["E"].grid(pose, (55, 55)))
    for start in range(0, DRAWS, 1000):
        part = {name: jnp.asarray(v[start : start + 1000], jnp.float32) for name, v in pose.items()}
        points = np.asarray(grid(part))
        along_x = points[:, :-1, 1:] - points[:, :-1, :-1]
        along_y = points[:, 1:, :-1] - points[:, :-1, :-1]
        jacobian = along_x[..., 0] * along_y[..., 1] - along_x[..., 1] * along_y[..., 0]
        steps.append(np.stack([jacobian.min((1, 2)), jacobian.max((1, 2))], axis=-1))
    smallest, largest = np.concatenate(steps).T
    assert largest.min() > 0
    assert 0.005 < (smallest < 0).mean() < 0.015


def test_tc_places_the_digit_untouched():
    images, corner = noise(), poses("TC")["centre"][:BATCH].astype(int) + 16
    expected = np.zeros((BATCH, 60, 60, 1), np.float32)
    for canvas, image, (x, y) in zip(expected, images, corner, strict=True):
        canvas[y : y + 28, x : x + 28] = image
    np.testing.assert_array_equal(distort(without_clutter("TC"), images), expected)


# Clutter.


def coded_digits(count):
    """Return digits whose pixels tell the digit and the row, and others that tell the column."""
    number, row, col = np.meshgrid(range(count), range(28), range(28), indexing="ij")
    coded = [(28 * number + place + 1).astype(np.uint8)[..., None] for place in (row, col)]
    assert coded[0].max() == 28 * count
    return coded


def test_a_patch_of_clutter_comes_from_a_uniform_place_of_another_digit():
    """D7."""
    count, own = 3000, 2
    one_patch = dataclasses.replace(DISTORTIONS["TC"], num_patches=1)
    empty = np.zeros((count, 28, 28, 1), np.float32)
    options = {"chosen": slice(count), "own": np.full(count, own, np.int32)}
    rows, cols = (
        np.rint(255 * distort(one_patch, empty, digits=coded, **options)).astype(int)[..., 0]
        for coded in coded_digits(5)
    )
    found = []
    for by_row, by_col in zip(rows, cols, strict=True):
        y, x = np.argwhere(by_row)[0]
        patch = np.s_[y : y + 6, x : x + 6]
        assert np.count_nonzero(by_row) == 36
        number, row = divmod(by_row[y, x] - 1, 28)
        number_again, col = divmod(by_col[y, x] - 1, 28)
        assert number == number_again
        i, j = np.mgrid[:6, :6]
        np.testing.assert_array_equal(by_row[patch], 28 * number + row + i + 1)
        np.testing.assert_array_equal(by_col[patch], 28 * number + col + j + 1)
        found.append((number, row, col, y, x))
    number, row, col, y, x = np.array(found).T
    assert own not in number
    assert_uniform_integers(np.searchsorted([0, 1, 3, 4], number), 0, 3)
    assert_uniform_integers(row, 0, 22)
    assert_uniform_integers(col, 0, 22)
    assert_uniform_integers(y, 0, 54)
    assert_uniform_integers(x, 0, 54)
    assert_independent(number, row, col, y, x)


def test_six_patches_are_merged_with_the_digit_by_maximum():
    """D7, literally, from the draws of the same keys."""
    digits, images = np.random.default_rng(1).integers(0, 256, WHITE.shape, np.uint8), noise()
    actual = distort(DISTORTIONS["TC"], images, digits=digits)
    expected = distort(without_clutter("TC"), images).copy()

    @jax.vmap
    def draw(key):
        digit_key, source_key, target_key = jax.random.split(jax.random.fold_in(key, 1), 3)
        step = jax.random.randint(digit_key, (6,), 0, 4)
        source = jax.random.randint(source_key, (6, 2), 0, 23)
        target = jax.random.randint(target_key, (6, 2), 0, 55)
        return step, source, target

    draws = map(np.asarray, jax.jit(draw)(keys(DRAWS)[:BATCH]))
    overlaps = 0
    for canvas, own, *patches in zip(expected, OWN, *draws, strict=True):
        others = [*range(own + 1, 5), *range(own)]
        for step, (from_y, from_x), (to_y, to_x) in zip(*patches, strict=True):
            for i, j in np.ndindex(6, 6):
                pixel = canvas[to_y + i, to_x + j]
                overlaps += pixel[0] > 0
                pixel[0] = max(pixel[0], digits[others[step], from_y + i, from_x + j, 0] / 255)
    assert overlaps > 100
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_a_digit_never_clutters_itself():
    values = np.array([40, 80, 120, 160, 200], np.uint8)
    digits = np.tile(values[:, None, None, None], (1, 28, 28, 1))
    out = distort(DISTORTIONS["TC"], np.zeros((BATCH, 28, 28, 1), np.float32), digits=digits)
    out = np.rint(255 * out).astype(int)
    for own, value in enumerate(values):
        assert set(np.unique(out[own == OWN])) == {0, *values} - {value}


# What holds for all.


@every_distortion
def test_images_stay_in_range_on_a_black_background(name):
    images = noise()
    out = distort(DISTORTIONS[name], images)
    assert out.shape == (BATCH, SIZES[name], SIZES[name], 1) and out.dtype == np.float32
    assert out.min() == 0 and 0.9 < out.max() <= 1
    out = distort(without_clutter(name), images)
    border = np.concatenate([out[:, [0, -1]].ravel(), out[:, :, [0, -1]].ravel()])
    assert (border == 0).mean() > 0.2
    assert not distort(without_clutter(name), np.zeros_like(images)).any()


IDENTITIES = {
    "R": {"angle": 0.0},
    "RTS": {"angle": 0.0, "scale": 1.0, "centre": np.zeros(2)},
    "P": {"scale": 1.0, "corners": np.zeros((4, 2))},
    "E": {"scale": 1.0, "points": np.zeros((2, 16))},
    "TC": {"centre": np.zeros(2)},
}


@every_distortion
def test_the_identity_pose_gives_the_digit(name):
    distortion = dataclasses.replace(
        without_clutter(name),
        draw=lambda key: {k: jnp.asarray(v, jnp.float32) for k, v in IDENTITIES[name].items()},
    )
    assert IDENTITIES[name].keys() == poses(name).keys()
    images, margin = noise(), (SIZES[name] - 28) // 2
    expected = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    np.testing.assert_array_equal(distort(distortion, images), expected)


@every_distortion
def test_an_example_depends_on_its_key_and_not_on_its_batch(name):
    images, digits = noise(), np.random.default_rng(1).integers(0, 256, WHITE.shape, np.uint8)

    def examples(chosen, images, own):
        return distort(DISTORTIONS[name], images, chosen=chosen, digits=digits, own=own)

    index = np.arange(BATCH)
    together = examples(index, images, OWN)
    np.testing.assert_array_equal(examples(index, images, OWN), together)
    mixed = index[::-1] // 2  # the first half of the examples, twice and in another order
    shuffled = examples(mixed, images[mixed], OWN[mixed])
    np.testing.assert_allclose(shuffled, together[mixed], atol=1e-5)
    other = examples(index + BATCH, images, OWN)
    assert np.abs(other - together).max(axis=(1, 2, 3)).min() > 0.1
    same_image = examples(index, images[index * 0], OWN * 0)
    assert len(np.unique(same_image.reshape(BATCH, -1), axis=0)) == BATCH


@pytest.mark.parametrize("name", ["R", "RTS", "TC"])
def test_ink_is_conserved_on_average(name):
    """D9: up to the square of the scale, where there is one."""
    digits = bundled.load().train_images[:512].astype(np.float32) / 255
    out = distort(without_clutter(name), digits, chosen=slice(512), own=np.zeros(512, np.int32))
    scale = poses(name)["scale"][:512] if name == "RTS" else 1
    ratio = out.sum((1, 2, 3)) / digits.sum((1, 2, 3))
    ratio /= scale**2
    np.testing.assert_allclose(ratio.mean(), 1, atol=2e-3)
    assert 0.9 < ratio.min() <= ratio.max() < 1.1
