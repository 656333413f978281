"""Render Tables 1 to 5, those of 3-D MNIST and of traffic signs from run records.

  python scripts/make_tables.py runs/table1                     # in the terminal
  python scripts/make_tables.py runs/table1 --format markdown   # or latex, csv
  python scripts/make_tables.py runs/table1 --out results       # files too: table1_fast.md, ...

Published numbers stand beside ours.

Every record.jsonl below the given folders is read, and each recipe gets its own tables. A number is
that of a finished run's last step on the test set; runs of the same settings with other seeds are
pooled. What is missing, unfinished, diverged, or not trained as the recipe says is marked, and
the marks are explained under the table. Among the files, claims_RECIPE.md has the paper's claims on
Table 1 as differences between its cells, claims_gtsrb_RECIPE.md the gain from transformers on
traffic signs.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stn_jax.launch.cli import load_config_module
from stn_jax.reporting.claims import claims, has_claims
from stn_jax.reporting.formats import FORMATS
from stn_jax.reporting.runs import RecordError, find_runs
from stn_jax.reporting.tables import Place, Table, build_tables

CONFIGS = Path(__file__).parents[1] / "configs"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", metavar="RUNS", nargs="+", help="folders with runs in them")
    parser.add_argument("--format", choices=FORMATS, default="terminal", help="of what is printed")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="where to write Markdown, LaTeX and CSV files"
    )
    args = parser.parse_args(argv)
    try:
        tables = build_tables(find_runs(args.runs), recipe_config)
        render, _ = FORMATS[args.format]
        print(render(tables), end="")
        if args.out:
            write(tables, args.out)
    except (RecordError, OSError) as error:
        sys.exit(f"make_tables.py: {error}")


def write(tables: Sequence[Table], folder: Path) -> None:
    """Write tables in all formats, and what is claimed of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in tables:
        for name in ("markdown", "latex", "csv"):
            render, ending = FORMATS[name]
            (folder / (table.stem + ending)).write_text(render([table]), encoding="utf-8")
        if has_claims(table):
            path = folder / f"claims_{table.stem.removeprefix('table1_')}.md"
            path.write_text(claims(table), encoding="utf-8")


def recipe_config(experiment: str, place: Place, recipe: str) -> dict[str, Any]:
    """Return the config of a cell as its recipe has it, in the form that records have."""
    module = load_config_module(CONFIGS / f"{experiment}.py")
    # What all cells of a table share is not selected.
    known = {name for names in module.CHOICES.values() for name in names}
    words = [word for text in place for word in text.split() if word in known]
    config = module.get_config(",".join([*words, recipe]))
    return json.loads(json.dumps(config.to_dict()))


if __name__ == "__main__":
    main()
