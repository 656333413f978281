r"""Draw learning curves, and what transformers do to test digits, or pairs of them.

  python scripts/make_figures.py runs/table1 --out figures                  # the first test digits
  python scripts/make_figures.py runs/table1 --out figures --indices 8,61   # these ones
  python scripts/make_figures.py results --out figures --curves-only        # from records alone
  python scripts/make_figures.py runs/table1/E-ST-CNN-TPS-fast --out figures \
      --missed-by runs/table1/E-CNN-fast           # digits that only the first run gets right

For every record.jsonl below the given folders, NAME_curves.png shows loss and error over the
steps. For finished runs with a transformer, NAME_examples.png shows input, sampling grid and output
for the first seed; for MNIST addition both channels, and each transformer's grid on and output of
either; for 3-D MNIST volumes, slices of the output, and projections; for traffic signs the frames
of tracks, with the region that the first transformer reads, and what it makes of them (the tracks
are those of validation, counted by class, of which each has one unless the config says more; runs
that are evaluated on the test set were trained on them); for birds the crops on the image.
overview.png has all runs of distorted MNIST, a row for each distortion, model, transform and
recipe. That needs the runs' checkpoints and data (scripts/prepare_data.py). On R, captions of
affine transformers compare their rotation with the angle the digit was turned by.
With --missed-by, NAME_missed.png shows the first test digits that NAME gets right and the other run
wrong, and there are no examples.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stn_jax.data.distortions import DISTORTIONS
from stn_jax.launch.bird_examples import apply_to_birds
from stn_jax.launch.examples import (
    apply_to_digits,
    apply_to_numbers,
    apply_to_pairs,
    apply_to_tracks,
    apply_to_volumes,
    missed_digits,
    why_not_opened,
)
from stn_jax.launch.options import indices
from stn_jax.reporting import figures
from stn_jax.reporting.birds import save_birds
from stn_jax.reporting.numbers import save_numbers
from stn_jax.reporting.runs import RecordError, Run, find_runs
from stn_jax.reporting.signs import save_tracks
from stn_jax.reporting.tables import place_of
from stn_jax.reporting.volumes import save_volumes
from stn_jax.training.errors import RunError


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    try:
        runs = find_runs(args.runs)
        for run in runs:
            figures.save_curves(run, path_of(args.out, run, "curves"))
        if not args.curves_only:
            shown = [run for run in runs if has_examples(run)]
            if args.missed_by:
                draw_missed(shown, args.missed_by, args.examples, args.out)
            else:
                draw_examples(shown, args.indices or range(args.examples), args.out)
    except (RunError, OSError, ImportError, IndexError, ValueError) as error:
        sys.exit(f"make_figures.py: {error}")
    print(f"make_figures.py: figures of {len(runs)} runs are in {args.out}.")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", metavar="RUNS", nargs="+", help="folders with runs in them")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="for the figures")
    parser.add_argument(
        "--examples",
        metavar="N",
        type=positive,
        help="how many digits or pairs, from the first on (default: 4)",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--indices",
        metavar="I,J,...",
        type=indices,
        help="these test digits, counted from 0",
    )
    which.add_argument(
        "--missed-by", metavar="RUN", type=Path, help="test digits that this run gets wrong"
    )
    which.add_argument("--curves-only", action="store_true", help="no examples")
    args = parser.parse_args(argv)
    if args.examples and (args.indices or args.curves_only):
        parser.error("--examples goes with neither --indices nor --curves-only.")
    args.examples = args.examples or 4
    return args


def positive(text: str) -> int:
    """Read the value of --examples."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number.")
    return int(text)


def path_of(out: Path, run: Run, kind: str) -> Path:
    """Return where a figure goes; runs in subfolders keep them."""
    path = out / f"{run.label}_{kind}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def has_examples(run: Run) -> bool:
    """Tell whether a run can be shown at work, and say so if not."""
    if not place_of(run).transform:
        return False
    if lack := why_not_opened(run):
        print(f"make_figures.py: {run.label} {lack}: no examples.")
    return not lack


def draw_examples(runs: Sequence[Run], which: Sequence[int], out: Path) -> None:
    """Draw the examples of each run, and the overview."""
    rows = {}
    for run in runs:
        if run.experiment == "mnist_addition":
            figures.save_channels(apply_to_pairs(run, which), path_of(out, run, "examples"))
            continue
        if run.experiment == "mnist_3d":
            save_volumes(apply_to_volumes(run, which), path_of(out, run, "examples"))
            continue
        if run.experiment == "gtsrb":
            save_tracks(apply_to_tracks(run, which), path_of(out, run, "examples"))
            continue
        if run.experiment == "birds":
            save_birds(apply_to_birds(run, which), path_of(out, run, "examples"))
            continue
        if run.experiment == "svhn":
            save_numbers(apply_to_numbers(run, which), path_of(out, run, "examples"))
            continue
        examples = apply_to_digits(run, which)
        figures.save_examples(examples, path_of(out, run, "examples"))
        rows.setdefault((place_of(run), run.config["recipe"]), examples)
    if rows:
        order = list(DISTORTIONS)
        keys = sorted(rows, key=lambda key: (order.index(key[0].distortion), key))
        figures.save_overview([rows[key] for key in keys], out / "overview.png")


def draw_missed(runs: Sequence[Run], folder: Path, count: int, out: Path) -> None:
    """Draw, for each run, digits that it gets right and the run in a folder wrong."""
    base, *others = find_runs([folder])
    if others:
        raise RecordError(f"{folder} has {1 + len(others)} runs in it: name one of them.")
    for run in runs:
        if run.experiment != "distorted_mnist":
            raise RecordError(f"--missed-by is for distorted MNIST, not for {run.experiment}.")
        missed = missed_digits(run, base, count)
        examples = apply_to_digits(run, list(missed))
        captions = [f"{place_of(base).model} reads {read}" for read in missed.values()]
        if examples.captions:
            captions = list(map("\n".join, zip(captions, examples.captions, strict=True)))
        examples = replace(
            examples,
            name=f"{examples.name}, where {base.name} is wrong",
            captions=captions,
        )
        figures.save_examples(examples, path_of(out, run, "missed"))


if __name__ == "__main__":
    main()
