"""Measure which digit each transformer of MNIST addition attends to and steadies (A.1).

  python scripts/measure_channels.py runs/table4 --out results/tables/channels.md

For every finished addition run with a transformer and a checkpoint below the given folders, over
its whole test set, a row for each transformer and channel; rows without a transformer are of the
inputs. A transformer maps places in its output to places in its input, and the drawn pose of a
channel maps these to the digit's own frame. The affine map nearest to both in a row, over what
lies in the digit's 28x28 box, says how the digit stands in the output.

r turn, r shift  Correlation of the transformer's rotation with the angle that the channel's digit
                 was turned by, and of its translation with the digit's place (mean of x and y).
angle            Mean of the digit's angle in the output, in degrees: 0 is upright.
turned, moved    Standard deviation of the digit's angle, in degrees, and of its place, in pixels
                 (root mean square over x and y), in the output; over the test set.
in class         Root mean square distance of the digit's angle from its class's mean, in degrees:
                 classes might each be brought to an angle of their own.
upright          Share of pairs, in %, in which the digit is within 10 degrees of its mean angle.
turned less,     Share of pairs, in %, in which this transformer leaves this channel's digit nearer
moved less       to its mean angle, or place, than the other channel's digit to its own.
spread           Variance of pixels within a class of digits over their mean square, both summed
                 over the image: 0 where all digits of a class look the same, near 1 where nothing
                 of them is in one place.
ink, area        Share of the channel's ink, and of its area, that the transformer's grid encloses,
                 in %.
"""

import jax
import jax.numpy as jnp
import numpy as np

from stn_jax import geometry
from stn_jax.data.distorted_mnist import fixed_keys
from stn_jax.data.distortions import DIGIT, DISTORTIONS
from stn_jax.data.mnist_addition import fixed_pairs
from stn_jax.launch import measuring
from stn_jax.launch.digits import load_digits
from stn_jax.launch.saved import evaluation_digits, open_network, rotation_degrees
from stn_jax.reporting.figures import outline
from stn_jax.reporting.runs import Run

COLUMNS = (
    *("run", "transformer", "channel", "r turn", "r shift", "angle", "turned", "in class"),
    *("upright", "turned less", "moved", "moved less", "spread", "ink", "area"),
)
UPRIGHT = 10  # degrees
POINTS = 21  # a side of the grids that maps are fitted to
CHUNK = 250


def main(argv=None) -> None:
    measuring.run(
        measure, experiment="mnist_addition", columns=COLUMNS, description=__doc__, argv=argv
    )


def measure(run: Run) -> list[list]:
    """Return a run's rows of the table."""
    distortion = DISTORTIONS[run.config["data"]["distortion"]]
    images = evaluation_digits(run.config, run.fingerprint).image
    pairs = np.asarray(fixed_pairs(len(images)))
    drawn = jax.jit(distortion.poses)(fixed_keys(jnp.ravel(pairs)))
    pose = {name: np.asarray(value).reshape(*pairs.shape, -1) for name, value in drawn.items()}
    digits = load_digits(run.config["data"]["digits"], run.config["runtime"]["data_dir"])
    label = digits.test_labels[pairs]

    transform = geometry.get_transform(run.config["model"]["transform"])
    apply = open_network(run.config, run.folder)
    parts = []
    for start in range(0, len(images), CHUNK):
        chunk = slice(start, start + CHUNK)
        _, extra = apply(images[chunk])
        theta = extra["theta"].reshape(len(images[chunk]), -1, transform.num_params)
        grid = transform.grid(theta.reshape(-1, transform.num_params), (POINTS, POINTS))
        grid = np.asarray(geometry.to_pixels(grid, images.shape[1:3]))
        grid = grid.reshape(*theta.shape[:2], POINTS, POINTS, 2)
        own = {name: value[chunk] for name, value in pose.items()}
        image = np.asarray(images[chunk])
        parts.append(
            {
                "warped": np.asarray(extra["warped"]).reshape(*image.shape[:3], -1, 2),
                **standing(grid, own, image.shape[1:3]),
                **enclosed(grid, image),
            }
        )
    return _rows(run.name, np.asarray(images), label, pose, _joined(parts))


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _rows(name, images, label, pose, found) -> list[list]:
    """Turn what was found for each pair [N, transformers, channels, ...] into the table's rows."""
    angle, centre = np.degrees(pose["angle"][..., 0]), pose["centre"]
    tilt, shift = (_from_mean(angle), _from_mean(centre))
    rows = []
    for c in (0, 1):
        rows.append(
            [
                *(name, None, c + 1, None, None),
                *_turned(angle[:, c], label[:, c]),
                *(upright(tilt[:, c]), None, _rms(shift[:, c]), None),
                *(spread(images[..., c], label[:, c]), None, None),
            ]
        )
    left, away = _from_mean(found["angle"]), _from_mean(found["place"])
    for t in range(left.shape[1]):
        for c in (0, 1):
            r_shift = [_correlation(found["shift"][:, t, k], centre[:, c, k]) for k in (0, 1)]
            warped = found["warped"][..., t, c]
            rows.append(
                [
                    *(name, t + 1, c + 1),
                    _correlation(found["turn"][:, t], angle[:, c]),
                    np.mean(r_shift),
                    *_turned(found["angle"][:, t, c], label[:, c]),
                    *(upright(left[:, t, c]), _less(left[:, t], c)),
                    *(_rms(away[:, t, c]), _less(away[:, t], c)),
                    spread(warped, label[:, c]),
                    100 * found["ink"][:, t, c].mean(),
                    100 * found["area"][:, t].mean(),
                ]
            )
    return rows


