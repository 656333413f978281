"""Measure how far transformers of 3-D MNIST bring digits to one place of the projection (A.3).

  python scripts/measure_centres.py runs/mnist_3d --out results/tables/centres.md

For every finished run of 3-D MNIST with a transformer and a checkpoint below the given folders,
over its whole test set, of the projections (sums over depth) of inputs and of the transformer's
outputs; lengths are in percent of the projection's side:

spread     Root mean square distance of a digit's centroid from the mean over the test set.
off        Distance of that mean from the projection's middle.
size       Root mean square distance of ink from its digit's centroid. A network that magnifies
           digits magnifies the spread as well.
relative   Spread over size.
empty      Share of projections without ink; they do not count above.
"""

from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from stn_jax.data.mnist_3d import fixed_set, render
from stn_jax.launch import measuring, mnist_3d
from stn_jax.launch.saved import open_network, plain_digits
from stn_jax.models.mnist_3d import project
from stn_jax.reporting.runs import Run

COLUMNS = ("run", "projection of", "spread", "off", "size", "relative", "empty")
CHUNK = 50


def main(argv=None) -> None:
    measuring.run(measure, experiment="mnist_3d", columns=COLUMNS, description=__doc__, argv=argv)


def measure(run: Run) -> list[list]:
    """Return a run's rows of the table: of inputs and of outputs."""
    test, _ = plain_digits(run.config, run.fingerprint)
    extrusion = mnist_3d.extrusion_of(ConfigDict(run.config))
    network = open_network(run.config, run.folder, mnist_3d.make_model)

    @jax.jit
    def moments_of(posed):
        volumes = render(posed, extrusion).image
        _, extra = network(volumes)
        return [moments(project(x)) for x in (volumes, extra["warped"])]

    posed = fixed_set(test, extrusion=extrusion)
    chunks = [slice(start, start + CHUNK) for start in range(0, test.label.size, CHUNK)]
    parts = [moments_of(jax.tree.map(itemgetter(chunk), posed)) for chunk in chunks]
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    names = ("inputs", "outputs")
    return [[run.name, name, *summary(*m)] for name, m in zip(names, joined, strict=True)]


def moments(images: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the moments of the ink of projections.

    Args:
      images: [B, H, W, 1], not negative.

    Returns:
      Ink [B], its centroid [B, 2] in (x, y) from the middle, and its root mean square distance
      from there [B]; lengths in percent of the side. NaN where there is no ink.
    """
    images = images[..., 0]
    height, width = images.shape[1:]
    y, x = (100 * ((np.arange(size) + 0.5) / size - 0.5) for size in (height, width))
    ink = images.sum(axis=(1, 2))
    rows, columns = images.sum(axis=2) / ink[:, None], images.sum(axis=1) / ink[:, None]
    centroid = [columns @ x, rows @ y]
    square = columns @ x**2 + rows @ y**2 - centroid[0] ** 2 - centroid[1] ** 2
    return ink, jnp.stack(centroid, axis=-1), jnp.sqrt(jnp.maximum(square, 0))


def summary(ink: np.ndarray, centroid: np.ndarray, radius: np.ndarray) -> list[float]:
    """Return spread, off, size, relative and empty of digits; see the module's docstring."""
    seen = ink > 0
    mean = centroid[seen].mean(axis=0)
    spread = np.sqrt(np.square(centroid[seen] - mean).sum(axis=1).mean())
    size = np.sqrt(np.square(radius[seen]).mean())
    return [spread, np.hypot(*mean), size, spread / size, 100 * np.mean(~seen)]


if __name__ == "__main__":
    main()
