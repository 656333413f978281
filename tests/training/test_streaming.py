"""Batches read on the host: the same ones, in the same order, from any step on."""

import dataclasses
import signal
import time

import jax
import numpy as np
import pytest

from stn_jax.training import Streamed, fit
from stn_jax.training.errors import Interrupted
from stn_jax.training.evaluation import make_evaluation
from stn_jax.training.records import read_lines
from stn_jax.training.step import step_keys
from stn_jax.training.streaming import NUM_AHEAD, NUM_THREADS, stream, stream_examples
from tests.training.sharded import as_streamed
from tests.training.toy import toy_config, toy_problem


def losses(workdir):
    lines = read_lines(workdir / "record.jsonl")
    return [(line["step"], line["loss"]) for line in lines if line["kind"] in ("train", "eval")]


@pytest.mark.parametrize("vmap", [True, False])
def test_a_streamed_run_is_the_run_on_the_device(tmp_path, vmap):
    """Bit by bit; so are its evaluations, the last and partial batch's examples included."""
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


# --- evaluations


@pytest.mark.parametrize(("count", "batch_size"), [(37, 16), (32, 16), (5, 16), (1, 1)])
def test_examples_come_in_order_and_once(count, batch_size):
    batches = list(stream_examples(Streamed(count, lambda index: index * 10), batch_size))
    assert all(len(values) == len(mask) == batch_size for values, mask in batches)
    counted = np.concatenate([values[mask] for values, mask in batches])
    np.testing.assert_array_equal(counted, 10 * np.arange(count))
    values, mask = batches[-1]
    assert (values[~mask] == 10 * (count - 1)).all()


def test_reading_runs_ahead_by_a_few_batches_only():
    """However slowly they are measured: images that wait need memory."""
    started, lead = [], []

    def read(index):
        started.append(index[0])
        return index

    for consumed, _ in enumerate(stream_examples(Streamed(300, read), 2)):
        time.sleep(0.002)
        lead.append(len(started) - consumed)
    assert len(started) == 150 and max(lead) <= NUM_AHEAD + NUM_THREADS + 1


def test_an_error_while_reading_ends_the_evaluation():
    def read(index):
        raise OSError("the disk is gone")

    problem = toy_problem(toy_config())
    evaluate = make_evaluation(problem.measure, batch_size=16, vmap_seeds=True)
    with pytest.raises(OSError, match="the disk is gone"):
        evaluate(None, Streamed(37, read))
