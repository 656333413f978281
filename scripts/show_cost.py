r"""Show what a training step of a large network costs: of birds, house numbers, traffic signs.

  python scripts/show_cost.py configs/birds.py:2xST-CNN,448px configs/birds.py:4xST-CNN,448px
  python scripts/show_cost.py configs/birds.py:4xST-CNN,448px --compile --batch-size 8 -- \
      --config.model.dtype=bfloat16 --config.runtime.remat=True
  python scripts/show_cost.py configs/svhn.py:CNN,64px configs/svhn.py:Multi,64px --steps 3
  python scripts/show_cost.py configs/gtsrb.py:CNN configs/gtsrb.py:two configs/gtsrb.py:three

Operations are counted in the whole step on a GPU, forward, backward and update, before the compiler
optimises it; with --compile (minutes) the memory that the compiled step needs on this device: its
arguments (parameters, optimiser, batch) and what it holds on the way, which grows with the batch;
with --steps the time, too. Images are noise: no data are needed. What follows a -- overrides fields
of all configs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from tabulate import tabulate
from tqdm import tqdm

from stn_jax.benchmarks.cost import TRAININGS, step_cost
from stn_jax.launch.cli import load_config_module, one_line_errors
from stn_jax.launch.memory import keep_freed_memory
from stn_jax.launch.sweep import overridden
from stn_jax.reporting.benchmarks import measured_on
from stn_jax.training.errors import EXIT_USAGE, RunError
from stn_jax.training.records import environment


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="+", metavar="CONFIG[:SELECTION]", help="one run each")
    parser.add_argument("--batch-size", type=int, metavar="N", help="default: the configs' own")
    parser.add_argument("--compile", action="store_true", help="for the memory")
    parser.add_argument("--steps", type=int, default=0, metavar="N", help="take N, for the time")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write the table there too")
    argv = list(sys.argv[1:] if argv is None else argv)
    cut = argv.index("--") if "--" in argv else len(argv)
    args = parser.parse_args(argv[:cut])
    with one_line_errors(Exception, code=EXIT_USAGE):
        configs = [read_config(text, argv[cut + 1 :]) for text in args.configs]
    keep_freed_memory()
    columns = {}
    with one_line_errors(ValueError, RunError, code=EXIT_USAGE):
        for config in tqdm(configs, unit="network", disable=None):
            size = args.batch_size or config.training.batch_size
            cost = step_cost(config, size, compiled=args.compile, steps=args.steps)
            columns[config.name] = lines(cost, size)
    names = dict.fromkeys(name for column in columns.values() for name in column)
    rows = [[name, *(column[name] for column in columns.values())] for name in names]
    table = tabulate(rows, ["", *columns], tablefmt="github", disable_numparse=True)
    print(table)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(f"{table}\n\n{measured_on(environment())}.\n", encoding="utf-8")


def read_config(text: str, overrides: Sequence[str]) -> ConfigDict:
    """Return the config that a word of the command line names."""
    file, _, selection = text.partition(":")
    if Path(file).stem not in TRAININGS:
        known = " or ".join(f"configs/{name}.py" for name in TRAININGS)
        raise ValueError(f"{file} is not {known}.")
    return overridden(load_config_module(file).get_config(selection), overrides)


def lines(cost: dict[str, Any], batch_size: int) -> dict[str, str]:
    """Return what is shown of a step's cost, as text by name."""
    shown = {
        "parameters": f"{cost['parameters']:,}",
        "images in a step": f"{batch_size:,}",
        "GFLOP a step": f"{cost['flops'] / 1e9:,.1f}",
        "GFLOP an image": f"{cost['flops'] / batch_size / 1e9:.2f}",
    }
    for name in ("arguments", "temporary"):
        if name in cost:
            shown[f"{name}, GiB"] = f"{cost[name] / 2**30:.2f}"
    if "seconds" in cost:
        shown["seconds a step"] = f"{cost['seconds']:.2f}"
    return shown


if __name__ == "__main__":
    main()
