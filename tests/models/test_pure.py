import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from stn_jax.models.pure import count_params, functional


class Plain(nnx.Module):
    def __init__(self, *, rngs):
        self.layer = nnx.Linear(3, 3, rngs=rngs)
        self.factor = 2.0

    def __call__(self, x):
        return self.factor * jnp.tanh(self.layer(x))


class Shift(nnx.Module):
    def __init__(self, by):
        self.by = nnx.Param(jnp.full(3, by))

    def __call__(self, x):
        return x / 2 + self.by[None]


class Listed(nnx.Module):
    """More than ten layers, whose order must survive the string keys."""

    def __init__(self, *, rngs):
        self.layers = nnx.List([Shift(float(i)) for i in range(12)])

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class Dropping(nnx.Module):
    def __init__(self, *, rate=0.25, rngs):
        self.layer = nnx.Linear(4, 4, rngs=rngs)
        self.dropout = nnx.Dropout(rate)

    def __call__(self, x, *, rngs=None):
        return self.dropout(self.layer(x), rngs=rngs)


class Normed(nnx.Module):
    def __init__(self, *, rngs):
        self.layer = nnx.Linear(3, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, momentum=0.75, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.layer(x))


class NormedAndDropping(nnx.Module):
    def __init__(self, *, rngs):
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.blocks = nnx.List([Dropping(rngs=rngs) for _ in range(2)])

    def __call__(self, x, *, rngs=None):
        x = self.norm(x)
        for block in self.blocks:
            x = block(x, rngs=rngs)
        return x


class Tied(nnx.Module):
    """One layer in two places."""

    def __init__(self, *, rngs):
        self.first = nnx.Linear(3, 3, rngs=rngs)
        self.second = self.first

    def __call__(self, x, y):
        return self.first(x) - self.second(y), {"x": x}


def make(module, **options):
    model = functional(lambda rngs: module(rngs=rngs, **options))
    return model, *jax.jit(model.init)(jax.random.key(0))


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def assert_plain(tree):
    """Nested dicts with string keys, and arrays: nothing of Flax."""
    assert type(tree) is dict
    for key, value in tree.items():
        assert type(key) is str
        if isinstance(value, dict):
            assert_plain(value)
        else:
            assert isinstance(value, jax.Array)


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_close(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b)


@pytest.mark.parametrize("module", [Plain, Listed, NormedAndDropping])
def test_variables_are_plain_dicts(module):
    _, params, state = make(module)
    assert_plain(params)
    assert_plain(state)
    assert bool(state) == (module is NormedAndDropping)


def test_names_and_shapes():
    _, params, state = make(Normed)
    assert jax.tree.map(jnp.shape, params) == {
        "layer": {"kernel": (3, 5), "bias": (5,)},
        "norm": {"scale": (5,), "bias": (5,)},
    }
    assert jax.tree.map(jnp.shape, state) == {"norm": {"mean": (5,), "var": (5,)}}


def test_lists_have_their_positions_as_names_and_keep_their_order():
    model, params, state = make(Listed)
    expected = {"layers": {str(i): {"by": np.full(3, i)} for i in range(12)}}
    assert_equal(params, expected)
    x = draw(5, 3)
    outputs, _ = jax.jit(model.apply)(params, state, x)
    expected = x
    for i in range(12):
        expected = expected / 2 + i
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)


def test_shared_layers_are_stored_once():
    model, params, state = make(Tied)
    assert count_params(params) == 12
    x = draw(2, 3)
    (difference, auxiliary), _ = model.apply(params, state, x, x)
    np.testing.assert_array_equal(difference, np.zeros((2, 3)))
    np.testing.assert_array_equal(auxiliary["x"], x)


def test_equals_the_module_itself():
    model, params, state = make(Plain)
    x = draw(5, 3)
    expected = Plain(rngs=nnx.Rngs(jax.random.key(0)))(x)
    outputs, state = jax.jit(model.apply)(params, state, x)
    assert state == {}
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


def test_gradient_is_that_of_the_parameters():
    model, params, state = make(Plain)
    x = draw(5, 3)

    def loss(params):
        return jnp.sum(model.apply(params, state, x)[0])

    gradient = jax.jit(jax.grad(loss))(params)
    assert jax.tree.structure(gradient) == jax.tree.structure(params)
    kernel, bias = (np.asarray(params["layer"][k]) for k in ("kernel", "bias"))
    slope = 2 * (1 - np.tanh(x @ kernel + bias) ** 2)
    expected = {"layer": {"kernel": x.T @ slope, "bias": slope.sum(0)}}
    assert_close(gradient, expected)


def test_seeds_of_a_vmapped_init_are_those_alone():
    model = functional(lambda rngs: Normed(rngs=rngs))
    keys = jax.random.split(jax.random.key(7), 3)
    together = jax.jit(jax.vmap(model.init))(keys)
    init = jax.jit(model.init)
    for i, key in enumerate(keys):
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], together), init(key))
    kernel = together[0]["layer"]["kernel"]
    assert np.abs(kernel[0] - kernel[1]).min() > 0


