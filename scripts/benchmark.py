"""Time samplers, grids and training steps, PyTorch's and ours side by side.

  python scripts/benchmark.py                            # everything, on a quiet machine
  python scripts/benchmark.py --groups sampler step      # a part; the others' numbers are kept
  python scripts/benchmark.py --groups throughput --selection R      # a part of Table 1
  python scripts/benchmark.py --quick --groups sampler --out quick.json  # to see that it runs

Writes FILE.json, FILE.md and FILE_scaling.png after every row. A FILE that exists is added to: rows
of the same code, packages and device stay as they are; of another, their group is begun anew.
Needs PyTorch (pip install -e ".[bench]"); JAX and PyTorch each use all cores, or the GPU if they
see one. Anything else that runs on the machine spoils the numbers.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
from tqdm import tqdm

from stn_jax.launch.cli import load_config_module
from stn_jax.launch.memory import keep_freed_memory
from stn_jax.reporting import benchmarks as reporting
from stn_jax.training.records import environment

ROOT = Path(__file__).resolve().parents[1]
GROUPS = (
    "copy",
    "sampler",
    "grid",
    "scaling",
    "step",
    "crop",
    "svhn",
    "input",
    "birds",
    "memory",
    "throughput",
)
# What the numbers depend on besides the packages that every record names.
PACKAGES = ("torch", "dm-pix")


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    # Otherwise JAX takes most of a GPU's memory at once, and leaves PyTorch too little.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    keep_freed_memory()
    # The first call is to be timed as it is without what an earlier process compiled.
    jax.config.update("jax_enable_compilation_cache", False)
    now = described()
    out = args.out or ROOT / "results" / "benchmarks" / f"{device_name()}.json"
    report = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    out.parent.mkdir(parents=True, exist_ok=True)
    for group in args.groups or default_groups(now["device"]["platform"]):
        earlier = report.get(group)
        # What files differ from the commit is not known: then nothing is the same.
        kept = earlier is not None and earlier["environment"] == now and "+" not in now["code"]
        rows = earlier["rows"] if kept else []
        for row in rows_of(group, args, done=[] if args.again else [identity(row) for row in rows]):
            rows = [old for old in rows if identity(old) != identity(row)] + [row]
            time = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
            report[group] = {"environment": now, "time": time, "rows": rows}
            # After every row: a machine may be taken away in the middle.
            save(report, out)
    print(reporting.markdown(report))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--groups", nargs="+", choices=GROUPS, metavar="GROUP",
                        help=f"of {' '.join(GROUPS)} (only on a GPU by default)")  # fmt: skip
    parser.add_argument("--selection", default="", help="of Table 1, for throughput, such as R,FCN")
    parser.add_argument("--again", action="store_true", help="measure rows that are there, too")
    parser.add_argument(
        "--quick", action="store_true", help="a row a group, few rounds; with --out"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json",
                        help="default: results/benchmarks/DEVICE.json")  # fmt: skip
    args = parser.parse_args(argv)
    if args.out and args.out.suffix != ".json":
        parser.error(f"--out must end in .json, not {args.out.name}.")
    if args.quick and not args.out:
        parser.error("--quick measures nothing worth keeping: say with --out where it goes.")
    if args.selection and "throughput" not in (args.groups or ()):
        parser.error("--selection is for --groups throughput.")
    try:
        table1().sweep(args.selection)
    except ValueError as error:
        parser.error(f"--selection: {error}")
    try:
        importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        sys.exit("benchmark.py: PyTorch is not installed: pip install -e '.[bench]'")
    return args


def table1() -> ModuleType:
    """Return the config file whose networks are trained."""
    return load_config_module(ROOT / "configs" / "distorted_mnist.py")


def default_groups(platform: str) -> Sequence[str]:
    """Return all groups that make sense on a platform."""
    return GROUPS if platform == "gpu" else [name for name in GROUPS if name != "throughput"]


def rows_of(
    group: str, args: argparse.Namespace, *, done: Sequence[tuple]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a group, as the report has them, but for those that are done."""
    # Imported here: --help must not wait for PyTorch.
    from stn_jax.benchmarks import birds, memory, reading, sampling, svhn, training
    from stn_jax.benchmarks.timing import measure

    config = table1()
    if group == "memory":
        for model in tqdm(training.MODELS[: 1 if args.quick else None], desc=group):
            row = {"case": model.replace(",", " ")}
            if identity(row) not in done:
                yield {**row, "mib": memory.peaks(config.get_config(f"R,{model}"))}
        return
    groups: dict[str, Callable[[], Iterator]] = {
        "copy": sampling.copy_rows,
        "sampler": sampling.sampler_rows,
        "grid": sampling.grid_rows,
        "scaling": sampling.scaling_rows,
        "step": partial(training.step_rows, config.get_config, compiled=not args.quick),
        "crop": training.crop_rows,
        "svhn": partial(svhn.svhn_rows, load_config_module(ROOT / "configs/svhn.py").get_config),
        "input": reading.input_rows,
        "birds": partial(
            birds.birds_rows, load_config_module(ROOT / "configs/birds.py").get_config
        ),
        "throughput": partial(
            training.throughput_rows, config.get_config, config.sweep(args.selection)
        ),
    }
    rounds, round_seconds = (3, 0.01) if args.quick else (21, 0.05)
    for row in tqdm(islice(groups[group](), 1 if args.quick else None), desc=group, unit="row"):
        if (row.case, row.work) not in done:
            times = measure(row.contenders, rounds=rounds, round_seconds=round_seconds)
            yield {"case": row.case, "work": row.work, "facts": row.facts, "contenders": times}


def identity(row: dict[str, Any]) -> tuple:
    """Return what a row of a group is recognised by."""
    return row["case"], row.get("work")


def save(report: dict[str, Any], out: Path) -> None:
    """Write a report and its pages, whole or not at all."""
    for path, text in (
        (out, json.dumps(report, indent=1) + "\n"),
        (out.with_suffix(".md"), reporting.markdown(report)),
    ):
        draft = path.with_name(path.name + ".tmp")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    if "scaling" in report:
        reporting.save_scaling(report, out.with_name(f"{out.stem}_scaling.png"))


def described() -> dict[str, Any]:
    """Return code, packages and device, PyTorch's too.

    Exits if one of the two has a GPU and the other has not.
    """
    from stn_jax.benchmarks import pytorch

    result = environment() | {"torch": pytorch.described()}
    theirs, ours = result["torch"]["device"], result["device"]
    if (theirs == "cpu") != (ours["platform"] == "cpu"):
        sys.exit(
            f"benchmark.py: JAX runs on {ours['kind']}, PyTorch on {theirs}: nothing to compare."
        )
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
