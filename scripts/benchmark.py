"""Time samplers, grids and training steps, PyTorch's and ours side by side.

  python scripts/benchmark.py                            # all but `throughput`, on a quiet machine
  python scripts/benchmark.py --groups sampler step      # a part; the others' numbers are kept
  python scripts/benchmark.py --groups throughput        # all of Table 1: for a GPU
  python scripts/benchmark.py --groups throughput --selection R      # a part of it
  python scripts/benchmark.py --quick --out quick.json  # only to see that it runs

Writes FILE.json, FILE.md and FILE_scaling.png; a FILE that exists is added to, group by group, and
within a group row by row as long as code, packages and device are the same.
Needs PyTorch (pip install -e ".[bench]"); JAX and PyTorch each use all cores, or the GPU if they
see one. Anything else that runs on the machine spoils the numbers.
"""

import argparse
import datetime
import importlib.metadata
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from stn_jax.launch.cli import load_config_module
from stn_jax.launch.memory import keep_freed_memory
from stn_jax.reporting import benchmarks as reporting
from stn_jax.training.records import environment

ROOT = Path(__file__).resolve().parents[1]
GROUPS = ("copy", "sampler", "grid", "scaling", "step", "crop", "svhn", "birds", "memory")
GROUPS = (*GROUPS, "throughput")
# What the numbers depend on besides the packages that every record names.
PACKAGES = ("torch", "dm-pix")


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    keep_freed_memory()
    out = args.out or ROOT / "results" / "benchmarks" / f"{device_name()}.json"
    report = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    out.parent.mkdir(parents=True, exist_ok=True)
    for group in args.groups:
        rows = list(measured(group, quick=args.quick, selection=args.selection))
        report[group] = merged(report.get(group), rows)
        # After every group: a machine may be taken away in the middle.
        out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    text = reporting.markdown(report)
    out.with_suffix(".md").write_text(text, encoding="utf-8")
    if "scaling" in report:
        reporting.save_scaling(report, out.with_name(f"{out.stem}_scaling.png"))
    print(text)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=GROUPS[:-1], metavar="GROUP",
                        help=f"of {' '.join(GROUPS)}")  # fmt: skip
    parser.add_argument("--selection", default="", help="of Table 1, for throughput, such as R,FCN")
    parser.add_argument("--quick", action="store_true", help="few rows, few rounds")
    parser.add_argument("--out", type=Path, metavar="FILE.json",
                        help="default: results/benchmarks/DEVICE.json")  # fmt: skip
    args = parser.parse_args(argv)
    if args.out and args.out.suffix != ".json":
        parser.error(f"--out must end in .json, not {args.out.name}.")
    try:
        importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        sys.exit("benchmark.py: PyTorch is not installed: pip install -e '.[bench]'")
    return args


def measured(group: str, *, quick: bool, selection: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a group, as the report has them."""
    # Imported here: --help must not wait for PyTorch.
    from stn_jax.benchmarks import birds, memory, sampling, svhn, training
    from stn_jax.benchmarks.timing import measure

    config = load_config_module(ROOT / "configs" / "distorted_mnist.py")
    models = training.MODELS[:1] if quick else training.MODELS
    if group == "memory":
        for case, peaks in tqdm(
            memory.memory_rows(config.get_config, models), desc=group, total=len(models)
        ):
            yield {"case": case, "mib": peaks}
        return
    groups: dict[str, Callable[[], Iterator]] = {
        "copy": sampling.copy_rows,
        "sampler": sampling.sampler_rows,
        "grid": sampling.grid_rows,
        "scaling": sampling.scaling_rows,
        "step": partial(training.step_rows, config.get_config, compiled=not quick),
        "crop": training.crop_rows,
        "svhn": partial(svhn.svhn_rows, load_config_module(ROOT / "configs/svhn.py").get_config),
        "birds": partial(
            birds.birds_rows, load_config_module(ROOT / "configs/birds.py").get_config
        ),
        "throughput": partial(training.throughput_rows, config.get_config, config.sweep(selection)),
    }
    rounds, round_seconds = (3, 0.01) if quick else (21, 0.05)
    for row in tqdm(islice(groups[group](), 1 if quick else None), desc=group, unit="row"):
        times = measure(row.contenders, rounds=rounds, round_seconds=round_seconds)
        yield {"case": row.case, "work": row.work, "facts": row.facts, "contenders": times}


def merged(earlier: dict[str, Any] | None, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a group of the report: new rows, and earlier ones of the same code and machine."""
    now = described()
    if earlier and earlier["environment"] == now:
        found = {(row["case"], row.get("work")) for row in rows}
        kept = [row for row in earlier["rows"] if (row["case"], row.get("work")) not in found]
        rows = kept + rows
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
    return {"environment": now, "time": time, "rows": rows}


def described() -> dict[str, Any]:
    """Return code, packages and device, PyTorch's too."""
    result = environment()
    for name in PACKAGES:
        try:
            result["packages"][name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            result["packages"][name] = "not installed"
    return result


def device_name() -> str:
    """Return the device's name for a file: nvidia-h200, or the processor with its cores."""
    device = environment()["device"]
    name = (
        device["kind"]
        if device["platform"] != "cpu"
        else f"{device['cpu']} {device['cores']} cores"
    )
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


if __name__ == "__main__":
    main()
