"""Benchmark reports as tables and a picture.

A report is a dict: group -> {"environment", "time", "rows": [row]}; a row has `case`, `work`,
`facts`, and in `contenders` by name `seconds` (median), `low` and `high` (quartiles), `first` (the
first call) and `rounds`, or `error`. The group "memory" has `mib` by contender instead.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

OURS, OPPONENT = "stn_jax", "PyTorch"
COMPILED, WITH_GRAPHS = "torch.compile", "torch.compile, CUDA graphs"
# Ours is compared with the fastest of PyTorch's forms that took part.
OPPONENTS = (OPPONENT, f"{OPPONENT}, channels last", COMPILED, WITH_GRAPHS)
Report = dict[str, dict[str, Any]]

TITLES = {
    "sampler": "Sampling",
    "grid": "Generating 256 grids of 28x28 points",
    "step": "Training steps on R, batch 256: data, distortion, forward, backward, update",
    "crop": "ST-CNN (32 filters) on 42x42 inputs, batch 64, with an attention crop of fewer pixels",
    "svhn": "Networks of house numbers: what their transformers cost",
    "input": "Reading house numbers, and birds, from disk ahead of the steps, in eight threads",
    "birds": "Networks of birds: what 448 px and transformers cost",
    "scaling": "How sampling scales",
    "memory": "Peak memory of training steps on R, compiling included",
    "throughput": "Training steps of Table 1 by steps a call and seeds a program",
    "copy": "What memory can give",
}
NOT_MEASURED, FAILED = "not measured", "failed"
LARGE = 2**29  # bytes: several times any cache
INTRODUCTION = (
    "Made by `python scripts/benchmark.py`. Contenders take turns in one process; a time is "
    "the median of the rounds, with their quartiles in brackets. Below 1, the ratio says that "
    f"{OURS} is faster than {OPPONENT}, in the fastest of its forms: layouts, and compiled or not. "
    "On GPUs both multiply in TF32."
)


def markdown(report: Report) -> str:
    """Return the whole report as Markdown."""
    parts = ["# Benchmark", INTRODUCTION]
    for group, title in TITLES.items():
        if group not in report:
            parts.append(f"## {title}\n\n{NOT_MEASURED.capitalize()}.")
            continue
        tables = SECTIONS.get(group, times_table)(report, group)
        place, time = measured_on(report[group]["environment"]), report[group]["time"]
        parts.append(f"## {title}\n\n{tables}\n\n{place}, {time}.")
    return "\n\n".join(parts) + "\n"


def summary(report: Report) -> str:
    """Return the rows that a README has room for: sampling without and with gradients, steps."""
    body = []
    for group, works in (("sampler", ("forward", "forward + both gradients")), ("step", None)):
        for row in report[group]["rows"]:
            if works is None or row["work"] in works:
                times = (_fastest(row, names) for names in ((OURS,), OPPONENTS))
                work = f"sampling {row['case']}, {row['work']}"
                work = work if group == "sampler" else f"training step, {row['case']}"
                body.append([work, *map(_milliseconds, times), _ratio(row)])
    header = ["", f"{OURS}, ms", f"{OPPONENT}, ms", f"{OURS} / {OPPONENT}"]
    return tabulate(body, header, tablefmt="github", disable_numparse=True)


def times_table(report: Report, group: str) -> str:
    """Return a table of a group: milliseconds a contender, and ours over PyTorch's."""
    rows = report[group]["rows"]
    names = tuple(dict.fromkeys(name for row in rows for name in row["contenders"]))
    bandwidth = _bandwidth(report, group)
    compared = OPPONENT in names
    header = ["", "work", *(f"{name}, ms" for name in names)]
    header += [f"{OURS} / {OPPONENT}"] * compared
    with_share = group == "sampler" and bandwidth is not None
    header += ["share of copy bandwidth"] * with_share
    body, previous = [], None
    for row in rows:
        line = [row["case"] if row["case"] != previous else "", row["work"]]
        line += [_time(row["contenders"].get(name)) for name in names]
        if compared:
            line.append(_ratio(row))
        if with_share:
            line.append(_share(row, bandwidth))
        body.append(line)
        previous = row["case"]
    table = tabulate(body, header, tablefmt="github", disable_numparse=True)
    return "\n\n".join([table, *_failures(rows)])


