r"""Draw how the boxes of a co-localisation run move over its steps (Figure 4), and animate them.

  python scripts/show_colocalisation.py runs/table5/colocalisation-TC-8-views --out results/figures
  python scripts/show_colocalisation.py runs/table5/colocalisation-TC-1-views --out . --missed

Writes NAME_boxes.png, a strip of some images at some steps, and NAME_boxes.gif; with --missed
NAME_missed.png and .gif, of images whose box is wrong in the end. The run's first seed is trained
again, as the run was, for only the last steps' weights are kept: that needs the run's encoder and
data, and no checkpoint.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stn_jax.launch.cli import load_config_module
from stn_jax.launch.replay import replay
from stn_jax.reporting.boxes import save_animation, save_strip
from stn_jax.reporting.runs import RecordError, find_runs
from stn_jax.training.errors import RunError

ENCODERS = Path(__file__).parents[1] / "configs" / "distorted_mnist.py"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folders with runs in them")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True)
    parser.add_argument("--images", metavar="N", type=int, default=3, help="default: 3")
    parser.add_argument("--missed", action="store_true", help="those whose box is wrong")
    args = parser.parse_args(argv)
    if args.images < 1:
        parser.error(f"--images must be positive, got {args.images}.")
    encoder_config = load_config_module(ENCODERS).get_config
    try:
        for run in find_runs(args.runs):
            if run.experiment != "colocalisation":
                raise RecordError(f"{run.path}: {run.name} is a run of {run.experiment}.")
            moving = replay(run, encoder_config, args.images, missed=args.missed)
            name = f"{run.label}_{'missed' if args.missed else 'boxes'}"
            args.out.mkdir(parents=True, exist_ok=True)
            save_strip(moving, args.out / f"{name}.png")
            save_animation(moving, args.out / f"{name}.gif")
            print(f"show_colocalisation.py: {name}.png and .gif are in {args.out}.")
    except (RecordError, RunError, OSError, ValueError) as error:
        sys.exit(f"show_colocalisation.py: {error}")


if __name__ == "__main__":
    main()
