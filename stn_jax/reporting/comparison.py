"""Settings side by side, by their errors on held-out data: what recipes are chosen by."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from stn_jax.reporting.runs import RecordError, Run, settings

SPLIT = "validation"
COLUMNS = ("setting", "folds", "seeds", "error in %", "±", "loss")
FOLD = "data.fold"
ABSENT = "absent"


def compare(runs: Sequence[Run]) -> list[list[Any]]:
    """Return a row of `COLUMNS` for every setting of finished runs on held-out data, best first.

    Errors and losses of the last step are averaged over folds and seeds; ± is the standard
    deviation (n - 1) over both together, None of a single one. A setting is called by the fields
    that are not the same in all.

    Raises:
      RecordError: no run is finished, or some are of other experiments or data than others, or one
        fold and seed of one setting is there twice.
    """
    runs = [run for run in runs if run.final_errors(SPLIT)]
    if not runs:
        raise RecordError(f"no finished run has a {SPLIT} error: data.evaluate_on={SPLIT}.")
    for what in ("experiment", "fingerprint"):
        if len(kinds := {getattr(run, what) for run in runs}) > 1:
            raise RecordError(f"the runs are of more than one {what}: {', '.join(sorted(kinds))}.")
    fields = [settings(run.config) for run in runs]
    folds = [of_run.pop(FOLD, 0) for of_run in fields]
    names = sorted(set().union(*fields))
    varying = [n for n in names if len({repr(f.get(n, ABSENT)) for f in fields}) > 1]
    found: dict[str, dict[tuple[int, int], tuple[float, float]]] = defaultdict(dict)
    for run, of_run, fold in zip(runs, fields, folds, strict=True):
        setting = " ".join(f"{name}={of_run.get(name, ABSENT)}" for name in varying)
        measured = run.measured[SPLIT]
        losses = measured.loss[measured.steps.index(run.num_steps)]
        for (seed, error), loss in zip(run.final_errors(SPLIT).items(), losses, strict=True):
            if (fold, seed) in found[setting]:
                raise RecordError(
                    f"{setting or run.name}: fold {fold}, seed {seed} is there twice, once in "
                    f"{run.path}."
                )
            found[setting][fold, seed] = error, loss
    rows = [_row(setting or runs[0].name, values) for setting, values in found.items()]
    return sorted(rows, key=lambda row: row[COLUMNS.index("error in %")])


def _row(setting: str, values: dict[tuple[int, int], tuple[float, float]]) -> list[Any]:
    folds, seeds = (sorted(set(numbers)) for numbers in zip(*values, strict=True))
    errors, losses = zip(*values.values(), strict=True)
    return [
        setting,
        ", ".join(map(str, folds)),
        ", ".join(map(str, seeds)),
        statistics.fmean(errors),
        statistics.stdev(errors) if len(errors) > 1 else None,
        statistics.fmean(losses),
    ]
