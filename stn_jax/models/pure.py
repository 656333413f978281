"""Flax NNX models as pure functions over plain dicts: all that the rest of the code sees."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import nnx

Variables = dict[str, Any]


class Model(NamedTuple):
    """A network as two pure functions; safe under jit, grad, vmap over seeds and scan.

    Attributes:
      init: function of a PRNG key, giving (params, state): nested dicts of arrays; state holds
        what is not trained (batch statistics), {} where there is none.
      apply: function of (params, state, *inputs, train=False, key=None), giving (outputs, state).
        `train` switches dropout and batch statistics on; `key` feeds dropout.
    """

    init: Callable[[jax.Array], tuple[Variables, Variables]]
    apply: Callable[..., tuple[Any, Variables]]


def functional(build: Callable[[nnx.Rngs], nnx.Module]) -> Model:
    """Turn a function that builds an NNX module into a pure init / apply pair.

    Args:
      build: function of the random streams, giving the module. The module's call takes the
        inputs and, where it uses dropout, `rngs`.

    Returns:
      The `Model`.
    """
    # The structure, without any arrays; computed once, abstractly.
    abstract = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
    graph, _, _ = nnx.split(abstract, nnx.Param, ...)
    uses_rngs = "rngs" in inspect.signature(type(abstract).__call__).parameters

    def init(key: jax.Array) -> tuple[Variables, Variables]:
        _, params, state = nnx.split(build(nnx.Rngs(key)), nnx.Param, ...)
        return _to_dict(params), _to_dict(state)

    def apply(
        params: Variables,
        state: Variables,
        *inputs: Any,
        train: bool = False,
        key: jax.Array | None = None,
    ) -> tuple[Any, Variables]:
        variables = (nnx.restore_int_paths(tree) for tree in (params, state))
        module = nnx.merge(graph, *map(nnx.State, variables), copy=True)
        module.train() if train else module.eval()
        rngs = {"rngs": nnx.Rngs(dropout=key)} if uses_rngs and key is not None else {}
        outputs = module(*inputs, **rngs)
        _, _, state = nnx.split(module, nnx.Param, ...)
        return outputs, _to_dict(state)

    return Model(init, apply)


def _to_dict(state: nnx.State) -> Variables:
    """Return nested dicts with string keys only: list positions become "0", "1", ..."""
    flat = nnx.to_flat_state(state)
    result: Variables = {}
    for path, leaf in flat:
        *parents, last = map(str, path)
        node = result
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = leaf[...]
    return result


def count_params(params: Variables) -> int:
    """Return the number of trainable scalars in a tree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
