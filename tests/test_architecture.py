"""Imports point one way, and heavy packages are imported only where they are used."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("stn_jax", "configs", "experiments", "scripts", "tests")

# Folder -> the project's own packages that its files may import.
MAY_IMPORT = {
    "stn_jax/geometry": ("stn_jax.geometry",),
    "stn_jax/models": ("stn_jax.geometry", "stn_jax.models"),
    "stn_jax/data": ("stn_jax.geometry", "stn_jax.data"),
    "stn_jax/training": ("stn_jax.training",),
    "stn_jax/reporting": ("stn_jax.reporting",),
    "stn_jax": ("stn_jax",),
    # These two import nothing.
    "configs": ("stn_jax.launch.expand", "stn_jax.launch.selections"),
    "scripts": ("stn_jax", "configs", "scripts"),
    "experiments": ("stn_jax", "configs", "experiments"),
    "tests": FOLDERS,
}

# Folder -> packages of others that its files may not import, not even inside a function.
MAY_NOT_IMPORT = {
    "stn_jax/geometry": ("flax",),
    "stn_jax/data": ("flax",),
    "stn_jax/training": ("flax",),
    "stn_jax/reporting": ("flax", "jax", "jaxlib", "optax", "orbax"),
    "": ("tensorflow",),
}

# Slow to import or not needed by most users: inside functions only.
HEAVY = ("tensorflow_datasets", "grain", "matplotlib")


def within(name: str, packages: tuple[str, ...]) -> bool:
    """Tell whether a dotted name is one of the packages or lies in one."""
    return any(name == package or name.startswith(package + ".") for package in packages)


def imports(path: str, source: str) -> Iterator[tuple[str, bool]]:
    """Yield each imported dotted name of a file, and whether importing the file runs the import."""
    package = path.removesuffix(".py").split("/")[:-1]

    def walk(node: ast.AST, at_import: bool) -> Iterator[tuple[str, bool]]:
        match node:
            case ast.Import():
                yield from ((alias.name, at_import) for alias in node.names)
            case ast.ImportFrom():
                base = package[: len(package) - node.level + 1] if node.level else []
                base = base + (node.module.split(".") if node.module else [])
                yield from ((".".join([*base, alias.name]), at_import) for alias in node.names)
            case ast.Call(
                func=ast.Name(id=function) | ast.Attribute(attr=function),
                args=[ast.Constant(value=str(name)), *_],
            ) if function in ("import_module", "__import__", "importorskip"):
                yield name, at_import
        deferred = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, at_import and not deferred)

    return walk(ast.parse(source), True)


def violations(path: str, source: str) -> list[str]:
    """Name the imports of a file that break a rule; path is relative to the repository."""
    # The longest folder that holds the file decides, so stn_jax/geometry goes before stn_jax.
    folder = max((f for f in MAY_IMPORT if path.startswith(f + "/")), key=len)
    found = []
    for name, at_import in imports(path, source):
        own = within(name, FOLDERS)
        if own and not within(name, MAY_IMPORT[folder]):
            found.append(f"{path}: {folder} may not import {name}")
        if folder == "configs" and not (
            own or within(name, ("ml_collections", *sys.stdlib_module_names))
        ):
            found.append(f"{path}: of others, configs import only ml_collections, not {name}")
        for place, packages in MAY_NOT_IMPORT.items():
            if path.startswith(place) and within(name, packages):
                found.append(f"{path}: may not import {name}")
        if path.startswith("stn_jax/") and at_import and within(name, HEAVY):
            found.append(f"{path}: import {name} inside the function that uses it")
    return found


def sources(folder: str) -> dict[str, str]:
    """Return the files of a folder of the repository, by relative path."""
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_point_one_way(folder):
    found = [line for item in sources(folder).items() for line in violations(*item)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_every_folder_with_rules_has_files_with_imports(folder):
    assert any(list(imports(*item)) for item in sources(folder).items())


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("stn_jax/geometry/a.py", "from stn_jax.models import mnist"),
        ("stn_jax/geometry/a.py", "from stn_jax import models"),
        ("stn_jax/geometry/a.py", "from ..models import mnist"),
        ("stn_jax/geometry/a.py", "from .. import models"),
        ("stn_jax/geometry/a.py", "import stn_jax"),
        ("stn_jax/geometry/a.py", "def f():\n    from flax import nnx"),
        ("stn_jax/models/a.py", "import stn_jax.data.mnist as mnist"),
        ("stn_jax/data/a.py", "try:\n    import stn_jax.models\nexcept ImportError:\n    pass"),
        ("stn_jax/data/a.py", "import tensorflow_datasets as tfds"),
        ("stn_jax/data/a.py", "if True:\n    import grain.python"),
        ("stn_jax/training/a.py", "from stn_jax.geometry.affine import grid"),
        ("stn_jax/training/a.py", "from experiments.mnist import main"),
        ("stn_jax/reporting/a.py", "import jax.numpy as jnp"),
        ("stn_jax/reporting/a.py", "from stn_jax.training import records"),
        ("stn_jax/reporting/a.py", "class A:\n    import matplotlib.pyplot"),
        ("stn_jax/a.py", "import experiments"),
        ("configs/a.py", "import numpy as np"),
        ("configs/a.py", "from stn_jax import geometry"),
        ("configs/a.py", "from stn_jax.launch import sweep"),
        ("scripts/a.py", "import experiments.mnist"),
        ("scripts/a.py", "def f():\n    import tensorflow as tf"),
        ("tests/a.py", "pytest.importorskip('tensorflow.io')"),
        ("experiments/a.py", "from importlib import import_module\nimport_module('tensorflow')"),
    ],
)
def test_breaking_a_rule_is_found(path, source):
    assert len(violations(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("stn_jax/geometry/a.py", "import jax\nfrom stn_jax.geometry import affine"),
        ("stn_jax/geometry/b/a.py", "from ..affine import grid"),
        ("stn_jax/models/a.py", "from flax import nnx\nfrom stn_jax.geometry import affine"),
        ("stn_jax/data/a.py", "def f():\n    import tensorflow_datasets, grain"),
        ("stn_jax/reporting/a.py", "import json\nf = lambda: __import__('matplotlib.pyplot')"),
        ("configs/a.py", "import itertools\nfrom ml_collections import config_dict"),
        ("configs/a.py", "from stn_jax.launch.selections import parse"),
        ("configs/a.py", "from stn_jax.launch.expand import grid, seeds"),
        ("experiments/a.py", "from stn_jax.models import mnist\nfrom configs import addition"),
        ("tests/a.py", "from experiments import mnist\nimport torch"),
    ],
)
def test_allowed_imports_pass(path, source):
    assert violations(path, source) == []
