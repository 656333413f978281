"""Two processes on this machine train as one does."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from stn_jax.training import fit
from stn_jax.training.records import read_lines
from tests.training import sharded

ROOT = Path(__file__).parents[2]

# What each of two processes does; the first one prints the parameters that it ends with.
PROGRAM = """
import json, sys
from stn_jax.training import processes
from tests.training.test_processes import train
folder, name, port, number = sys.argv[1:]
processes.join(f"127.0.0.1:{port}", 2, int(number))
end = train(folder, name)
if processes.leads():
    json.dump(end, sys.stdout)
"""


def train(folder, name):
    config, problem = sharded.PROBLEMS[name]()
    config.runtime.num_devices = 0
    state = fit(config, problem, folder, name=name)
    return [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(state.params)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(*argv, **options):
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *argv], cwd=ROOT, env=env, **pipes, **options)


def finish(processes, code=0):
    """Return what the processes printed on stdout and on stderr."""
    texts = [process.communicate(timeout=240) for process in processes]
    assert [p.returncode for p in processes] == [code] * len(processes), texts
    return texts


PROBLEMS = ["streamed", *(pytest.param(x, marks=pytest.mark.slow) for x in ("toy", "svhn"))]


@pytest.fixture(scope="module", params=PROBLEMS)
def ends(request, tmp_path_factory):
    """Return work directory and final parameters of one process and of two."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    port = free_port()
    program = ("-c", PROGRAM, str(two), request.param, str(port))
    texts = finish([start(*program, str(number)) for number in range(2)])
    together = json.loads(texts[0][0].splitlines()[-1])
    return (one, train(one, request.param)), (two, together)


def test_two_processes_end_as_one_does(ends):
    (_, one), (_, two) = ends
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(np.array(b), np.array(a), rtol=1e-3, atol=1e-5)


def test_two_processes_write_one_record(ends):
    one, two = (read_lines(folder / "record.jsonl") for folder, _ in ends)
    assert [(x["kind"], x.get("step")) for x in one] == [(x["kind"], x.get("step")) for x in two]
    for a, b in zip(one, two, strict=True):
        for name in {"loss", "error", "gradient_norm"} & {*a}:
            assert b[name] == pytest.approx(a[name], rel=1e-3, abs=1e-4)
    counts = [(x["device"]["count"], x["device"]["processes"]) for x in (one[1], two[1])]
    assert counts == [(1, 1), (2, 2)]


def test_two_processes_write_one_checkpoint(ends):
    saved = [sorted(path.name for path in (folder / "checkpoints").iterdir()) for folder, _ in ends]
    assert saved[0] == saved[1] and saved[0]


def experiment(folder, port, *, steps, **options):
    settings = {
        **{"training.num_steps": steps, "training.eval_every": steps, "training.log_every": 10},
        **{"runtime.checkpoint_every": steps, "runtime.num_devices": 0},
        **{"training.batch_size": 8, "model.num_params": 5000},
    }
    overrides = [f"--config.{name}={value}" for name, value in settings.items()]
    place = [f"--coordinator=127.0.0.1:{port}", "--num_processes=2", "--distributed"]
    config = "--config=configs/distorted_mnist.py:quickstart,FCN"
    program = ["experiments/distorted_mnist.py", config, f"--workdir={folder}", *overrides, *place]
    return [start(*program, f"--process_id={i}", **options) for i in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_to_one_process_stops_both_after_the_same_step(tmp_path, number):
    pytest.importorskip("sklearn")
    steps = 20_000
    processes = experiment(tmp_path, free_port(), steps=steps)
    record = tmp_path / "record.jsonl"
    while not record.exists() or '"kind": "train"' not in record.read_text():
        if any(process.poll() is not None for process in processes):
            finish(processes)
        time.sleep(0.05)
    processes[1].send_signal(number)
    texts = finish(processes, code=75)
    stopped = {re.search(r"stopped at step (\d+), saved", errors)[1] for _, errors in texts}
    assert len(stopped) == 1
    step = int(stopped.pop())
    assert 0 < step < steps
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [str(step)]


def test_nothing_is_computed_before_the_processes_meet():
    """Importing an experiment asks for no device: here it would not find any."""
    names = sorted(path.stem for path in (ROOT / "experiments").glob("*.py"))
    program = "; ".join(f"import experiments.{name}" for name in names)
    env = {**os.environ, "JAX_PLATFORMS": "none"}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=env, check=True)


def test_several_processes_use_all_devices(monkeypatch):
    from stn_jax.training import sharding
    from stn_jax.training.errors import ConfigError

    monkeypatch.setattr(sharding, "several", lambda: True)
    monkeypatch.setattr(sharding.jax, "devices", lambda: [None] * 2)
    with pytest.raises(ConfigError, match="set runtime.num_devices to 0, not 1"):
        sharding.make_mesh(1)
