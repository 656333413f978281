import dataclasses
import fcntl
import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stn_jax.training import fit, loop
from stn_jax.training.errors import ConfigError, Diverged, Interrupted, RunError
from stn_jax.training.loop import load_state
from tests.training.toy import apply, init, toy_config, toy_problem


def lines(workdir, *kinds):
    records = map(json.loads, (workdir / "record.jsonl").read_text().splitlines())
    return [record for record in records if not kinds or record["kind"] in kinds]


def run(workdir, **overrides):
    config = toy_config(**overrides)
    return fit(config, toy_problem(config), workdir, name="toy")


def assert_same_state(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_training_learns_and_the_record_tells(tmp_path):
    state = run(tmp_path)
    assert int(state.step[0]) == 40
    header, session = lines(tmp_path)[:2]
    assert (header["kind"], header["parameters"]) == ("run", 8)
    assert header["config"]["optimizer"]["learning_rate"] == 0.01
    assert {"code", "packages", "device", "python", "time"} < set(session)
    train = lines(tmp_path, "train")
    assert [line["step"] for line in train] == [10, 20, 30, 40]
    assert train[-1]["loss"][0] < train[0]["loss"][0]
    evals = lines(tmp_path, "eval")
    assert [(line["step"], line["split"]) for line in evals] == [(20, "test"), (40, "test")]
    timing = lines(tmp_path, "timing")
    assert [line["step"] for line in timing] == [10, 20, 30, 40]
    assert all(line["memory"] > 2**20 for line in timing)
    assert lines(tmp_path)[-1]["kind"] == "end"


def test_evaluation_counts_every_example(tmp_path):
    """37 examples in batches of 16: the last batch is partial."""
    state = run(tmp_path)
    config = toy_config()
    examples = toy_problem(config).evaluations["test"]
    params = jax.tree.map(lambda x: x[0], state.params)
    (logits, _), _ = apply(params, {}, examples.image)
    error = float(100 * np.mean(np.argmax(logits, -1) != np.asarray(examples.label)))
    assert lines(tmp_path, "eval")[-1]["error"] == [pytest.approx(error, rel=1e-5)]


def test_a_finished_run_is_left_alone(tmp_path, capsys):
    state = run(tmp_path)
    before = (tmp_path / "record.jsonl").read_bytes()
    assert run(tmp_path) is None
    assert "finished before, nothing to do" in capsys.readouterr().out
    assert (tmp_path / "record.jsonl").read_bytes() == before
    assert_same_state(state, load_state(state, tmp_path))


@pytest.mark.parametrize("step", [20, 14])
def test_stopped_and_continued_equals_undisturbed(tmp_path, step):
    """Also between two "train" lines, whose running means have to survive."""
    overrides = {"training.eval_every": step}
    undisturbed = run(tmp_path / "a", **overrides)
    config = toy_config(**overrides)
    problem = toy_problem(config)

    # The signal comes while metrics of `step` are read, as it would from outside.
    class Examples(dict):
        stopped = False

        def items(self):
            if not Examples.stopped:
                Examples.stopped = True
                signal.raise_signal(signal.SIGTERM)
            return super().items()

    stopping = dataclasses.replace(problem, evaluations=Examples(problem.evaluations))
    with pytest.raises(Interrupted, match="call again to continue"):
        fit(config, stopping, tmp_path / "b", name="toy")
    assert lines(tmp_path / "b")[-1]["kind"] != "end"
    resumed = run(tmp_path / "b", **overrides)
    assert_same_state(undisturbed, resumed)
    kinds = ("run", "train", "eval")
    assert lines(tmp_path / "a", *kinds) == lines(tmp_path / "b", *kinds)
    assert len(lines(tmp_path / "b", "session")) == 2


@pytest.fixture
def stop_after(monkeypatch):
    """Trains the toy until a call, as if a signal had come then."""

    def stop(call, workdir, **overrides):
        with monkeypatch.context() as patched:
            patched.setattr(loop._StopRequests, "has_come", lambda _, number: number == call)
            with pytest.raises(Interrupted):
                run(workdir, **overrides)

    return stop


def test_steps_per_call_that_do_not_fit_the_checkpoint_are_refused(tmp_path, stop_after):
    """The loop would pass over every step at which something is written, and over the last."""
    stop_after(7, tmp_path / "a")
    with pytest.raises(ConfigError, match=r"step 14, no multiple of .*=5: .*steps_per_call=1\."):
        run(tmp_path / "a", **{"runtime.steps_per_call": 5})
    resumed = run(tmp_path / "a", **{"runtime.steps_per_call": 1})
    undisturbed = run(tmp_path / "b", **{"runtime.steps_per_call": 1})
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        resumed.params,
        undisturbed.params,
    )
    steps = [[line["step"] for line in lines(tmp_path / name, "train", "eval")] for name in "ab"]
    assert steps[0] == steps[1]


