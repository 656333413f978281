"""Draw learning curves, and what transformers do to test digits, or pairs of them.

  python scripts/make_figures.py runs/table1 --out figures                  # the first test digits
  python scripts/make_figures.py runs/table1 --out figures --indices 8,61   # these ones
  python scripts/make_figures.py results --out figures --curves-only        # from records alone

For every record.jsonl below the given folders, NAME_curves.png shows loss and error over the
steps. For finished runs with a transformer, NAME_examples.png shows input, sampling grid and output
for the first seed; for MNIST addition both channels, and each transformer's grid on and output of
either. overview.png has all runs of distorted MNIST, a row for each distortion, model, transform
and recipe. That needs the runs' checkpoints and data (scripts/prepare_data.py). On R, captions of
affine transformers compare their rotation with the angle the digit was turned by.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from stn_jax import geometry
from stn_jax.data.distorted_mnist import fixed_keys
from stn_jax.data.distortions import DISTORTIONS
from stn_jax.data.mnist_addition import fixed_pairs
from stn_jax.launch.digits import load_digits
from stn_jax.launch.saved import evaluation_digits, open_network, rotation_degrees
from stn_jax.reporting import figures
from stn_jax.reporting.runs import RecordError, Run, find_runs
from stn_jax.reporting.tables import place_of
from stn_jax.training.errors import RunError
from stn_jax.training.loop import CHECKPOINTS

GRID_POINTS = 57  # a side of the drawn grids: enough for smooth lines


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    try:
        runs = find_runs(args.runs)
        for run in runs:
            figures.save_curves(run, path_of(args.out, run, "curves"))
        if not args.curves_only:
            draw_examples([run for run in runs if has_examples(run)], args.indices, args.out)
    except (RecordError, RunError, OSError, ImportError, IndexError) as error:
        sys.exit(f"make_figures.py: {error}")
    print(f"make_figures.py: figures of {len(runs)} runs are in {args.out}.")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", metavar="RUNS", nargs="+", help="folders with runs in them")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="for the figures")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--examples",
        metavar="N",
        dest="indices",
        type=first_digits,
        default=list(range(4)),
        help="the first N test digits, or pairs of them (default: 4)",
    )
    which.add_argument(
        "--indices",
        metavar="I,J,...",
        type=listed_digits,
        help="these test digits, counted from 0",
    )
    which.add_argument("--curves-only", action="store_true", help="no examples")
    return parser.parse_args(argv)


def first_digits(text: str) -> list[int]:
    """Read the value of --examples."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number.")
    return list(range(int(text)))


def listed_digits(text: str) -> list[int]:
    """Read the value of --indices."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list such as 8,61.") from None


def path_of(out: Path, run: Run, kind: str) -> Path:
    """Return where a figure goes; runs in subfolders keep them."""
    path = out / f"{run.label}_{kind}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def has_examples(run: Run) -> bool:
    """Tell whether a run can be shown at work, and say so if not."""
    if not place_of(run).transform:
        return False
    # Opening the checkpoints of a run that may still be going would disturb it.
    lack = f"is {run.status}" if run.status != "finished" else ""
    if not lack and not (run.folder / CHECKPOINTS).is_dir():
        lack = "has no checkpoints"
    if lack:
        print(f"make_figures.py: {run.label} {lack}: no examples.")
    return not lack


def draw_examples(runs: Sequence[Run], indices: Sequence[int], out: Path) -> None:
    """Draw the examples of each run, and the overview."""
    rows = {}
    for run in runs:
        if run.experiment == "mnist_addition":
            figures.save_channels(apply_to_pairs(run, indices), path_of(out, run, "examples"))
            continue
        examples = apply_to_digits(run, indices)
        figures.save_examples(examples, path_of(out, run, "examples"))
        rows.setdefault((place_of(run), run.config["recipe"]), examples)
    if rows:
        order = list(DISTORTIONS)
        keys = sorted(rows, key=lambda key: (order.index(key[0].distortion), key))
        figures.save_overview([rows[key] for key in keys], out / "overview.png")


def apply_to_digits(run: Run, indices: Sequence[int]) -> figures.Examples:
    """Show some test digits to the network of a run's first seed.

    Raises:
      IndexError: if there is no such test digit.
      RunError: if the run has no checkpoint, or the data are not those of the run.
    """
    distortion = DISTORTIONS[run.config["data"]["distortion"]]
    test = evaluation_digits(run.config, run.fingerprint, indices)
    logits, extra = open_network(run.config, run.folder)(test.image)
    transform = geometry.get_transform(run.config["model"]["transform"])
    grids = transform.grid(extra["theta"], (GRID_POINTS, GRID_POINTS))
    place = place_of(run)
    toy = [] if run.config["data"]["digits"] == "mnist" else ["(toy digits)"]
    captions = ()
    if place.distortion == "R" and place.transform == "Aff":
        drawn = np.degrees(distortion.poses(fixed_keys(jnp.asarray(indices)))["angle"])
        found = rotation_degrees(np.asarray(extra["theta"]))
        captions = [
            f"turned {round(a):+d}°\naffine {round(b):+d}°"
            for a, b in zip(drawn, found, strict=True)
        ]
    return figures.Examples(
        name=f"{run.name}, seed {run.seeds[0]}",
        row="\n".join([place.distortion, f"{place.model} {place.transform}", *toy]),
        inputs=np.asarray(test.image[..., 0]),
        grids=np.asarray(geometry.to_pixels(grids, test.image.shape[1:3])),
        outputs=np.asarray(extra["warped"][..., 0]),
        labels=np.asarray(test.label),
        predictions=np.asarray(jnp.argmax(logits, axis=-1)),
        captions=captions,
    )


def apply_to_pairs(run: Run, indices: Sequence[int]) -> figures.ChannelExamples:
    """Show some test pairs to the network of a run's first seed; raises as `apply_to_digits`."""
    test = evaluation_digits(run.config, run.fingerprint, indices)
    logits, extra = open_network(run.config, run.folder)(test.image)
    transform = geometry.get_transform(run.config["model"]["transform"])
    count, height, width, channels = test.image.shape
    # One transformer gives theta [N, P], several [N, T, P].
    grids = transform.grid(extra["theta"].reshape(-1, transform.num_params), (GRID_POINTS,) * 2)
    grids = geometry.to_pixels(grids, (height, width))
    outputs = np.moveaxis(np.asarray(extra["warped"]), -1, 1)
    digits = load_digits(run.config["data"]["digits"], run.config["runtime"]["data_dir"])
    pairs = np.asarray(fixed_pairs(len(digits.test_labels)))[np.asarray(indices)]
    return figures.ChannelExamples(
        name=f"{run.name}, seed {run.seeds[0]}",
        inputs=np.moveaxis(np.asarray(test.image), -1, 1),
        grids=np.reshape(grids, (count, -1, *grids.shape[1:])),
        outputs=outputs.reshape(count, -1, channels, *outputs.shape[2:]),
        digits=digits.test_labels[pairs],
        predictions=np.asarray(jnp.argmax(logits, axis=-1)),
    )


if __name__ == "__main__":
    main()
