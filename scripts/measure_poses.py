"""Measure what trained transformers do to poses: the claims of Sect. 4.1 beyond the error.

  python scripts/measure_poses.py runs/table1 --out results/tables/poses.md

For every finished run of distorted MNIST with a transformer and a checkpoint below the given
folders, over its whole test set:

turned, left   Standard deviation of the angle that the digits were turned by, and of what is left
               of it in the transformer's output, in degrees; and its mean. Only where the
               distortion draws an angle and the transform is affine, which has one.
variance       Mean over the ten classes of the pixels' variance within a class, summed over the
               image: of the inputs, and of the transformer's outputs. A smaller one means that
               digits of a class look more alike.
gap            Test error less the training error over the last iterations, in percent.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np

from stn_jax.data.distorted_mnist import fixed_keys
from stn_jax.data.distortions import DISTORTIONS
from stn_jax.launch import measuring
from stn_jax.launch.saved import evaluation_digits, open_network, rotation_degrees
from stn_jax.reporting.runs import Run

COLUMNS = ("run", "turned", "left", "mean left", "variance in", "variance out", "gap")


def main(argv=None) -> None:
    measuring.run(
        lambda run: [measure(run)],
        experiment="distorted_mnist",
        columns=COLUMNS,
        description=__doc__,
        argv=argv,
    )


def measure(run: Run) -> list:
    """Return a run's row of the table."""
    test = evaluation_digits(run.config, run.fingerprint)
    apply = open_network(run.config, run.folder)
    parts = [apply(test.image[i : i + 1000])[1] for i in range(0, test.label.size, 1000)]
    theta, warped = (np.concatenate([p[name] for p in parts]) for name in ("theta", "warped"))
    label = np.asarray(test.label)
    turned = left = mean = None
    distortion = DISTORTIONS[run.config["data"]["distortion"]]
    drawn = jax.jit(distortion.poses)(fixed_keys(jnp.arange(label.size)))
    if "angle" in drawn and run.config["model"]["transform"] == "affine":
        angle = np.degrees(np.asarray(drawn["angle"]))
        residual = (rotation_degrees(theta.reshape(-1, 2, 3)) - angle + 180) % 360 - 180
        turned, left, mean = angle.std(), residual.std(), residual.mean()
    variances = [within_class_variance(np.asarray(x), label) for x in (test.image, warped)]
    return [run.name, turned, left, mean, *variances, error_gap(run)]


def within_class_variance(images: np.ndarray, label: np.ndarray) -> float:
    """Return the mean over classes of the summed pixel variance; images [N, H, W, 1]."""
    return float(np.mean([images[label == k].var(axis=0).sum() for k in np.unique(label)]))


def error_gap(run: Run) -> float:
    """Return the last test error less the last training error, mean over seeds."""
    lines = [json.loads(text) for text in run.path.read_text().splitlines()]
    last = {line["kind"]: np.mean(line["error"]) for line in lines if "error" in line}
    return float(last["eval"] - last["train"])


if __name__ == "__main__":
    main()
