r"""Animate what transformers of distorted MNIST do while the pose of a test digit changes.

  python scripts/make_animations.py runs/table1/R-ST-FCN-Aff-fast --out R.gif
  python scripts/make_animations.py runs/table1/R-ST-FCN-* runs/table1/TC-ST-FCN-Aff-fast \
      --indices 8,61 --out gallery.gif

Draws a column for each run and test digit: the input with the sampling grid on it, and the output
with the class, of the first seed. On R the digit turns from -90 to 90 degrees and back; in all
other distortions it moves smoothly between poses drawn from the distortion's own law, and so does
the clutter. Needs the runs' checkpoints and data (scripts/prepare_data.py).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from stn_jax.data.distorted_mnist import Labelled
from stn_jax.data.distortions import DISTORTIONS, Distortion
from stn_jax.launch.examples import apply, why_not_opened
from stn_jax.launch.options import indices
from stn_jax.launch.saved import plain_digits
from stn_jax.reporting.animations import save_animation
from stn_jax.reporting.figures import Examples
from stn_jax.reporting.runs import RecordError, Run, find_runs
from stn_jax.reporting.tables import place_of
from stn_jax.training.errors import RunError

# Poses that the digit goes through, one after the other and back to the first: of these
# distortions, and as many drawn ones of all others.
STOPS = {"R": {"angle": np.radians([-90, 90]).astype(np.float32)}}
DRAWN_STOPS = 4


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folders with runs in them")
    parser.add_argument("--out", metavar="FILE.gif", type=Path, required=True)
    parser.add_argument(
        "--indices",
        metavar="I,J,...",
        type=indices,
        default=[0],
        help="test digits, counted from 0 (default: 0)",
    )
    parser.add_argument("--frames", metavar="N", type=int, default=48, help="default: 48")
    args = parser.parse_args(argv)
    if args.frames < 1:
        parser.error(f"--frames must be positive, got {args.frames}.")
    if args.out.suffix != ".gif":
        parser.error(f"--out must be a .gif, got {args.out}.")
    try:
        columns = [
            animate(run, index, args.frames)
            for folder in args.runs  # in the order given
            for run in find_runs([folder])
            for index in args.indices
        ]
    except (RecordError, RunError, OSError, ImportError, IndexError) as error:
        sys.exit(f"make_animations.py: {error}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_animation(columns, args.out)
    print(f"make_animations.py: {args.out} has {args.out.stat().st_size / 1e6:.2f} MB.")


def animate(run: Run, index: int, frames: int) -> Examples:
    """Show one test digit in changing poses to a run's network: an example a frame.

    Raises:
      IndexError: if there is no such test digit.
      RunError: if the run has no transformer or cannot be opened, or its data are not there.
    """
    if not place_of(run).transform:
        raise RunError(f"{run.name} has no transformer to show.")
    if lack := why_not_opened(run):
        raise RunError(f"{run.name} {lack}: it cannot be shown.")
    test, digits = plain_digits(run.config, run.fingerprint, [index])
    distortion = DISTORTIONS[run.config["data"]["distortion"]]
    poses, clutter = moving(distortion, index, len(digits), frames)
    image = jnp.tile(test.image[index].astype(jnp.float32) / 255, (frames, 1, 1, 1))
    images = jax.jit(distortion.render)(image, poses, clutter, digits)
    return apply(run, Labelled(images, jnp.tile(test.label[index], frames)), poses)


def moving(
    distortion: Distortion, index: int, num_digits: int, frames: int
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Return poses and clutter of a test digit, one a frame, as `Distortion.render` takes them."""
    keys = jax.random.split(jax.random.key(index), DRAWN_STOPS)
    poses = STOPS.get(distortion.name) or jax.jit(distortion.poses)(keys)
    clutter = {}
    if distortion.num_patches:
        draw = jax.jit(distortion.clutter, static_argnums=2)
        drawn = draw(keys, jnp.full(DRAWN_STOPS, index), num_digits)
        # The same patches throughout, at whole pixels.
        same = {name: np.repeat(drawn[name][:1], frames, axis=0) for name in ("digit", "source")}
        clutter = same | {"target": np.rint(loop(drawn["target"], frames)).astype(np.int32)}
    poses = {name: loop(values, frames) for name, values in poses.items()}
    return jax.tree.map(jnp.asarray, (poses, clutter))


def loop(stops: np.ndarray, frames: int) -> np.ndarray:
    """Interpolate between stops [K, ...] and back: [frames, ...], slow at the stops."""
    stops = np.asarray(stops, np.float32)
    time = np.arange(frames) * len(stops) / frames
    before = time.astype(int)
    weight = (1 - np.cos(np.pi * (time - before))) / 2
    weight = weight.astype(np.float32).reshape(-1, *[1] * (stops.ndim - 1))
    return (1 - weight) * stops[before] + weight * stops[(before + 1) % len(stops)]


if __name__ == "__main__":
    main()
