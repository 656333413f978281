import sys
import types

import pytest

from stn_jax.training.errors import ConfigError
from stn_jax.training.summaries import Summaries


def test_scalars_of_each_seed_are_written(tmp_path, monkeypatch):
    written = []

    class Writer:
        def __init__(self, directory, purge_step):
            assert directory == str(tmp_path / "tensorboard")
            written.append(f"from step {purge_step}")

        def add_scalar(self, *arguments):
            written.append(arguments)

        def close(self):
            written.append("closed")

    module = types.SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    with Summaries(tmp_path, step=4, enabled=True) as summaries:
        summaries.write("train", 5, {"loss": [0.5, 0.25]})
    curves = [("train/loss/0", 0.5, 5), ("train/loss/1", 0.25, 5)]
    assert written == ["from step 5", *curves, "closed"]


def test_nothing_is_imported_unless_enabled(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with Summaries(tmp_path, step=0, enabled=False) as summaries:
        summaries.write("train", 5, {"loss": [0.5]})
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=r'pip install "stn-jax\[tensorboard\]"'):
        Summaries(tmp_path, step=0, enabled=True)
