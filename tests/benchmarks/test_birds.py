"""What is counted and timed of the networks of birds (B19)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.birds import get_config
from scripts import show_cost
from stn_jax.benchmarks import birds
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
        birds.step_cost(small(selection, crop), 2)["flops"]
        for selection, crop in (("2xST-CNN", 32), ("2xST-CNN", 64), ("4xST-CNN", 64))
    )
    assert large == pytest.approx(two, rel=0.01)
    # Five Inception networks instead of three.
    assert four / large == pytest.approx(5 / 3, rel=0.1)


def test_memory_of_a_compiled_step():
    cost = birds.step_cost(small("CNN", 32), 2, compiled=True)
    # At least parameters and momentum; at least the first convolution's maps of two images.
    assert cost["arguments"] > 2 * 4 * cost["parameters"]
    assert cost["temporary"] > 2 * 16 * 16 * 64 * 4


def test_rows_have_the_networks_of_table_3(monkeypatch):
    seen = []
    monkeypatch.setattr(birds, "forward_and_backward", lambda *args: seen.append(args))
    monkeypatch.setattr(birds, "step_cost", lambda config, n: {"flops": 8e9 * config.data.crop})
    (row,) = birds.birds_rows(get_config)
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


def test_show_cost(monkeypatch, capsys):
    cost = {"parameters": 1234, "flops": 64e9, "arguments": 2**30, "temporary": 3 * 2**29}
    seen = []

    def step_cost(config, batch_size, *, compiled):
        seen.append((config.model.dtype, config.runtime.remat, compiled))
        return cost

    monkeypatch.setattr(show_cost, "step_cost", step_cost)
    show_cost.main(["configs/birds.py:CNN", "--batch-size", "32"])
    text = " ".join(capsys.readouterr().out.split())
    assert text == (
        "birds-CNN-224px-paper-seed0 parameters 1,234 images in a step 32 GFLOP a step 64.0 "
        "GFLOP an image 2.0 arguments, GiB 1.00 temporary, GiB 1.50"
    )
    changes = ["--config.model.dtype=bfloat16", "--config.runtime.remat=True"]
    show_cost.main(["configs/birds.py:CNN", "--compile", "--", *changes])
    assert seen == [("float32", False, False), ("bfloat16", True, True)]
    for words, message in (
        (["configs/svhn.py"], "configs/svhn.py is not configs/birds.py"),
        (["configs/birds.py", "--", "--config.model.dype=bfloat16"], "dype"),
    ):
        with pytest.raises(SystemExit):
            show_cost.main(words)
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
