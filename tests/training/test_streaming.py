"""Batches read on the host: the same ones, in the same order, from any step on."""

import dataclasses
import signal

import jax
import numpy as np
import pytest

from stn_jax.training import fit
from stn_jax.training.errors import Interrupted
from stn_jax.training.records import read_lines
from stn_jax.training.step import step_keys
from stn_jax.training.streaming import stream
from tests.training.sharded import as_streamed
from tests.training.toy import toy_config, toy_problem


def losses(workdir):
    lines = read_lines(workdir / "record.jsonl")
    return [(line["step"], line["loss"]) for line in lines if line["kind"] in ("train", "eval")]


@pytest.mark.parametrize("vmap", [True, False])
def test_a_streamed_run_is_the_run_on_the_device(tmp_path, vmap):
    config = toy_config(**{"seeds": (4, 2), "runtime.vmap_seeds": vmap})
    problem = toy_problem(config)
    states = [
        fit(config, p, tmp_path / name, name="toy")
        for name, p in (("device", problem), ("host", as_streamed(problem, config)))
    ]
    jax.tree.map(np.testing.assert_array_equal, *[state.params for state in states])
    assert losses(tmp_path / "device") == losses(tmp_path / "host")


class Interrupting(dict):
    """Evaluations that stop the run as a signal from outside would, the first time."""

    stopped = False

    def items(self):
        if not self.stopped:
            self.stopped = True
            signal.raise_signal(signal.SIGTERM)
        return super().items()


def test_a_resumed_run_reads_on_where_it_stopped(tmp_path):
    config = toy_config(**{"training.eval_every": 14})
    problem = as_streamed(toy_problem(config), config)
    whole = fit(config, problem, tmp_path / "whole", name="toy")
    stopping = dataclasses.replace(problem, evaluations=Interrupting(problem.evaluations))
    with pytest.raises(Interrupted):
        fit(config, stopping, tmp_path / "part", name="toy")
    resumed = fit(config, problem, tmp_path / "part", name="toy")
    jax.tree.map(np.testing.assert_array_equal, whole.params, resumed.params)
    assert losses(tmp_path / "whole") == losses(tmp_path / "part")


def test_leading_axes_are_seeds_and_steps():
    """Each entry is read with the key of its own seed and step."""

    def read(key):
        return {"bits": np.asarray(jax.random.bits(key, (3,)))}

    calls = list(stream(read, (7, 5), start=4, stop=10, steps_per_call=2))
    assert len(calls) == 3
    for call, found in enumerate(calls):
        assert found["bits"].shape == (2, 2, 3)
        for s, seed in enumerate((7, 5)):
            for i in range(2):
                draw_key, _ = step_keys(seed, 4 + 2 * call + i)
                np.testing.assert_array_equal(found["bits"][s, i], read(draw_key)["bits"])


def test_an_error_while_reading_ends_the_run(tmp_path):
    config = toy_config()

    def read(key):
        raise OSError("the disk is gone")

    problem = dataclasses.replace(as_streamed(toy_problem(config), config), read=read)
    with pytest.raises(OSError, match="the disk is gone"):
        fit(config, problem, tmp_path, name="toy")