def test_seeds_of_a_vmapped_apply_are_those_alone():
    model = functional(lambda rngs: NormedAndDropping(rngs=rngs))
    keys = jax.random.split(jax.random.key(7), 3)
    params, state = jax.jit(jax.vmap(model.init))(keys)
    x = draw(6, 4)

    def train(params, state, key):
        return model.apply(params, state, x, train=True, key=key)

    together = jax.jit(jax.vmap(train))(params, state, keys)
    alone = jax.jit(train)
    for i, key in enumerate(keys):
        params_i, state_i, together_i = jax.tree.map(
            lambda leaf, i=i: leaf[i], (params, state, together)
        )
        assert_close(together_i, alone(params_i, state_i, key))


def test_dropout_is_for_training_and_decided_by_the_key():
    model, params, state = make(Dropping)
    x = draw(500, 4)
    dense = x @ np.asarray(params["layer"]["kernel"])

    @jax.jit
    def train(seed):
        return model.apply(params, state, x, train=True, key=jax.random.key(seed))[0]

    evaluated, _ = jax.jit(model.apply)(params, state, x)
    np.testing.assert_allclose(evaluated, dense, rtol=1e-5, atol=1e-5)
    with_key, _ = model.apply(params, state, x, key=jax.random.key(0))
    np.testing.assert_allclose(with_key, evaluated, rtol=1e-5, atol=1e-5)

    first = np.asarray(train(0))
    kept = first != 0
    assert 0.7 < kept.mean() < 0.8
    np.testing.assert_allclose(first[kept], dense[kept] / 0.75, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(first, train(0))
    assert (kept != (np.asarray(train(1)) != 0)).mean() > 0.2


def test_dropout_in_training_without_a_key_is_an_error():
    model, params, state = make(Dropping)
    with pytest.raises(ValueError, match="rngs"):
        model.apply(params, state, draw(2, 4), train=True)


def test_batch_statistics_change_in_training_only():
    model, params, state = make(Normed)
    x = 3 + draw(50, 3)
    hidden = x @ np.asarray(params["layer"]["kernel"])
    mean, variance = hidden.mean(0), hidden.var(0)

    before = jax.tree.map(np.array, state)
    outputs, trained = model.apply(params, state, x, train=True)
    np.testing.assert_allclose(outputs, (hidden - mean) / np.sqrt(variance + 1e-5), atol=1e-4)
    expected = {"norm": {"mean": 0.25 * mean, "var": 0.75 + 0.25 * variance}}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), trained, expected)
    assert_equal(state, before)  # the caller's state is as it was

    outputs, evaluated = model.apply(params, trained, x)
    running = expected["norm"]
    expected_outputs = (hidden - running["mean"]) / np.sqrt(running["var"] + 1e-5)
    np.testing.assert_allclose(outputs, expected_outputs, rtol=1e-3, atol=1e-4)
    assert_equal(evaluated, trained)


def test_calls_leave_nothing_behind():
    """Training in between, under transformations, does not change what a call gives."""
    model, params, state = make(NormedAndDropping)
    x = draw(6, 4)

    def loss(params, state, key):
        outputs, state = model.apply(params, state, x, train=True, key=key)
        return jnp.sum(outputs**2), state

    first = jax.jit(model.apply)(params, state, x)
    jax.jit(jax.grad(loss, has_aux=True))(params, state, jax.random.key(1))
    keys = jax.random.split(jax.random.key(2))
    jax.jit(jax.vmap(loss, (None, None, 0)))(params, state, keys)
    assert_equal(jax.jit(model.apply)(params, state, x), first)
    assert_close(model.apply(params, state, x), first)
    again = functional(lambda rngs: NormedAndDropping(rngs=rngs))
    assert_equal(jax.jit(again.apply)(params, state, x), first)


def test_train_and_eval_do_not_stick():
    model, params, state = make(Dropping, rate=0.5)
    x = draw(20, 4)
    evaluated = model.apply(params, state, x)
    trained = model.apply(params, state, x, train=True, key=jax.random.key(0))
    assert (np.asarray(trained[0]) == 0).any()
    assert_equal(model.apply(params, state, x), evaluated)


def test_training_steps_in_a_scan_are_those_of_a_loop():
    model, params, state = make(NormedAndDropping)
    batches = 2 + draw(5, 8, 4)
    keys = jax.random.split(jax.random.key(3), 5)

    def step(carry, inputs):
        params, state = carry
        x, key = inputs

        def loss(params):
            outputs, new = model.apply(params, state, x, train=True, key=key)
            return jnp.mean((outputs - 1) ** 2), new

        (value, state), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
        return (params, state), value

    (scanned, losses) = jax.jit(lambda c: lax.scan(step, c, (batches, keys)))((params, state))
    carry, one_step = (params, state), jax.jit(step)
    for i in range(5):
        carry, value = one_step(carry, (batches[i], keys[i]))
        np.testing.assert_allclose(losses[i], value, rtol=1e-4)
    assert_close(scanned, carry)
    assert np.abs(carry[1]["norm"]["mean"]).min() > 0.05


def test_builds_no_arrays_before_init():
    seen = []

    def build(rngs):
        module = nnx.Linear(2, 3, rngs=rngs)
        seen.append(isinstance(module.kernel[...], jax.core.Tracer))
        return module

    model = functional(build)
    assert seen == [True]
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    assert count_params(params) == 9 and seen == [True, True]


def test_counts_arrays_and_shapes():
    tree = {"a": np.zeros((3, 4)), "b": {"c": jax.ShapeDtypeStruct((5,), np.float32)}}
    assert count_params(tree) == 17
    assert count_params({}) == 0
