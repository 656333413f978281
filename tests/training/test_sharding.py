"""Several devices share each batch; XLA simulates eight of them in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from stn_jax import geometry
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


def run_on_eight_devices(program: str, *arguments: str) -> dict:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# Samples images that eight devices share; prints what they send each other, and the results.
SAMPLING = """
import json, re, sys
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from stn_jax import geometry
from tests.training.test_sharding import random_sampling

def sample_and_gradients(image, grid):
    out, pull = jax.vjp(geometry.sample, image, grid)
    return out, *pull(out)

image, grid = random_sampling()
mesh = Mesh(np.array(jax.devices()), ("batch",))
shared = jax.device_put((image, grid), NamedSharding(mesh, PartitionSpec("batch")))
compiled = jax.jit(sample_and_gradients).lower(*shared).compile()
kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
json.dump({
    "sent": sorted(set(re.findall(kinds, compiled.as_text()))),
    "found": [np.asarray(x).tolist() for x in compiled(*shared)],
}, sys.stdout)
"""


def random_sampling():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(16, 5, 6, 2)).astype(np.float32)
    return image, rng.uniform(-1.3, 1.3, size=(16, 4, 4, 2)).astype(np.float32)


def test_images_are_sampled_where_they_are():
    """Nothing is sent between devices, and the numbers are those of one."""
    found = run_on_eight_devices(SAMPLING)
    assert found["sent"] == []
    image, grid = random_sampling()
    out, pull = jax.vjp(geometry.sample, image, grid)
    for ours, theirs in zip((out, *pull(out)), found["found"], strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5)


BIG = ("svhn", "birds")


@pytest.mark.parametrize(
    "problem", ["toy", "streamed", *(pytest.param(x, marks=pytest.mark.slow) for x in BIG)]
)
def test_eight_devices_train_as_one_does(problem):
    found = run_on_eight_devices(PROGRAM, problem)
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
