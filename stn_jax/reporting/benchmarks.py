"""Benchmark reports as tables and a picture.

A report is a dict: group -> {"environment", "time", "rows": [row]}; a row has `case`, `work`,
`facts`, and in `contenders` by name `seconds` (median), `low` and `high` (quartiles), `first` (the
first call) and `rounds`. The group "memory" has `mib` by contender instead.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tabulate import tabulate

OURS, OPPONENT = "stn_jax", "PyTorch"
Report = dict[str, dict[str, Any]]

TITLES = {
    "sampler": "Sampling",
    "grid": "Generating 256 grids of 28x28 points",
    "step": "Training steps on R, batch 256: data, distortion, forward, backward, update",
    "crop": "ST-CNN (32 filters) on 42x42 inputs, batch 64, with an attention crop of fewer pixels",
    "svhn": "Networks of house numbers: what their transformers cost",
    "birds": "Networks of birds: what 448 px and transformers cost",
    "scaling": "How sampling scales",
    "memory": "Peak memory of training steps on R",
    "throughput": "Training steps of Table 1 by steps a call and seeds a program",
    "copy": "What memory can give",
}
NOT_MEASURED = "not measured"
INTRODUCTION = (
    "Made by `python scripts/benchmark.py`. Contenders take turns in one process; a time is "
    "the median of the rounds, with their quartiles in brackets. Below 1, the ratio says that "
    f"{OURS} is faster than {OPPONENT}."
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
                times = (row["contenders"][name]["seconds"] for name in (OURS, OPPONENT))
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
    with_share = bandwidth is not None and all("bytes" in row["facts"] for row in rows)
    header += ["share of copy bandwidth"] * with_share
    body, previous = [], None
    for row in rows:
        line = [row["case"] if row["case"] != previous else "", row["work"]]
        line += [_time(row["contenders"].get(name)) for name in names]
        if compared:
            line.append(_ratio(row))
        if with_share:
            line.append(f"{100 * _bytes_per_second(row) / bandwidth:.0f} %")
        body.append(line)
        previous = row["case"]
    return tabulate(body, header, tablefmt="github", disable_numparse=True)


def _step_tables(report: Report, group: str) -> str:
    """Return times, the cost of the transformer, and the time until the first step is done."""
    rows = {row["case"]: row["contenders"] for row in report[group]["rows"]}
    names = list(next(iter(rows.values())))
    cost = []
    for case, contenders in rows.items():
        base = rows.get(case.removeprefix("ST-").split()[0])
        if case.startswith("ST-") and base:
            more = [contenders[n]["seconds"] / base[n]["seconds"] for n in names]
            cost.append([case, *(f"{ratio:.2f}" for ratio in more)])
    first = [[case, *(f"{c[n]['first']:.1f}" for n in names)] for case, c in rows.items()]
    return "\n\n".join(
        [
            times_table(report, group),
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
        seconds = [row["contenders"][name]["seconds"] for name in names]
        ratios = [f"{s / seconds[0]:.3f}" for s in seconds[1:]]
        body.append([row["case"], *(_time(row["contenders"][n]) for n in names), *ratios])
    return tabulate(body, header, tablefmt="github", disable_numparse=True)


def _birds_table(report: Report, group: str) -> str:
    """Return a row a network: time, operations, and both over the CNN's."""
    (row,) = report[group]["rows"]
    flops, times = row["facts"]["flops"], row["contenders"]
    first = next(iter(times))
    body = [
        [
            name,
            _time(times[name]),
            f"{times[name]['seconds'] / times[first]['seconds']:.2f}",
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
    body = [[row["case"], *(f"{row['mib'][name]:.0f}" for name in names)] for row in rows]
    return tabulate(
        body, ["", *(f"{n}, MiB" for n in names)], tablefmt="github", disable_numparse=True
    )


def _throughput_table(report: Report, group: str, *, steps: int = 150_000) -> str:
    """Return the fastest way for one and for three seeds, and the time for all of Table 1."""
    best: dict[str, dict[int, dict[str, Any]]] = {}
    for row in report[group]["rows"]:
        seeds = row["facts"]["seeds"]
        found = best.setdefault(row["case"], {})
        seconds = row["contenders"][OURS]["seconds"]
        if seeds not in found or seconds < found[seeds]["contenders"][OURS]["seconds"]:
            found[seeds] = row
    body = [
        [
            case,
            *(
                text
                for _, row in sorted(found.items())
                for text in (f"{1 / row['contenders'][OURS]['seconds']:,.0f}", row["work"])
            ),
        ]
        for case, found in best.items()
    ]
    three = [found[3]["contenders"][OURS]["seconds"] for found in best.values() if 3 in found]
    table = tabulate(
        body,
        ["", "steps/s, 1 seed", "fastest with", "steps/s, 3 seeds each", "fastest with"],
        tablefmt="github",
        disable_numparse=True,
    )
    return (
        f"{table}\n\nThese {len(three)} models, {steps:,} iterations and three seeds each, take "
        f"{sum(three) * steps / 3600:.1f} hours at these rates, without evaluation."
    )


def save_scaling(report: Report, path: Path) -> None:
    """Draw time over size for every varied size of the group "scaling"."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    series: dict[str, dict[tuple[str, str], list[tuple[float, float]]]] = {}
    for row in report["scaling"]["rows"]:
        varied = row["case"].partition(":")[0]
        for name, times in row["contenders"].items():
            line = series.setdefault(varied, {}).setdefault((name, row["work"]), [])
            line.append((row["facts"]["size"], times["seconds"] * 1e3))
    figure, axes = plt.subplots(
        1, len(series), figsize=(3.4 * len(series), 3.2), sharey=True, squeeze=False
    )
    colours = {OURS: "tab:blue", OPPONENT: "tab:orange", "full sum": "tab:gray"}
    for axis, (varied, lines) in zip(axes[0], series.items(), strict=True):
        for (name, work), points in lines.items():
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
    return f"Measured on {where}; {versions}; code {environment['code']}"


def _bandwidth(report: Report, group: str) -> float | None:
    """Return the bytes a second that memory gives, where a group's arrays do not fit a cache."""
    on_gpu = report[group]["environment"]["device"]["platform"] != "cpu"
    if group == "copy" or not on_gpu or "copy" not in report:
        return None
    return _bytes_per_second(report["copy"]["rows"][0])


def _bytes_per_second(row: dict[str, Any]) -> float:
    return row["facts"]["bytes"] / row["contenders"][OURS]["seconds"]


def _copy_table(report: Report, group: str) -> str:
    rate = _bytes_per_second(report[group]["rows"][0])
    return f"{times_table(report, group)}\n\n{rate / 1e9:,.0f} GB/s, read and written together."


def _ratio(row: dict[str, Any]) -> str:
    if OPPONENT not in row["contenders"]:
        return NOT_MEASURED
    ours, theirs = (row["contenders"][name]["seconds"] for name in (OURS, OPPONENT))
    return f"{ours / theirs:.2f}"


def _time(times: dict[str, float] | None) -> str:
    if times is None:
        return NOT_MEASURED
    low, median, high = (_milliseconds(times[name]) for name in ("low", "seconds", "high"))
    return f"{median} ({low} to {high})"


def _milliseconds(seconds: float) -> str:
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
