"""Several devices share each batch; XLA simulates eight of them in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stn_jax.training import fit
from stn_jax.training.errors import ConfigError
from stn_jax.training.sharding import copy_to_all, divide, make_mesh
from tests.training.toy import toy_config, toy_problem

ROOT = Path(__file__).parents[2]

# Trains one network on one and on eight devices, and prints how far apart the two end.
PROGRAM = """
import json, sys, tempfile
import jax, numpy as np
from tests.training.sharded import PROBLEMS
from stn_jax.training import fit
from stn_jax.training.loop import load_state
from stn_jax.training.optim import make_optimizer
from stn_jax.training.records import read_lines
from stn_jax.training.state import create_state
config, problem = PROBLEMS[sys.argv[1]]()
ends, evals = [], []
for devices in (1, 8):
    config.runtime.num_devices = devices
    with tempfile.TemporaryDirectory() as folder:
        state = fit(config, problem, folder, name="toy")
        lines = read_lines(folder + "/record.jsonl")
        opened = load_state(state, folder)  # What eight devices saved, one opens.
    shards = {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state.params)}
    evals.append([line[n][0] for line in lines for n in ("loss", "gradient_norm") if n in line])
    ends.append([np.asarray(leaf) for leaf in jax.tree.leaves(state.params)])
optimizer = make_optimizer(config.optimizer, config.training.num_steps)
start = create_state(problem.init, optimizer, config.seeds)
start = [np.asarray(leaf) for leaf in jax.tree.leaves(start.params)]
json.dump({
    "devices": sorted(shards),
    "apart": max(float(abs(a - b).max()) for a, b in zip(*ends)),
    "moved": max(float(abs(a - b).max()) for a, b in zip(ends[0], start)),
    "opened": max(
        float(abs(a - np.asarray(b)).max()) for a, b in zip(ends[1], jax.tree.leaves(opened.params))
    ),
    "on": sorted({len(leaf.sharding.device_set) for leaf in jax.tree.leaves(opened.params)}),
    "losses": evals,
}, sys.stdout)
"""


def on_eight_devices(problem: str) -> dict:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, problem],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "problem", ["toy", "streamed", pytest.param("svhn", marks=pytest.mark.slow)]
)
def test_eight_devices_train_as_one_does(problem):
    found = on_eight_devices(problem)
    assert found["devices"] == [8]
    assert found["moved"] > 1e-2  # the network learnt something
    assert found["apart"] < 1e-3 * found["moved"]
    one, eight = found["losses"]
    assert eight == pytest.approx(one, rel=1e-3)
    assert (found["opened"], found["on"]) == (0, [1])


def test_one_device_needs_no_mesh():
    assert make_mesh(1) is None
    tree = {"x": [1, 2]}
    assert copy_to_all(tree, None) is tree
    assert divide(tree, None) is tree


def test_more_devices_than_there_are(tmp_path):
    config = toy_config(**{"runtime.num_devices": 64})
    with pytest.raises(ConfigError, match=r"num_devices=64, but there are \d+ devices \(cpu\)"):
        fit(config, toy_problem(config), tmp_path, name="toy")