def test_a_record_that_is_not_the_checkpoints_is_refused(tmp_path, stop_after):
    """Lost, or copied before the checkpoints were: lines would be missing, or another config's."""
    stop_after(10, tmp_path)
    record = tmp_path / "record.jsonl"
    text = record.read_text()
    record.unlink()
    with pytest.raises(RunError, match="was begun anew, but the checkpoint .* is of step 20"):
        run(tmp_path, seeds=(9,))
    early = [line for line in text.splitlines() if json.loads(line).get("step", 0) <= 10]
    record.write_text("\n".join(early) + "\n")
    with pytest.raises(RunError, match="ends at step 10, but the checkpoint .* is of step 20"):
        run(tmp_path)
    record.write_text(text)
    assert run(tmp_path) is not None


def test_what_a_crash_left_behind_the_last_checkpoint_is_dropped(tmp_path):
    """Lines written after the checkpoint, and a last line cut off in the middle."""
    undisturbed = run(tmp_path / "a")
    run(tmp_path / "b")
    record = tmp_path / "b" / "record.jsonl"
    text = [line for line in record.read_text().splitlines() if '"end"' not in line]
    record.write_text("\n".join(text) + '\n{"kind": "train", "st')
    for step in ("30", "40"):
        for path in sorted((tmp_path / "b/checkpoints" / step).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (tmp_path / "b/checkpoints" / step).rmdir()
    assert_same_state(undisturbed, run(tmp_path / "b"))
    kinds = ("run", "train", "eval")
    assert lines(tmp_path / "a", *kinds) == lines(tmp_path / "b", *kinds)


def test_several_seeds_in_one_run_are_the_single_ones(tmp_path):
    both = run(tmp_path / "both", seeds=(3, 5))
    single = run(tmp_path / "single", seeds=(5,))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[1], b[0], rtol=1e-5, atol=1e-6),
        both.params,
        single.params,
    )
    one_by_one = run(tmp_path / "loop", **{"seeds": (3, 5), "runtime.vmap_seeds": False})
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        both.params,
        one_by_one.params,
    )
    first, second = (np.asarray(leaf) for leaf in both.params["layer"]["kernel"])
    assert np.abs(first - second).max() > 1e-3


def test_steps_per_call_change_nothing_but_speed(tmp_path):
    states = [run(tmp_path / str(n), **{"runtime.steps_per_call": n}) for n in (1, 5)]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        *[state.params for state in states],
    )


def test_a_different_config_is_refused_by_field(tmp_path):
    run(tmp_path)
    with pytest.raises(
        ConfigError,
        match=r"different run \(config.optimizer.learning_rate: 0.01 there, 0.02 now\)",
    ):
        run(tmp_path, **{"optimizer.learning_rate": 0.02})


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    """With as many parameters, in other shapes: the record alone would not tell."""
    state = run(tmp_path)
    other = {"layer": {"kernel": jnp.zeros((4, 2))}}
    with pytest.raises(RunError, match="another model: params/layer/bias"):
        load_state(state._replace(params=jax.tree.map(lambda x: x[None], other)), tmp_path)


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    """The loss becomes NaN at the 26th update, and says so; nothing bad is ever saved."""

    def poisoned(params, state, x, train=False, key=None):
        (logits, aux), _ = apply(params, {}, x, train=train, key=key)
        count = state["count"] + 1 if train else state["count"]
        return (jnp.where(count < 26, logits, jnp.nan), aux), {"count": count}

    config = toy_config()
    problem = toy_problem(config, apply=poisoned)
    counting = dataclasses.replace(
        problem, init=lambda key: (init(key)[0], {"count": jnp.int32(0)})
    )
    with pytest.raises(Diverged, match=r"loss nan .* at step 26 .*checkpoint 20 is kept") as error:
        fit(config, counting, tmp_path, name="toy")
    assert error.value.exit_code == 3
    assert lines(tmp_path)[-1] == {"kind": "diverged", "step": 26}
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()) == [
        "10",
        "20",
    ]


@pytest.mark.parametrize("seeds", [(), (1, 1), ("a",), (0.5,)])
def test_seeds_are_different_whole_numbers(tmp_path, seeds):
    with pytest.raises(ConfigError, match="seeds must be different whole numbers"):
        run(tmp_path, seeds=seeds)


@pytest.mark.parametrize("name", ["batch_size", "eval_batch_size"])
def test_empty_batches_are_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=f"training.{name}=0 must be 1 or more"):
        run(tmp_path, **{f"training.{name}": 0})


def test_intervals_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"training.log_every=5 must be a positive multiple"):
        run(tmp_path, **{"training.log_every": 5})
    assert not (tmp_path / "record.jsonl").exists()


def test_one_process_at_a_time(tmp_path):
    tmp_path.joinpath("lock").touch()
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another process is training in"):
            run(tmp_path)


def test_load_state_without_a_checkpoint(tmp_path):
    state = run(tmp_path / "run")
    assert_same_state(load_state(state, tmp_path / "run"), state)
    with pytest.raises(RunError, match="no checkpoint in"):
        load_state(state, tmp_path / "empty")