def standing(grid: np.ndarray, pose: dict, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Say how digits stand in transformers' outputs, and what the transformers do by themselves.

    Args:
      grid: [N, T, h, w, 2] pixels of the input that an evenly spaced h x w of the output reads.
      pose: of the digits: angle and scale [N, C, 1], centre [N, C, 2].
      shape: (H, W) of input and output.

    Returns:
      angle [N, T, C] in degrees and place [N, T, C, 2] in pixels from the output's centre, NaN
      where too little of the digit is read; turn [N, T] in degrees and shift [N, T, 2] in pixels,
      the transformer's own rotation and translation.
    """
    half = (np.array(shape[::-1]) - 1) / 2
    points = np.stack(np.meshgrid(*(np.linspace(-k, k, POINTS) for k in half)), axis=-1)
    source = grid - half
    seen = np.abs(source).max(axis=-1) <= 2 * half.max()  # a projective grid may reach very far
    linear, shift = nearest_affine(points, source, seen)
    result = {"turn": rotation_degrees(linear), "shift": shift}

    # Source = centre + scale * R(angle) digit.
    cos, sin = np.cos(pose["angle"][..., 0]), np.sin(pose["angle"][..., 0])
    to_digit = np.stack([cos, sin, -sin, cos], axis=-1).reshape(*cos.shape, 2, 2)
    to_digit = to_digit / pose["scale"][..., None]
    offset = source[:, :, None] - pose["centre"][:, None, :, None, None]
    digit = np.einsum("ncij,ntchwj->ntchwi", to_digit, offset)
    linear, origin = nearest_affine(points, digit, np.abs(digit).max(axis=-1) <= DIGIT / 2)
    inverse = np.linalg.pinv(np.nan_to_num(linear))
    place = -np.einsum("...ij,...j->...i", inverse, origin)
    return result | {"angle": -rotation_degrees(linear), "place": place}


def nearest_affine(points, values, weight) -> tuple[np.ndarray, np.ndarray]:
    """Fit values = linear @ points + offset by weighted least squares.

    Args:
      points: [h, w, 2].
      values: [..., h, w, 2].
      weight: [..., h, w], not negative.

    Returns:
      linear [..., 2, 2] and offset [..., 2]; NaN where less than six points have a weight.
    """
    unit = np.abs(points).max()
    basis = np.concatenate([points / unit, np.ones((*points.shape[:2], 1))], axis=-1)
    weight = weight.astype(float)
    matrix = np.einsum("...hw,hwi,hwj->...ij", weight, basis, basis)
    right = np.einsum("...hw,hwi,...hwd->...id", weight, basis, values)
    solution = np.linalg.pinv(matrix, hermitian=True) @ right
    solution[(weight > 0).sum(axis=(-2, -1)) < 6] = np.nan
    return np.swapaxes(solution[..., :2, :], -2, -1) / unit, solution[..., 2, :]


def enclosed(grid: np.ndarray, image: np.ndarray) -> dict[str, np.ndarray]:
    """Return the shares of ink [N, T, C] and of area [N, T] that grids enclose.

    Args:
      grid: [N, T, h, w, 2] in pixels of the input.
      image: [N, H, W, C].
    """
    border = outline(np.moveaxis(grid, (0, 1), (2, 3)))
    y, x = np.mgrid[: image.shape[1], : image.shape[2]]
    inside = np.zeros((*grid.shape[:2], *x.shape), bool)
    for start, end in zip(border, border[1:], strict=False):  # a ray to the right crosses the edge
        (x1, y1), (x2, y2) = (np.moveaxis(p, -1, 0)[..., None, None] for p in (start, end))
        spans = (y1 > y) != (y2 > y)
        inside ^= spans & (x < x1 + (y - y1) * (x2 - x1) / np.where(spans, y2 - y1, 1))
    ink = np.einsum("nthw,nhwc->ntc", inside, image) / image.sum(axis=(1, 2))[:, None]
    return {"ink": ink, "area": inside.mean(axis=(2, 3))}


def spread(images: np.ndarray, label: np.ndarray) -> float:
    """Return the variance within a class over the mean square; images [N, H, W]."""
    classes = [images[label == k] for k in np.unique(label)]
    within = np.mean([x.var(axis=0).sum() for x in classes])
    return float(within / np.mean([np.square(x).mean(axis=0).sum() for x in classes]))


def upright(tilt: np.ndarray) -> float:
    """Return the share of angles from the mean that are small, in percent."""
    return 100 * float(np.mean(np.abs(tilt) <= UPRIGHT))


def _turned(angle: np.ndarray, label: np.ndarray) -> list[float]:
    """Return the angles' mean, their standard deviation, and that from the means of classes."""
    of_class = np.concatenate([_from_mean(angle[label == k]) for k in np.unique(label)])
    return [float(np.nanmean(angle)), _rms(_from_mean(angle)), _rms(of_class)]


def _from_mean(values: np.ndarray) -> np.ndarray:
    return values - np.nanmean(values, axis=0)


def _rms(deviations: np.ndarray) -> float:
    return float(np.sqrt(np.nanmean(np.square(deviations))))


def _less(deviations: np.ndarray, channel: int) -> float:
    """Return how often a channel [N, 2, ...] is nearer to its mean than the other, in percent."""
    size = np.square(deviations).reshape(*deviations.shape[:2], -1).sum(axis=-1)
    return 100 * float(np.mean(size[:, channel] < size[:, 1 - channel]))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    both = np.isfinite(a) & np.isfinite(b)
    return float(np.corrcoef(a[both], b[both])[0, 1])


if __name__ == "__main__":
    main()
