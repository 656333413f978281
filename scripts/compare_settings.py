"""Compare settings by their errors on held-out data, over folds and seeds.

  for fold in 0 1 2 3 4; do
      for momentum in 0.0 0.9; do
          python scripts/sweep.py configs/birds.py:CNN,224px,seed0 --runs-dir runs/folds -- \
              --config.data.evaluate_on=validation --config.data.fold=$fold \
              --config.optimizer.momentum=$momentum
      done
  done
  python scripts/compare_settings.py runs/folds --out folds.md

A row is a setting: the fields that differ between the runs. Its error and loss are those of the
last step, averaged over the listed folds of the training images (of birds, which have them) and
seeds; ± is the standard deviation (n - 1) over both together. The best is first: compare only those
of the same folds and seeds. Runs that are not finished, or not on held-out data, are left out.
"""

import argparse
import sys
from collections.abc import Sequence

from stn_jax.launch import measuring
from stn_jax.reporting.comparison import COLUMNS, compare
from stn_jax.reporting.runs import RecordError, find_runs


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    measuring.add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        rows = compare(find_runs(args.runs))
    except RecordError as error:
        sys.exit(f"{parser.prog}: {error}")
    formats = [".4f" if column == "loss" else ".2f" for column in COLUMNS]
    measuring.write(rows, COLUMNS, args.out, description=__doc__, formats=formats)


if __name__ == "__main__":
    main()
