"""Pre-trained weights of Inception networks as one file, and networks that start from them.

The file is an uncompressed npz archive: an array for each parameter and statistic, under the name
that it has here ("blocks/mixed_3b/3x3/kernel"), and "header", a JSON text. `public_weights` makes
it out of what others published.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zipfile import BadZipFile

import jax
import jax.numpy as jnp
import numpy as np

from stn_jax.models.inception import Inception
from stn_jax.models.pure import Variables, functional

HEADER = "header"
NUM_CLASSES = 1000  # of ImageNet


class WeightsError(ValueError):
    """Weights do not fit a network."""


@dataclass(frozen=True)
class Weights:
    """Weights of one architecture.

    Attributes:
      header: what they are: "architecture", a name in `inception.ARCHITECTURES`; "source", "file"
        and "sha256" of what they were made from; "missing", names of tensors that it lacked; and
        "preprocessing", for readers only: `inception.as_input` does it.
      tensors: arrays by name, floating point.
    """

    header: dict[str, Any]
    tensors: dict[str, np.ndarray]


def save_weights(path: str | Path, weights: Weights) -> None:
    """Write weights; only a whole file gets its name."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        np.savez(file, **{HEADER: np.array(json.dumps(weights.header))}, **weights.tensors)
    part.replace(path)


def load_weights(path: str | Path) -> Weights:
    """Read what `save_weights` wrote.

    Raises:
      WeightsError: if it is another file.
      OSError: if it cannot be read.
    """
    try:
        with Path(path).open("rb") as file, np.load(file) as archive:
            arrays = {name: archive[name] for name in archive.files}
            header = json.loads(str(arrays.pop(HEADER)))
    except (ValueError, KeyError, EOFError, AttributeError, BadZipFile) as error:
        raise WeightsError(
            f"{path} is no file of weights; scripts/convert_weights.py makes one."
        ) from error
    return Weights(header, arrays)


@cache
def expected_shapes(architecture: str) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of all parameters and statistics of a whole network, by name."""
    model = functional(lambda rngs: Inception(architecture, num_classes=NUM_CLASSES, rngs=rngs))
    params, state = jax.eval_shape(model.init, jax.random.key(0))
    leaves = _flat(params) | _flat(state)
    return MappingProxyType({name: leaf.shape for name, leaf in leaves.items()})


def with_pretrained(
    params: Variables,
    state: Variables,
    weights: Weights,
    *,
    architecture: str,
) -> tuple[Variables, Variables]:
    """Put weights into every Inception network that a model contains.

    Args:
      params: the model's, as its `init` gives them.
      state: likewise.
      weights: with layers enough for those networks; what else the file has is not used.
      architecture: of those networks.

    Returns:
      New params and state.

    Raises:
      WeightsError: naming what is missing, what no such network has, and what has another shape;
        or if the weights are of another architecture, or the model contains none.
    """
    if weights.header["architecture"] != architecture:
        raise WeightsError(
            f"the weights are of {weights.header['architecture']}, the network is {architecture}."
        )
    places = _networks(params)
    if not places:
        raise WeightsError("the model contains no Inception network to put weights into.")
    needed: dict[str, jax.Array] = {}
    for place in places:
        for tree in (params, state):
            needed |= _flat(_at(tree, place))
    missing = sorted(set(needed) - set(weights.tensors))
    unexpected = set(weights.tensors) - set(expected_shapes(architecture))
    shapes = [
        f"{name} {weights.tensors[name].shape} for {leaf.shape}"
        for name, leaf in needed.items()
        if name in weights.tensors and weights.tensors[name].shape != leaf.shape
    ]
    raise_misfits(missing, sorted(unexpected), shapes)
    arrays = {name: jnp.asarray(weights.tensors[name], leaf.dtype) for name, leaf in needed.items()}

    def fill(path: tuple, leaf: jax.Array) -> jax.Array:
        names = tuple(entry.key for entry in path)
        for place in places:
            name = "/".join(names[len(place) :])
            if names[: len(place)] == place:
                return arrays[name]
        return leaf

    return tuple(jax.tree_util.tree_map_with_path(fill, tree) for tree in (params, state))


def raise_misfits(missing: list[str], unexpected: list[str], shapes: list[str]) -> None:
    """Raise one error that names all that does not fit.

    Raises:
      WeightsError: unless the lists are empty.
    """
    parts = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    if any(parts.values()):
        found = (
            f"{len(names)} {kind}: {', '.join(names)}" for kind, names in parts.items() if names
        )
        raise WeightsError(f"the weights do not fit the network: {'; '.join(found)}.")


def _networks(params: Variables, place: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the paths of the subtrees that are Inception networks: those with "blocks"."""
    if "blocks" in params:
        return [place]
    parts = {name: part for name, part in params.items() if isinstance(part, dict)}
    return [found for name, part in parts.items() for found in _networks(part, (*place, name))]


def _at(tree: Variables, place: tuple[str, ...]) -> Variables:
    """Return the subtree at a path; {} where there is none, as networks without statistics."""
    for name in place:
        tree = tree.get(name, {})
    return tree


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(entry.key for entry in path): leaf for path, leaf in leaves}
