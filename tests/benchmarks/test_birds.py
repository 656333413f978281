"""What is counted and timed of the networks of birds (B19)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.birds import get_config
from stn_jax.benchmarks import birds
from stn_jax.benchmarks.cost import step_cost
from stn_jax.reporting import benchmarks as reporting


def small(selection, crop=64):
    config = get_config(selection)
    config.data.crop, config.model.last, config.model.num_classes = crop, "pool_2", 3
    config.model.crop_size = config.model.localiser_size = 32
    return config


def test_all_of_the_gradient_is_computed():
    contender = birds.forward_and_backward(small("2xST-CNN,448px"), 2)
    (loss, (_, metrics)), gradient = contender.wait(contender.call())
    assert np.isfinite(loss) and set(metrics) == {"error"}
    assert set(gradient) == {"localisation", "streams", "classifier"}
    for part in (*gradient["streams"].values(), gradient["localisation"]["regression"]):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(part))
        assert any(jnp.any(leaf != 0) for leaf in jax.tree.leaves(part))


def test_larger_images_cost_no_more_but_transformers_do():
    """B19: crops and localiser see the same number of pixels."""
    two, large, four = (
        step_cost(small(selection, crop), 2)["flops"]
        for selection, crop in (("2xST-CNN", 32), ("2xST-CNN", 64), ("4xST-CNN", 64))
    )
    assert large == pytest.approx(two, rel=0.01)
    # Five Inception networks instead of three.
    assert four / large == pytest.approx(5 / 3, rel=0.1)


def test_rows_have_the_networks_of_table_3(monkeypatch):
    seen = []
    monkeypatch.setattr(birds, "forward_and_backward", lambda *args: seen.append(args))
    monkeypatch.setattr(birds, "step_cost", lambda config, n: {"flops": 8e9 * config.data.crop})
    (row,) = birds.birds_rows(get_config)
    for build in row.contenders.values():
        build()
    assert [(c.data.crop, c.model.num_transformers, n) for c, n in seen] == [
        *((224, 0, 2), (224, 2, 2), (448, 2, 2), (448, 4, 2))
    ]
    times = {"low": 0.1, "high": 0.1, "first": 2.0, "rounds": 5}
    seconds = zip(row.contenders, (0.1, 0.3, 0.31, 0.5), strict=True)
    contenders = {name: {"seconds": value, **times} for name, value in seconds}
    environment = {
        "code": "0123456789ab",
        "packages": {"jax": "1.2"},
        "device": {"platform": "gpu", "kind": "X1", "cpu": "Y2", "cores": 3},
    }
    row = {"case": row.case, "work": row.work, "facts": row.facts, "contenders": contenders}
    report = {"birds": {"environment": environment, "time": "2026-01-02", "rows": [row]}}
    text = " ".join(reporting.markdown(report).split())
    assert "| 2xST-CNN 448px | 310 (100 to 100) | 3.10 | 448.0 | 2.00 |" in text
