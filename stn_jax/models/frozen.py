"""Models some of whose parameters are not trained."""

from collections.abc import Collection
from typing import Any

import jax

from stn_jax.models.pure import Model, Variables

FROZEN = "frozen"  # the part of the model's state that holds them


def freeze(model: Model, names: Collection[str]) -> Model:
    """Return a model whose parameters below some names are part of its state.

    They have no gradient, which spares computing it, and no place in the optimiser.

    Args:
      model: whose state has no part `FROZEN`.
      names: of modules or parameters, anywhere on the path.

    Raises:
      ValueError: at init, if a name is on no parameter's path.
    """

    def init(key: jax.Array) -> tuple[Variables, Variables]:
        params, state = model.init(key)
        if unknown := set(names) - set(_names(params)):
            raise ValueError(
                f"no parameters below {', '.join(sorted(unknown))} to freeze; there are "
                f"{', '.join(dict.fromkeys(_names(params)))}."
            )
        trained, frozen = _divide(params, names)
        return trained, {**state, FROZEN: frozen}

    def apply(
        params: Variables, state: Variables, *inputs: Any, **options: Any
    ) -> tuple[Any, Variables]:
        frozen = state[FROZEN]
        others = {name: part for name, part in state.items() if name != FROZEN}
        outputs, others = model.apply(_join(params, frozen), others, *inputs, **options)
        return outputs, {**others, FROZEN: frozen}

    return Model(init, apply)


def _names(tree: Variables) -> list[str]:
    inner = [_names(part) for part in tree.values() if isinstance(part, dict)]
    return [*tree, *(name for names in inner for name in names)]


def _divide(tree: Variables, names: Collection[str]) -> tuple[Variables, Variables]:
    """Return what lies below none of the names, and what does; without empty parts."""
    kept: Variables = {}
    taken: Variables = {}
    for name, part in tree.items():
        if name in names:
            taken[name] = part
        elif isinstance(part, dict):
            for result, some in zip((kept, taken), _divide(part, names), strict=True):
                if some:
                    result[name] = some
        else:
            kept[name] = part
    return kept, taken


def _join(one: Variables, other: Variables) -> Variables:
    """Return both parts of a tree as one; no leaf is in both."""
    result = dict(one)
    for name, part in other.items():
        result[name] = _join(one[name], part) if name in one else part
    return result
