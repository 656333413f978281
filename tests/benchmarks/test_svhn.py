"""What is timed of the networks of house numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.svhn import get_config
from stn_jax.benchmarks.svhn import forward_and_backward, svhn_rows
from stn_jax.reporting import benchmarks as reporting


@pytest.mark.slow
def test_all_of_the_gradient_is_computed():
    config = get_config("Multi,64px")
    config.data.canvas, config.model.width = 16, 0.2
    contender = forward_and_backward(config, 3)
    (loss, (_, metrics)), gradient = contender.wait(contender.call())
    assert loss > 5 and metrics["error"] == pytest.approx(100)  # five guesses of one in eleven
    assert set(gradient) == {"convs", "hidden", "classifier", "transformers"}
    regression = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient)
        if "regression" in str(path)
    ]
    assert len(regression) == 8
    assert all(np.isfinite(leaf).all() and jnp.any(leaf != 0) for leaf in regression)


def test_rows_have_the_paper_s_networks_and_sizes(monkeypatch):
    """H20."""
    seen = []
    name = "stn_jax.benchmarks.svhn.forward_and_backward"
    monkeypatch.setattr(name, lambda *args: seen.append(args))
    rows = list(svhn_rows(get_config))
    for row in rows:
        for build in row.contenders.values():
            build()
    assert [list(row.contenders) for row in rows] == [["CNN", "ST-CNN Single", "ST-CNN Multi"]] * 2
    sizes = [(config.data.size, config.model.name, config.model.width) for config, _ in seen]
    models = ["cnn", "st_cnn_single", "st_cnn_multi"]
    assert sizes == [(size, model, 1.0) for size in (64, 128) for model in models]


def test_the_report_has_their_cost_over_the_cnn_s():
    def times(milliseconds):
        return {"seconds": milliseconds / 1e3, "low": 0.1, "high": 0.1, "first": 2.0, "rounds": 5}

    contenders = {"CNN": times(100), "ST-CNN Single": times(101), "ST-CNN Multi": times(106.2)}
    environment = {
        "code": "0123456789ab",
        "packages": {"jax": "1.2"},
        "device": {"platform": "gpu", "kind": "X1", "cpu": "Y2", "cores": 3},
    }
    row = {"case": "64 px", "work": "forward and backward", "facts": {}, "contenders": contenders}
    report = {"svhn": {"environment": environment, "time": "2026-01-02", "rows": [row]}}
    text = reporting.markdown(report)
    assert "| ST-CNN Single / CNN | ST-CNN Multi / CNN |" in " ".join(text.split())
    assert "1.010" in text and "1.062" in text
