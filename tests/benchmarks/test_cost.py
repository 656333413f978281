"""What is counted, compiled and timed of whole training steps."""

import math

import numpy as np
import pytest

from configs import birds, gtsrb, svhn
from scripts import show_cost
from stn_jax.benchmarks.cost import step_cost, svhn_training
from stn_jax.models.svhn import LAYERS


def small_birds():
    config = birds.get_config("CNN,448px")
    config.data.crop, config.model.last, config.model.num_classes = 32, "pool_2", 3
    return config


def small_numbers(width=0.2):
    config = svhn.get_config("CNN,64px")
    config.data.canvas, config.model.width = 16, width
    return config


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(small_birds(), id="birds"),
        pytest.param(small_numbers(), id="numbers", marks=pytest.mark.slow),
    ],
)
def test_memory_of_a_compiled_step(config):
    few, many = (step_cost(config, size, compiled=True) for size in (2, 8))
    # At least parameters and momentum.
    assert few["arguments"] > 2 * 4 * few["parameters"]
    assert many["temporary"] > few["temporary"] > 0
    assert many["flops"] > 3 * few["flops"] and "seconds" not in few


def test_transformers_of_signs_cost_operations():
    """Of the published widths: 150, 200, 300 filters of 7, 4, 4 a side, 350 units, 43 classes."""
    costs = [step_cost(gtsrb.get_config(name), 2) for name in ("CNN", "two")]
    layers = [
        (7 * 7 * 3, 150),
        (4 * 4 * 150, 200),
        (4 * 4 * 200, 300),
        (6 * 6 * 300, 350),
        (350, 43),
    ]
    assert costs[0]["parameters"] == sum((inputs + 1) * outputs for inputs, outputs in layers)
    assert costs[1]["flops"] > 1.5 * costs[0]["flops"] > 0


def test_operations_are_those_of_the_layers():
    """Forward and both gradients, but none with respect to the images; the update is no image's."""
    config = small_numbers(width=1.0)
    few, many = (step_cost(config, size) for size in (2, 6))
    inputs, side, products, parameters = 3, 16, 0, 0
    for filters, pooled in LAYERS["slides"]:
        kernel = 25 * inputs * filters
        products += side**2 * kernel * (2 if inputs == 3 else 3)
        parameters += kernel + filters
        inputs, side = filters, math.ceil(side / 2) if pooled else side
    products += 3 * (few["parameters"] - parameters)
    assert (many["flops"] - few["flops"]) / 4 == pytest.approx(2 * products, rel=0.05)


def test_steps_are_taken_and_timed(monkeypatch):
    ticks = iter([0.0, 100.0, 200.0, 203.0, 300.0, 301.0, 400.0, 402.0])
    monkeypatch.setattr("stn_jax.benchmarks.cost.time.perf_counter", lambda: next(ticks))
    cost = step_cost(small_birds(), 2, steps=3)
    assert cost["seconds"] == 2 and cost["temporary"] > 0  # of 3, 1 and 2; the first does not count
    assert next(ticks, None) is None


def test_noise_is_what_the_network_reads():
    images, labels = svhn_training(small_numbers()).noise(np.random.default_rng(0), 6)
    assert images.shape == (6, 16, 16, 3) and images.dtype == np.float32
    assert labels.shape == (6, 5) and {*labels.flat} <= {*range(11)}


def test_show_cost(monkeypatch, capsys, tmp_path):
    cost = {"parameters": 1234, "flops": 64e9, "arguments": 2**30, "temporary": 3 * 2**29}
    seen = []

    def step_cost(config, batch_size, *, compiled, steps):
        seen.append((config.experiment, batch_size, config.optimizer.momentum, compiled, steps))
        return {**cost, "seconds": 1.5} if steps else cost

    monkeypatch.setattr(show_cost, "step_cost", step_cost)
    show_cost.main(["configs/birds.py:CNN", "--batch-size", "32"])
    table = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()]
    assert [[cell.strip() for cell in line] for line in table[:1] + table[2:]] == [
        ["", "birds-CNN-224px-paper-seed0"],
        ["parameters", "1,234"],
        ["images in a step", "32"],
        ["GFLOP a step", "64.0"],
        ["GFLOP an image", "2.00"],
        ["arguments, GiB", "1.00"],
        ["temporary, GiB", "1.50"],
    ]
    out = tmp_path / "new" / "cost.md"
    configs = ["configs/birds.py:CNN", "configs/svhn.py:CNN,128px"]
    changes = ["--", "--config.optimizer.momentum=0.5"]
    show_cost.main([*configs, "--compile", "--steps", "3", "--out", str(out), *changes])
    assert seen[1:] == [("birds", 256, 0.5, True, 3), ("svhn", 128, 0.5, True, 3)]
    text = out.read_text()
    assert text.startswith(capsys.readouterr().out.strip()) and "| seconds a step" in text
    assert "Measured on " in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["configs/mnist_3d.py"], "configs/mnist_3d.py is not configs/birds.py or configs/svhn.py"),
        (["configs/birds.py", "--", "--config.model.dype=bfloat16"], "dype"),
    ],
)
def test_show_cost_says_what_is_wrong(words, message, capsys):
    with pytest.raises(SystemExit):
        show_cost.main(words)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