def _step_tables(report: Report, group: str) -> str:
    """Return times, the cost of the transformer, and the time until the first step is done."""
    rows = {row["case"]: row for row in report[group]["rows"]}
    names = list(next(iter(rows.values()))["contenders"])
    cost, first = [], []
    for case, row in rows.items():
        base = rows.get(case.removeprefix("ST-").split()[0])
        if case.startswith("ST-") and base:
            pairs = [(_seconds(row, name), _seconds(base, name)) for name in names]
            cost.append([case, *(f"{a / b:.2f}" if a and b else FAILED for a, b in pairs)])
        firsts = [row["contenders"].get(name, {}).get("first") for name in names]
        first.append([case, *(f"{seconds:.1f}" if seconds else FAILED for seconds in firsts)])
    calls = {row["facts"].get("steps_per_call") for row in rows.values()} - {None}
    return "\n\n".join(
        [
            times_table(report, group),
            *(f"{OURS} takes {count} steps in one call, as in training." for count in calls),
            "With the transformer / without it:",
            tabulate(cost, ["", *names], tablefmt="github", disable_numparse=True),
            "Seconds until the first call is done, compilation included:",
            tabulate(first, ["", *names], tablefmt="github", disable_numparse=True),
        ]
    )


def _svhn_table(report: Report, group: str) -> str:
    """Return times, and those of the networks with transformers over the CNN's."""
    rows = report[group]["rows"]
    names = list(rows[0]["contenders"])
    header = ["", *(f"{name}, ms" for name in names), *(f"{n} / {names[0]}" for n in names[1:])]
    body = []
    for row in rows:
        base, *others = (_seconds(row, name) for name in names)
        ratios = [f"{other / base:.3f}" if base and other else FAILED for other in others]
        body.append([row["case"], *(_time(row["contenders"][n]) for n in names), *ratios])
    table = tabulate(body, header, tablefmt="github", disable_numparse=True)
    return "\n\n".join([table, *_failures(rows)])


def _birds_table(report: Report, group: str) -> str:
    """Return a row a network: time, operations, and both over the CNN's."""
    (row,) = report[group]["rows"]
    flops, times = row["facts"]["flops"], row["contenders"]
    first = next(iter(times))
    base = _seconds(row, first)
    body = [
        [
            name,
            _time(times[name]),
            f"{_seconds(row, name) / base:.2f}" if base and _seconds(row, name) else FAILED,
            f"{flops[name] / 1e9:.1f}",
            f"{flops[name] / flops[first]:.2f}",
        ]
        for name in times
    ]
    header = [row["case"], "ms", f"/ {first}", "GFLOP an image and step", f"/ {first}"]
    return tabulate(body, header, tablefmt="github", disable_numparse=True)


def _crop_table(report: Report, group: str) -> str:
    rows = report[group]["rows"]
    body = [
        [
            row["case"],
            _time(row["contenders"][OURS]),
            f"{row['facts']['flops'] / 1e9:.2f}",
        ]
        for row in rows
    ]
    return tabulate(
        body, ["crop", "ms", "GFLOP (compiler's)"], tablefmt="github", disable_numparse=True
    )


def _memory_table(report: Report, group: str) -> str:
    rows = report[group]["rows"]
    names = list(rows[0]["mib"])
    body = [
        [row["case"], *(FAILED if row["mib"][n] is None else f"{row['mib'][n]:.0f}" for n in names)]
        for row in rows
    ]
    return tabulate(
        body, ["", *(f"{n}, MiB" for n in names)], tablefmt="github", disable_numparse=True
    )


def _throughput_table(report: Report, group: str, *, steps: int = 150_000) -> str:
    """Return the fastest way for one and for three seeds, and the time for all of Table 1."""
    rows = [row for row in report[group]["rows"] if _seconds(row, OURS)]
    best: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        found = best.setdefault(row["case"], {})
        seeds = row["facts"]["seeds"]
        if seeds not in found or _seconds(row, OURS) < _seconds(found[seeds], OURS):
            found[seeds] = row
    body, hours = [], []
    for case, found in best.items():
        line = [case]
        for seeds in (1, 3):
            row = found.get(seeds)
            rate = f"{1 / _seconds(row, OURS):,.0f}" if row else NOT_MEASURED
            line += [rate, row["work"] if row else ""]
        body.append(line)
        # In one program, or in one after the other.
        three = [_seconds(row, OURS) * 3 / seeds for seeds, row in found.items()]
        hours.append(min(three) * steps / 3600)
    header = ["", "steps/s, 1 seed", "fastest with", "steps/s, 3 seeds each", "fastest with"]
    table = tabulate(body, header, tablefmt="github", disable_numparse=True)
    total = (
        f"These {len(hours)} models, {steps:,} iterations and three seeds each, take "
        f"{60 * sum(hours):,.0f} minutes at these rates, without evaluation."
    )
    return "\n\n".join([table, total, *_failures(report[group]["rows"])])


