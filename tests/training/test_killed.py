"""A run that is killed with SIGKILL, again and again, ends like one that is left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
NUM_STEPS = 600
SETTINGS = {
    "training.num_steps": NUM_STEPS,
    "training.log_every": 10,
    "training.eval_every": 100,
    "runtime.checkpoint_every": 20,
    "runtime.steps_per_call": 5,
    "model.num_params": 5000,
}


def start(workdir: Path) -> subprocess.Popen:
    overrides = [f"--config.{name}={value}" for name, value in SETTINGS.items()]
    config = "--config=configs/distorted_mnist.py:quickstart,ST-FCN"
    command = [sys.executable, "experiments/distorted_mnist.py", config, *overrides]
    return subprocess.Popen(
        [*command, f"--workdir={workdir}"],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(workdir: Path) -> None:
    process = start(workdir)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def records(workdir: Path, *kinds: str) -> list[dict]:
    lines = map(json.loads, (workdir / "record.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] in kinds]


def last_step(workdir: Path) -> int:
    try:
        text = (workdir / "record.jsonl").read_text()
    except FileNotFoundError:
        return 0
    steps = [json.loads(line).get("step", 0) for line in text.splitlines() if line.endswith("}")]
    return max(steps, default=0)


def final_arrays(workdir: Path) -> list[np.ndarray]:
    """Read the last checkpoint without the model: its own shapes are enough."""
    import orbax.checkpoint as ocp

    step = max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    assert step == NUM_STEPS
    with ocp.StandardCheckpointer() as checkpointer:
        tree = checkpointer.restore((workdir / "checkpoints" / str(step) / "state").absolute())
    import jax

    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def kill_at_random_moments(workdir: Path, times: int, seed: int) -> int:
    """Kill the run as often as asked for, at moments spread over what is left of it."""
    choose = random.Random(seed)
    killed = 0
    while killed < times:
        begin = last_step(workdir)
        # Anything from the first moments of the process to some way into what is left.
        target = begin + choose.choice([-1, 1]) * choose.uniform(0, 2 * (NUM_STEPS - begin) / times)
        process = start(workdir)
        pause = choose.uniform(0, 0.3)
        while process.poll() is None and target > begin and last_step(workdir) < target:
            time.sleep(0.005)
        time.sleep(pause if target > begin else 10 * pause)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.communicate()
        if process.returncode == 0:
            break
    return killed


@pytest.mark.slow
@pytest.mark.parametrize("times", [2, 20])
def test_killed_and_resumed_is_bit_identical(tmp_path, times):
    finish(tmp_path / "undisturbed")
    killed = kill_at_random_moments(tmp_path / "killed", times, seed=times)
    assert killed == times
    finish(tmp_path / "killed")
    pairs = zip(
        final_arrays(tmp_path / "undisturbed"), final_arrays(tmp_path / "killed"), strict=True
    )
    for undisturbed, resumed in pairs:
        np.testing.assert_array_equal(undisturbed, resumed)
    kinds = ("run", "train", "eval", "end")
    lines = [records(tmp_path / name, *kinds) for name in ("undisturbed", "killed")]
    for line in (*lines[0], *lines[1]):
        line.pop("seconds", None)
    assert lines[0] == lines[1]


def test_sigterm_saves_and_exits_with_its_own_code(tmp_path):
    process = start(tmp_path)
    while last_step(tmp_path) < 20 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "saved; call again to continue" in errors
    assert len(errors.strip().splitlines()) == 1
