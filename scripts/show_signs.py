r"""Animate what the first transformer does to traffic signs: along a track, and over training.

  python scripts/show_signs.py runs/gtsrb/GTSRB-two-14epochs-paper-seed0 --out results/figures

Writes NAME_track.gif, the frames of tracks with the region that is read, and its output; with
--steps also NAME_training.gif, the middle frame of each track from before training to that step,
and NAME_overlap.png, how much the region and the sign's box overlap there, on average over all
tracks. For that the run's first seed is trained again, as the run was, since only the last steps'
weights are kept. The tracks are those of validation: a run that is evaluated on the test set has
been trained on them, which the figures say. Needs the run's checkpoints and data.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stn_jax.launch.examples import apply_to_tracks
from stn_jax.launch.measuring import is_meant
from stn_jax.launch.options import indices
from stn_jax.launch.replay_signs import replay_signs
from stn_jax.reporting.runs import RecordError, Run, find_runs
from stn_jax.reporting.signs import save_motion, save_overlap
from stn_jax.training.errors import RunError

FRAMES = 30  # of a track


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folders with runs in them")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True)
    parser.add_argument(
        "--indices",
        metavar="I,J,...",
        type=indices,
        default=[0, 3, 14],
        help="tracks of validation, counted from 0 by class, of which each has one unless the "
        "config says more (default: 0,3,14)",
    )
    parser.add_argument(
        "--steps",
        metavar="N",
        type=int,
        help="train again for so many (an epoch: 785 in batches of 50, 613 of 64)",
    )
    parser.add_argument(
        "--every", metavar="N", type=int, default=10, help="steps a frame (default: 10)"
    )
    args = parser.parse_args(argv)
    try:
        runs = [run for run in find_runs(args.runs) if is_meant(run, "gtsrb")]
        if not runs:
            raise RecordError("there is no finished run with a transformer on traffic signs.")
        for run in runs:
            show(run, args)
    except (RunError, OSError, IndexError, ValueError) as error:
        sys.exit(f"show_signs.py: {error}")


def show(run: Run, args: argparse.Namespace) -> None:
    """Draw what a run does along tracks, and over training if that is asked for."""
    path = path_of(run, args.out, "track.gif")
    examples = apply_to_tracks(run, args.indices, frames=FRAMES)
    save_motion(examples, [f"frame {f + 1}" for f in range(FRAMES)], path)
    if args.steps is not None:
        replay = replay_signs(run, args.indices, steps=args.steps, every=args.every)
        path = path_of(run, args.out, "training.gif")
        save_motion(replay.examples, [f"step {step}" for step in replay.steps], path)
        path = path_of(run, args.out, "overlap.png")
        save_overlap(replay.examples.name, replay.steps, replay.overlap, replay.whole, path)


def path_of(run: Run, out: Path, ending: str) -> Path:
    """Return where a figure goes, and say so; runs in subfolders keep them."""
    path = out / f"{run.label}_{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"show_signs.py: {path}")
    return path


if __name__ == "__main__":
    main()
