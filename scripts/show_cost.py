"""Show what a training step of the networks of birds costs, without taking it.

  python scripts/show_cost.py configs/birds.py:2xST-CNN,448px
  python scripts/show_cost.py configs/birds.py:2xST-CNN,448px --compile --batch-size 8

Operations are counted in the whole step, forward, backward and update, before the compiler
optimises it; with --compile (minutes) the memory that the compiled step needs on this device: its
arguments (parameters, optimiser, batch) and what it holds on the way, which grows with the batch.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from stn_jax.benchmarks.birds import step_cost
from stn_jax.launch.cli import load_config_module
from stn_jax.training.errors import RunError


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", metavar="CONFIG[:SELECTION]", help="the config of one run")
    parser.add_argument("--batch-size", type=int, metavar="N", help="default: the config's")
    parser.add_argument("--compile", action="store_true", help="for the memory")
    args = parser.parse_args(argv)
    file, _, selection = args.config.partition(":")
    try:
        if Path(file).stem != "birds":
            raise ValueError(f"{file} is not configs/birds.py.")
        config = load_config_module(file).get_config(selection)
        batch_size = args.batch_size or config.training.batch_size
        cost = step_cost(config, batch_size, compiled=args.compile)
    except (OSError, ValueError, RunError) as error:
        sys.exit(f"show_cost.py: {error}")
    rows = [
        ["parameters", f"{cost['parameters']:,}"],
        ["images in a step", f"{batch_size:,}"],
        ["GFLOP a step", f"{cost['flops'] / 1e9:,.1f}"],
        ["GFLOP an image", f"{cost['flops'] / batch_size / 1e9:.1f}"],
    ]
    for name in ("arguments", "temporary"):
        if name in cost:
            rows.append([f"{name}, GiB", f"{cost[name] / 2**30:.2f}"])
    print(f"{config.name}\n")
    print(tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=("left", "right")))


if __name__ == "__main__":
    main()
