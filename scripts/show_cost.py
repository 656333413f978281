r"""Show what a training step of the networks of birds costs, without taking it.

  python scripts/show_cost.py configs/birds.py:2xST-CNN,448px
  python scripts/show_cost.py configs/birds.py:2xST-CNN,448px --compile --batch-size 8
  python scripts/show_cost.py configs/birds.py:4xST-CNN,448px --compile -- \
      --config.model.dtype=bfloat16 --config.runtime.remat=True

Operations are counted in the whole step, forward, backward and update, before the compiler
optimises it; with --compile (minutes) the memory that the compiled step needs on this device: its
arguments (parameters, optimiser, batch) and what it holds on the way, which grows with the batch.
What follows a -- overrides fields of the config.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from stn_jax.benchmarks.birds import step_cost
from stn_jax.launch.cli import load_config_module, one_line_errors
from stn_jax.launch.sweep import overridden
from stn_jax.training.errors import EXIT_USAGE, RunError


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", metavar="CONFIG[:SELECTION]", help="the config of one run")
    parser.add_argument("--batch-size", type=int, metavar="N", help="default: the config's")
    parser.add_argument("--compile", action="store_true", help="for the memory")
    argv = list(sys.argv[1:] if argv is None else argv)
    cut = argv.index("--") if "--" in argv else len(argv)
    args = parser.parse_args(argv[:cut])
    file, _, selection = args.config.partition(":")
    with one_line_errors(Exception, code=EXIT_USAGE):
        if Path(file).stem != "birds":
            raise ValueError(f"{file} is not configs/birds.py.")
        config = overridden(load_config_module(file).get_config(selection), argv[cut + 1 :])
    batch_size = args.batch_size or config.training.batch_size
    with one_line_errors(ValueError, RunError, code=EXIT_USAGE):
        cost = step_cost(config, batch_size, compiled=args.compile)
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
