"""Measure where parallel transformers of birds look: at heads, at bodies (Table 3, right).

  python scripts/measure_parts.py runs/birds --out results/tables/parts.md

Over the birds that a run is evaluated on, for each transformer of its first seed, with parts as
CUB's annotators marked them (networks are trained without): those that are visible and within the
image which the network sees. Four sets of crops:

  found     those of the transformer;
  others'   the same crops, each on other birds: what is known without looking at the bird. Mean and
            standard deviation over 100 ways to deal them out, from which crops that follow the
            bird are several of these deviations away;
  mean      the mean of them all, the same on every bird: unlike others', it is not off for being
            scattered;
  start     those before training, the same on every bird.

  head in, body in      share of a bird's head (body) parts that lie in the crop, in %, on average
                        over birds;
  head off, body off    distance of the crop's centre to the centroid of a bird's head (body) parts,
                        on average, in % of the image's side;
  head spread, body s.  how much a part's place in the crop varies from bird to bird: standard
                        deviation (root of the sum of both axes' variances) over birds, on average
                        over head (body) parts, in % of the crop's side. The image's own is that of
                        a fixed crop, "start", times the crop's scale.
"""

from collections.abc import Sequence

import numpy as np

from stn_jax.data import cub_parts
from stn_jax.launch import birds, measuring
from stn_jax.launch.bird_examples import look
from stn_jax.models.birds import CENTRES, FAMILIES
from stn_jax.reporting.runs import Run

REGIONS = ("head", "body")
COLUMNS = ("run", "seed", "transformer", "crops", "head in", "body in")
COLUMNS = (*COLUMNS, "head off", "body off", "head spread", "body spread")
DEALS = 100  # ways to give crops to other birds


def main(argv: Sequence[str] | None = None) -> None:
    measuring.run(rows, experiment="birds", columns=COLUMNS, description=__doc__, argv=argv)


def rows(run: Run) -> list[list]:
    """Return four rows for each transformer of a run's first seed."""
    opened = birds.open_parts(run.config, run.fingerprint)
    parts, inside = opened.located
    affine = look(run, opened.birds).affine
    family = FAMILIES[run.config["model"]["transform"]]
    found = []
    for number, (x, y) in enumerate(CENTRES[affine.shape[1]]):
        crops = affine[:, number]
        start = np.asarray(family.as_affine(np.float32(family.start(x, y))))
        mean, start = (np.broadcast_to(one, crops.shape) for one in (crops.mean(axis=0), start))
        dealt = by_chance(crops, parts, inside)
        chance = zip(dealt.mean(axis=0), dealt.std(axis=0), strict=True)
        for name, values in (
            ("found", _formatted(measure(crops, parts, inside))),
            ("others'", [f"{value:.2f} ± {deviation:.2f}" for value, deviation in chance]),
            ("mean", _formatted(measure(mean, parts, inside))),
            ("start", _formatted(measure(start, parts, inside))),
        ):
            found.append([run.label, run.seeds[0], number + 1, name, *values])
    return found


def measure(affine: np.ndarray, parts: np.ndarray, inside: np.ndarray) -> list[float]:
    """Return the measures of one transformer's crops; see the module's docstring.

    Args:
      affine: [N, 6]; -1 and +1 are outer edges.
      parts: [N, 15, 2], in the image; likewise.
      inside: [N, 15], which of them count.

    Returns:
      For head and body in turn: in, off, spread; NaN where nothing counts.
    """
    matrix = affine.reshape(-1, 2, 3).astype(np.float64)
    centre = matrix[:, None, :, 2]
    in_crop = np.einsum("nij,nkj->nki", np.linalg.inv(matrix[..., :2]), parts - centre)
    within = np.all(np.abs(in_crop) <= 1, axis=-1)
    values = []
    for region in REGIONS:
        counts = inside & cub_parts.are_of(region)
        birds = counts.any(axis=1)
        share = _mean(within[birds], counts[birds], axis=1)
        centroid = _mean(parts[birds], counts[birds][..., None], axis=1)
        distance = np.linalg.norm(centroid - centre[birds, 0], axis=-1) / 2
        seen = counts.sum(axis=0) > 1
        about = in_crop - _mean(in_crop, counts[..., None], axis=0)
        variance = _mean(np.sum(about**2, axis=-1), counts, axis=0)
        spread = np.sqrt(variance[seen]) / 2
        values.append([100 * float(np.mean(x)) for x in (share, distance, spread)])
    return [values[r][kind] for kind in range(3) for r in range(2)]


def by_chance(affine: np.ndarray, parts: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the measures [D, 6] of crops dealt out to other birds in D ways; see `measure`."""
    random = np.random.default_rng(0)
    order = random.permutation(len(affine))
    turns = np.linspace(1, len(affine) - 1, min(DEALS, len(affine) - 1)).astype(int)
    found = []
    for turn in turns:
        dealt = np.empty_like(affine)
        dealt[order] = affine[np.roll(order, turn)]
        found.append(measure(dealt, parts, inside))
    return np.array(found)


def _formatted(values: Sequence[float]) -> list[str]:
    return [f"{value:.2f}" for value in values]


def _mean(values: np.ndarray, counts: np.ndarray, axis: int) -> np.ndarray:
    """Return the mean over an axis of those values that count; NaN without any."""
    with np.errstate(invalid="ignore"):
        total = np.sum(np.where(counts, values, 0), axis=axis)
        return total / np.sum(counts, axis=axis)


if __name__ == "__main__":
    main()
