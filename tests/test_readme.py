"""What README.md tells people to run or to look at is there, and works."""

import functools
import importlib
import json
import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest

from stn_jax.launch.cli import load_config_module
from stn_jax.reporting import benchmarks

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PROSE = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
FOLDERS = ("stn_jax", "configs", "experiments", "scripts", "tests", "docs", "results")

# The indented commands as lists of words, continued lines joined, comments left out.
LINES = PROSE.replace("\\\n", " ").splitlines()
COMMANDS = [shlex.split(line, comments=True) for line in LINES if re.match(" {4}[a-z]+ ", line)]
PYTHON = [words[1:] for words in COMMANDS if words[0] == "python"]


def test_code_blocks_run_in_order():
    names = {}
    for number, code in enumerate(CODE, 1):
        exec(compile(code, f"README.md, code block {number}", "exec"), names)
    images, rotated, slope = names["images"], names["rotated"], names["slope"]
    assert rotated.shape == images.shape
    assert np.abs(rotated - images).max() > 0.1
    assert len(slope) == len(images)
    assert np.all(np.isfinite(slope)) and np.any(slope)
    # Before training the transformer is the identity.
    warped, _ = names["Classifier"](rngs=names["nnx"].Rngs(0)).transformer(images)
    np.testing.assert_array_equal(warped, images)
    assert names["logits"].shape == (8, 10) and np.ptp(names["logits"]) > 0


# What stands after --out is written, not read.
PATHS = sorted(
    set(
        re.findall(
            rf"(?<![\w./~-])(?:{'|'.join(FOLDERS)})/[\w./-]*\w", re.sub(r"--out \S+", "", PROSE)
        )
    )
)


@pytest.mark.parametrize("path", PATHS)
def test_files_are_there(path):
    assert (ROOT / path).exists()


def test_examples_are_found():
    """So that the tests here do not pass for lack of anything to test."""
    assert len(CODE) == 2
    assert {"configs/distorted_mnist.py", "docs/fidelity.md", "scripts/sweep.py"} <= set(PATHS)
    assert {words[0] for words in PYTHON} >= {
        "experiments/distorted_mnist.py",
        "scripts/prepare_data.py",
        "scripts/sweep.py",
        "scripts/make_tables.py",
        "scripts/make_figures.py",
    }


@pytest.mark.parametrize(
    "words", [w for w in PYTHON if w[0].startswith("scripts/")], ids=shlex.join
)
def test_scripts_know_the_options(words, capsys):
    script = importlib.import_module(words[0].removesuffix(".py").replace("/", "."))
    # A script with commands shows the options of each one.
    commands = [word for word in words[1:2] if words[0] == "scripts/prepare_data.py"]
    with pytest.raises(SystemExit, match="0"):
        script.main([*commands, "--help"])
    text = capsys.readouterr().out
    for option in filter(lambda word: word.startswith("--"), words):
        assert re.search(rf"{option}\b", text), option


@pytest.mark.parametrize("words", [w for w in PYTHON if "--config" in w], ids=shlex.join)
def test_one_run_is_selected_and_its_fields_exist(words):
    path, _, selection = words[words.index("--config") + 1].partition(":")
    config = load_config_module(ROOT / path).get_config(selection)
    overrides = [match for word in words if (match := re.fullmatch(r"--config\.(.*)=(.*)", word))]
    assert overrides and "--workdir" in words
    for override in overrides:
        default = functools.reduce(lambda node, name: node[name], override[1].split("."), config)
        assert type(default)(override[2]) != default


@pytest.mark.parametrize("words", [w for w in PYTHON if w[0] == "scripts/sweep.py"], ids=shlex.join)
def test_a_sweep_has_runs(words):
    path, _, selection = words[1].partition(":")
    module = load_config_module(ROOT / path)
    runs = [module.get_config(run).name for run in module.sweep(selection)]
    assert len(set(runs)) == len(runs) > 1


def test_make_targets_and_extras_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = [words[1] for words in COMMANDS if words[0] == "make"]
    assert named == ["quickstart", "test"]
    assert set(named) <= set(targets)

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    others = re.search(r"more extras: (.*)", README)[1]
    extras = {"gpu", *re.sub(r" \(.*?\)", "", others).split(", ")}
    assert len(extras) > 1
    assert extras <= set(project["optional-dependencies"])


@pytest.mark.parametrize(
    ("name", "file"),
    [
        *((name, f"{name}_fast") for name in ("table1", "table4", "mnist_3d", "gtsrb")),
        ("table5", "table5_views"),
        ("svhn", "house_numbers_in_small_reduced_svhn"),
        ("birds", "birds_in_small_reduced_cub"),
    ],
)
def test_tables_are_the_rendered_ones(name, file):
    shown = README.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0].strip()
    rendered = (ROOT / "results" / "tables" / f"{file}.md").read_text()
    assert shown and rendered.startswith(shown)


def test_the_times_are_the_measured_ones():
    shown = README.split("<!-- speed -->")[1].split("<!-- /speed -->")[0].strip()
    file = ROOT / "results" / "benchmarks" / "amd-epyc-2-cores.json"
    assert shown == benchmarks.summary(json.loads(file.read_text()))
