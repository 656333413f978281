r"""Animate what the first transformer does to traffic signs: along a track, and over training.

  python scripts/show_signs.py runs/gtsrb/GTSRB-two-14epochs-paper-seed0 --out results/figures

Writes NAME_track.gif, the frames of held-out tracks with the region that is read, and its output;
with --steps also NAME_training.gif, the middle frame of each track from before training to that
step. For that the run's first seed is trained again, as the run was, since only the last steps'
weights are kept. Needs the run's checkpoints and data.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stn_jax.launch.examples import apply_to_tracks, why_not_opened
from stn_jax.launch.replay_signs import replay_signs
from stn_jax.reporting.runs import RecordError, find_runs
from stn_jax.reporting.signs import save_motion
from stn_jax.reporting.tables import place_of
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
        metavar="I",
        nargs="+",
        type=int,
        default=[0, 3, 14],
        help="tracks: that held out of each class, counted from 0 (default: 0 3 14)",
    )
    parser.add_argument(
        "--steps", metavar="N", type=int, help="train again for so many (one epoch: 790)"
    )
    parser.add_argument(
        "--every", metavar="N", type=int, default=10, help="steps a frame (default: 10)"
    )
    args = parser.parse_args(argv)
    try:
        for run in find_runs(args.runs):
            if run.experiment != "gtsrb" or not place_of(run).transform:
                raise RecordError(f"{run.path}: {run.name} has no transformer of traffic signs.")
            if lack := why_not_opened(run):
                raise RunError(f"{run.label} {lack}: it cannot be shown.")
            path = args.out / f"{run.label}_track.gif"
            path.parent.mkdir(parents=True, exist_ok=True)
            examples = apply_to_tracks(run, args.indices, frames=FRAMES)
            save_motion(examples, [f"frame {f + 1}" for f in range(FRAMES)], path)
            print(f"show_signs.py: {path}")
            if args.steps:
                path = args.out / f"{run.label}_training.gif"
                examples, steps = replay_signs(
                    run, args.indices, steps=args.steps, every=args.every
                )
                save_motion(examples, [f"step {step}" for step in steps], path)
                print(f"show_signs.py: {path}")
    except (RecordError, RunError, OSError, IndexError) as error:
        sys.exit(f"show_signs.py: {error}")


if __name__ == "__main__":
    main()