def save_scaling(report: Report, path: Path) -> None:
    """Draw time over size for every varied size of the group "scaling"."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    series: dict[str, dict[tuple[str, str], list[tuple[float, float]]]] = {}
    for row in report["scaling"]["rows"]:
        varied = row["case"].partition(":")[0]
        for name in row["contenders"]:
            line = series.setdefault(varied, {}).setdefault((name, row["work"]), [])
            if seconds := _seconds(row, name):
                line.append((row["facts"]["size"], seconds * 1e3))
    figure, axes = plt.subplots(
        1, len(series), figsize=(3.4 * len(series), 3.2), sharey=True, squeeze=False
    )
    colours = {OURS: "tab:blue", OPPONENT: "tab:orange", "full sum": "tab:gray"}
    for axis, (varied, lines) in zip(axes[0], series.items(), strict=True):
        for (name, work), points in lines.items():
            if not points:
                continue
            style = "-" if work == "forward" else "--"
            axis.loglog(
                *zip(*points, strict=True),
                style,
                marker=".",
                color=colours[name],
                label=f"{name}, {work}",
            )
        axis.set_xlabel(varied)
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("ms")
    handles = {
        label: h
        for axis in axes[0]
        for h, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="upper center", ncols=3, fontsize=8, frameon=False
    )
    figure.tight_layout(rect=(0, 0, 1, 0.84))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def measured_on(environment: dict[str, Any]) -> str:
    """Return on which device, with which packages and code numbers were measured."""
    device = environment["device"]
    where = f"{device['cpu']}, {device['cores']} cores"
    if device["platform"] != "cpu":
        where = f"{device['kind']} ({where})"
    versions = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    if cuda := environment.get("torch", {}).get("cuda"):
        versions += f" (CUDA {cuda}, cuDNN {environment['torch']['cudnn']})"
    return f"Measured on {where}; {versions}; code {environment['code']}"


def _bandwidth(report: Report, group: str) -> float | None:
    """Return the bytes a second that memory gives, where a group's arrays do not fit a cache."""
    on_gpu = report[group]["environment"]["device"]["platform"] != "cpu"
    if not on_gpu or "copy" not in report:
        return None
    return _bytes_per_second(report["copy"]["rows"][0])


def _bytes_per_second(row: dict[str, Any]) -> float | None:
    seconds = _seconds(row, OURS)
    return seconds and row["facts"]["bytes"] / seconds


def _share(row: dict[str, Any], bandwidth: float) -> str:
    """Return our part of the bandwidth, of work so large that no cache holds it."""
    rate = _bytes_per_second(row)
    if row["facts"]["bytes"] < LARGE or rate is None:
        return "–"
    return f"{100 * rate / bandwidth:.0f} %"


def _copy_table(report: Report, group: str) -> str:
    rate = _bytes_per_second(report[group]["rows"][0])
    table = times_table(report, group)
    return f"{table}\n\n{rate / 1e9:,.0f} GB/s, read and written together." if rate else table


def _seconds(row: dict[str, Any], name: str) -> float | None:
    """Return a contender's time, if it took part and did not fail."""
    return row["contenders"].get(name, {}).get("seconds")


def _fastest(row: dict[str, Any], names: Sequence[str]) -> float | None:
    """Return the time of the fastest of some contenders."""
    return min(filter(None, (_seconds(row, name) for name in names)), default=None)


def _ratio(row: dict[str, Any]) -> str:
    ours, theirs = _seconds(row, OURS), _fastest(row, OPPONENTS)
    return f"{ours / theirs:.2f}" if ours and theirs else NOT_MEASURED


def _failures(rows: list[dict[str, Any]]) -> list[str]:
    """Return a list of what could not be measured, and why; none of it: nothing."""
    lines = [
        f"- {row['case']}, {row['work']}, {name}: {times['error']}"
        for row in rows
        for name, times in row["contenders"].items()
        if "error" in times
    ]
    return ["\n".join([f"{FAILED.capitalize()}:", "", *lines])] if lines else []


def _time(times: dict[str, Any] | None) -> str:
    if times is None:
        return NOT_MEASURED
    if "error" in times:
        return FAILED
    low, median, high = (_milliseconds(times[name]) for name in ("low", "seconds", "high"))
    return f"{median} ({low} to {high})"


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return NOT_MEASURED
    return f"{seconds * 1e3:.3g}" if seconds < 0.1 else f"{seconds * 1e3:.0f}"


SECTIONS: dict[str, Callable[[Report, str], str]] = {
    "copy": _copy_table,
    "step": _step_tables,
    "crop": _crop_table,
    "svhn": _svhn_table,
    "birds": _birds_table,
    "memory": _memory_table,
    "throughput": _throughput_table,
}
