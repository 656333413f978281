"""Contenders must do the same work, or their times mean nothing."""

import math

import jax
import numpy as np
import optax
import pytest

from configs.distorted_mnist import get_config
from stn_jax import geometry
from stn_jax.launch.digits import make_model
from tests.oracles import import_torch

torch = import_torch()
sampling = pytest.importorskip("stn_jax.benchmarks.sampling")
training = pytest.importorskip("stn_jax.benchmarks.training")
pytorch = pytest.importorskip("stn_jax.benchmarks.pytorch")


def flat(result):
    if isinstance(result, list | tuple):
        return [leaf for part in result for leaf in flat(part)]
    return [result]


@pytest.mark.parametrize("work", sampling.WORK)
def test_samplers_give_the_same_values_and_gradients(work):
    # Not dm_pix, which fades nothing out: within a pixel of the border it differs.
    names = [name for name in sampling.SAMPLERS if name != "dm_pix"]
    names += sampling.TORCH_LAYOUTS
    row = sampling.sampler_row((3, 9, 7, 2), 8, work, names)
    with jax.numpy_rank_promotion("allow"):  # The other samplers rely on it.
        results = {name: build().call() for name, build in row.contenders.items()}
    expected = [np.asarray(leaf) for leaf in jax.tree.leaves(results.pop("stn_jax"))]
    for name, result in results.items():
        if name in sampling.TORCH_LAYOUTS:
            found = [leaf.detach().numpy() for leaf in flat(result)]
            images = [leaf.transpose(0, 2, 3, 1) for leaf in found if leaf.shape[1] == 2]
            found = [*images, *(leaf for leaf in found if leaf.shape[1] != 2)]
        else:
            found = [np.asarray(leaf) for leaf in jax.tree.leaves(result)]
        assert len(found) == len(expected), name
        for a, e in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-3, atol=1e-3, err_msg=name)


def test_dm_pix_gives_the_same_inside_the_image():
    pytest.importorskip("dm_pix")
    rng = np.random.default_rng(0)
    image = rng.normal(size=(3, 9, 7, 2)).astype(np.float32)
    grid = rng.uniform(-0.99, 0.99, size=(3, 8, 8, 2)).astype(np.float32)
    with jax.numpy_rank_promotion("allow"):
        found = sampling.SAMPLERS["dm_pix"](image, grid)
    np.testing.assert_allclose(found, geometry.sample(image, grid), rtol=1e-4, atol=1e-4)


def test_the_bytes_are_those_of_the_arrays():
    image, points, output = 3 * 9 * 7 * 2 * 4, 3 * 8 * 8 * 2 * 4, 3 * 8 * 8 * 2 * 4
    expected = {
        "forward": image + points + output,
        "forward + grid gradient": image + 2 * points + 2 * output,
        "forward + image gradient": 2 * image + points + 2 * output,
        "forward + both gradients": 2 * image + 2 * points + 2 * output,
    }
    for work, count in expected.items():
        row = sampling.sampler_row((3, 9, 7, 2), 8, work, [])
        assert row.facts == {"bytes": count}


def test_a_gpu_is_filled_too(monkeypatch):
    rows = len(list(sampling.sampler_rows()))
    monkeypatch.setattr(sampling.jax, "default_backend", lambda: "gpu")
    cases = {row.case: row.facts["bytes"] for row in sampling.sampler_rows()}
    assert len(cases) == 2 * rows / len(sampling.WORK)
    assert sum(size >= 2**30 for size in cases.values()) == len(cases) / 2
    layouts = {
        row.case: "PyTorch, channels last" in row.contenders for row in sampling.sampler_rows()
    }
    assert layouts["[256, 28, 28, 1]"] is False and layouts["[64, 32, 32, 48]"] is True


@pytest.mark.parametrize("name", pytorch.GRIDS)
def test_grids_are_the_same(name):
    transform = geometry.TRANSFORMS[name]
    noise = np.random.default_rng(0).normal(size=(5, transform.num_params), scale=0.1)
    theta = (transform.identity + noise).astype(np.float32)
    theirs = pytorch.GRIDS[name](11)(torch.tensor(theta)).numpy()
    np.testing.assert_allclose(theirs, transform.grid(theta, (11, 11)), rtol=1e-4, atol=1e-5)


# Names in a tree of our parameters, as inputs meet them.
ORDER = ["transformer", "localisation", "conv1", "conv2", "hidden", "0", "1", "2"]
ORDER += ["hidden1", "hidden2", "regression", "classifier", "kernel", "bias"]


def in_pytorchs_order(params):
    """Return a network's weights as PyTorch orders and lays them out."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    leaves.sort(key=lambda leaf: [ORDER.index(str(key.key)) for key in leaf[0]])
    result, filters = [], None
    for leaf in (np.asarray(leaf) for _, leaf in leaves):
        if leaf.ndim == 4:
            filters = leaf.shape[-1]
            leaf = leaf.transpose(3, 2, 0, 1)
        elif leaf.ndim == 2:
            if filters:  # Maps are flattened as [H, W, C] here, as [C, H, W] there.
                side = math.isqrt(len(leaf) // filters)
                maps = leaf.reshape(side, side, filters, -1)
                leaf, filters = maps.transpose(2, 0, 1, 3).reshape(leaf.shape), None
            leaf = leaf.T
        result.append(leaf)
    return result


@pytest.mark.parametrize("selection", training.MODELS)
def test_networks_are_the_same(selection):
    config = get_config(f"R,{selection}")
    config.model.num_params = 50_000
    model, rng = make_model(config), np.random.default_rng(0)
    images, labels = rng.random((3, 28, 28, 1)), np.array([1, 0, 7])

    def loss_and_logits(params):
        (logits, _), _ = model.apply(params, state, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

    params, state = jax.eval_shape(model.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape, scale=0.05), params)
    if "transformer" in params:
        regression = params["transformer"]["regression"]
        regression["bias"] += geometry.get_transform(config.model.transform).identity
    # In double precision: rounding decides no maximum, and no pixel that a point falls into.
    with jax.enable_x64(True):
        gradients, logits = jax.jit(jax.grad(loss_and_logits, has_aux=True))(params)
    assert logits.dtype == np.float64
    theirs = training.torch_network(config).double()
    parameters, weights = list(theirs.parameters()), in_pytorchs_order(params)
    assert [tuple(p.shape) for p in parameters] == [w.shape for w in weights]
    with torch.no_grad():
        for parameter, weight in zip(parameters, weights, strict=True):
            parameter.copy_(torch.tensor(weight.copy()))
    their_logits = theirs(torch.tensor(images.transpose(0, 3, 1, 2)))
    torch.nn.functional.cross_entropy(their_logits, torch.tensor(labels)).backward()
    np.testing.assert_allclose(their_logits.detach(), logits, rtol=1e-5, atol=1e-5)
    for parameter, gradient in zip(parameters, in_pytorchs_order(gradients), strict=True):
        scale = np.abs(gradient).max()
        assert scale > 0
        np.testing.assert_allclose(parameter.grad, gradient, atol=1e-3 * scale)


def test_pytorchs_step_trains():
    config = get_config("R,ST-FCN,TPS,quickstart")
    labels = np.arange(100) % 10
    digits = np.broadcast_to(25 * labels[:, None, None, None], (100, 28, 28, 1)).astype(np.uint8)
    torch.manual_seed(0)  # its weights and batches
    step = pytorch.training_step(training.torch_network(config), digits, labels, batch_size=64)
    losses = [float(step()) for _ in range(150)]
    assert np.mean(losses[-5:]) < losses[0] - 0.2
