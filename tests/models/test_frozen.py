"""Models that are trained in part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from stn_jax.models.frozen import freeze
from stn_jax.models.pure import functional


class Two(nnx.Module):
    """Two blocks of a layer each, and statistics."""

    def __init__(self, rngs):
        self.first = nnx.Dict({"a": nnx.Linear(2, 3, rngs=rngs), "b": nnx.Linear(3, 3, rngs=rngs)})
        self.second = nnx.Dict({"a": nnx.Linear(3, 1, rngs=rngs)})
        self.count = nnx.BatchStat(jnp.zeros(()))

    def __call__(self, x):
        self.count[...] += 1
        return self.second["a"](self.first["b"](self.first["a"](x)))


@pytest.mark.parametrize(
    ("names", "trained"),
    [
        (("first",), {"second": {"a"}}),
        (("a",), {"first": {"b"}}),
        (("b", "second"), {"first": {"a"}}),
    ],
)
def test_what_lies_below_a_name_becomes_state(names, trained):
    model = functional(Two)
    partly = freeze(model, names)
    params, state = partly.init(jax.random.key(0))
    assert {name: set(part) for name, part in params.items()} == trained
    whole, plain = model.init(jax.random.key(0))
    x = jnp.array([[1.0, 2.0]])
    for _ in range(2):
        expected, plain = model.apply(whole, plain, x)
        found, state = partly.apply(params, state, x)
        np.testing.assert_array_equal(found, expected)
    assert state["count"] == plain["count"] == 2
    leaves = len(jax.tree.leaves(params)) + len(jax.tree.leaves(state["frozen"]))
    assert leaves == len(jax.tree.leaves(whole)) == 6


def test_gradients_pass_through_what_is_frozen():
    partly = freeze(functional(Two), ("second", "b"))
    params, state = partly.init(jax.random.key(0))
    x = jnp.array([[1.0, 2.0]])
    gradient = jax.grad(lambda p: jnp.sum(partly.apply(p, state, x)[0]))(params)
    frozen = state["frozen"]
    behind = frozen["first"]["b"]["kernel"] @ frozen["second"]["a"]["kernel"]
    np.testing.assert_allclose(gradient["first"]["a"]["kernel"], x.T @ behind.T, rtol=1e-5)
    assert set(gradient) == {"first"}


def test_names_that_there_are_not():
    partly = freeze(functional(Two), ("a", "third"))
    with pytest.raises(
        ValueError, match="no parameters below third to freeze; there are first, second, a,"
    ):
        partly.init(jax.random.key(0))
