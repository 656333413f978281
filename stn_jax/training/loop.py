"""The training loop of every experiment."""

import contextlib
import fcntl
import itertools
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from stn_jax.training.checkpoints import Checkpoints
from stn_jax.training.errors import ConfigError, Diverged, Interrupted, RunError
from stn_jax.training.evaluation import make_evaluation
from stn_jax.training.optim import make_optimizer
from stn_jax.training.processes import agree_to_stop, leads, must_wait, several
from stn_jax.training.records import Record, peak_memory
from stn_jax.training.sharding import copy_to_all, make_mesh
from stn_jax.training.state import TrainState, create_state
from stn_jax.training.step import make_train_call
from stn_jax.training.streaming import stream
from stn_jax.training.summaries import Summaries

CHECKPOINTS = "checkpoints"
LOCK = "lock"  # Held by the process that trains in the directory.
LOCK_ATTEMPTS = 10  # a tenth of a second apart


@dataclass(frozen=True)
class Problem:
    """What is trained: everything that the loop does not know by itself.

    Attributes:
      init: function of a key, giving (params, model_state).
      loss: function of (params, model_state, batch, key), giving (loss, (model_state, metrics)).
      draw: function of (key, data), giving a batch; part of the compiled step.
      data: what batches are drawn from: a pytree of arrays on the device. None with `read`.
      measure: function of (params, model_state, batch), giving per-example values by name.
      evaluations: by split name, the examples that `measure` is averaged over: a pytree of arrays,
        or `Streamed` where they are larger than the memory.
      description: what the record says of the data.
      read: where the data are larger than a device: function of the key that `draw` gets, giving
        as host arrays what that needs of the data in one step; called ahead, in threads.
    """

    init: Callable[[jax.Array], tuple[Any, Any]]
    loss: Callable[..., Any]
    draw: Callable[[jax.Array, Any], Any]
    data: Any
    measure: Callable[..., dict[str, jax.Array]]
    evaluations: dict[str, Any]
    description: dict[str, Any] = field(default_factory=dict)
    read: Callable[[jax.Array], Any] | None = None


def fit(
    config: ConfigDict, problem: Problem, workdir: str | Path, *, name: str
) -> TrainState | None:
    """Train until `config.training.num_steps`, or continue a run that stopped on the way.

    The work directory gets the run's record, its checkpoints and, if asked for, TensorBoard
    logs. Called again after any interruption, the run goes on from its last checkpoint and ends
    with the same parameters and metrics as without; called after its end, it returns at once.

    Args:
      config: sections `training`, `optimizer` and `runtime`, and `seeds`.
      problem: model, loss and data.
      workdir: the run's own directory.
      name: the run's name in its record and progress bar.

    Returns:
      The final state; every leaf has a leading axis of seeds. None if the run had come to its end
      before: `load_state` reads its state.

    Raises:
      ConfigError: if the config is inconsistent, or the directory holds a different run.
      Diverged: if loss or gradient become NaN or infinite; the last good checkpoint is kept.
      Interrupted: after SIGTERM or Ctrl-C, with the state saved.
    """
    training, runtime = config.training, config.runtime
    mesh = make_mesh(runtime.num_devices)
    _check(config, 1 if mesh is None else mesh.size)
    optimizer = make_optimizer(config.optimizer, training.num_steps)
    state = create_state(problem.init, optimizer, config.seeds)
    num_params = sum(leaf[0].size for leaf in jax.tree.leaves(state.params))
    state = copy_to_all(state, mesh)

    workdir = Path(workdir)
    header = {
        "name": name,
        "config": config.to_dict(),
        "parameters": num_params,
        "data": problem.description,
    }
    with contextlib.ExitStack() as stack:
        if leads():
            stack.enter_context(_exclusive(workdir))
        record = Record(workdir, header, writes=leads())
        if record.finished:
            print(f"{name}: finished before, nothing to do ({record.path}).")
            return None
        # Before the checkpoints, for these are to be complete before signals kill again.
        stop = stack.enter_context(_StopRequests())
        checkpoints = stack.enter_context(
            contextlib.closing(Checkpoints(workdir / CHECKPOINTS, cleanup=True))
        )
        window = _Window()
        if checkpoints.latest_step is not None:
            state, progress = checkpoints.restore(state)
            window = _Window(**progress)
        step = int(np.asarray(state.step)[0])
        if step % runtime.steps_per_call:
            fits = math.gcd(step, training.num_steps, runtime.steps_per_call)
            raise ConfigError(
                f"{workdir} stopped at step {step}, no multiple of runtime.steps_per_call="
                f"{runtime.steps_per_call}: continue with --config.runtime.steps_per_call={fits}."
            )
        record.resume(step)

        train_call = make_train_call(
            problem.draw,
            problem.loss,
            optimizer,
            steps_per_call=runtime.steps_per_call,
            vmap_seeds=runtime.vmap_seeds,
            streamed=problem.read is not None,
            mesh=mesh,
        )
        evaluate = make_evaluation(
            problem.measure,
            batch_size=training.eval_batch_size,
            vmap_seeds=runtime.vmap_seeds,
            mesh=mesh,
        )
        data = _data_of_calls(config, problem, step, mesh)
        examples_per_step = training.batch_size * len(config.seeds)
        bar = stack.enter_context(_progress_bar(name, step, training.num_steps, examples_per_step))
        summaries = stack.enter_context(
            Summaries(workdir, step=step, enabled=runtime.tensorboard and leads())
        )
        started = time.monotonic() - record.seconds
        unread: list[tuple[int, Any]] = []

        while step < training.num_steps:
            state, metrics = train_call(state, next(data))
            step += runtime.steps_per_call
            last = step == training.num_steps
            log, measure, save = (
                last or step % every == 0
                for every in (training.log_every, training.eval_every, runtime.checkpoint_every)
            )
            stopping = stop.has_come(step // runtime.steps_per_call) and not last
            save |= stopping

            # A call's metrics are read while the next one runs, and all of them before anything
            # is written: a checkpoint never follows a loss that is not finite.
            unread.append((step, metrics))
            keep = 0 if log or measure or save or must_wait() else 1
            while len(unread) > keep:
                end, values = unread.pop(0)
                values = jax.device_get(values)
                if message := _not_finite(values, end, config.seeds, checkpoints.latest_step):
                    record.write("diverged", end)
                    raise Diverged(f"{name}: {message}")
                window.add(values)
                bar.update(runtime.steps_per_call * examples_per_step)

            if log:
                means = window.take_means()
                record.write("train", step, **means)
                summaries.write("train", step, means)
                bar.set_postfix(loss=f"{np.mean(means['loss']):.4f}", refresh=False)
            if measure:
                for split, examples in problem.evaluations.items():
                    means = evaluate(state, examples)
                    record.write("eval", step, split=split, **means)
                    summaries.write(split, step, means)
            if log or measure or save:
                seconds = time.monotonic() - started
                record.write("timing", step, seconds=seconds, memory=peak_memory())
            if save:
                checkpoints.save(step, state, window.as_json())
            if stopping:
                raise Interrupted(f"{name}: stopped at step {step}, saved; call again to continue.")

    record.write("end", step, seconds=time.monotonic() - started)
    return state


def load_state(like: TrainState, workdir: str | Path) -> TrainState:
    """Return the state of the last checkpoint in a run's work directory.

    Args:
      like: a state (or its shapes) of the same run, as `create_state` gives it.
      workdir: the run's directory.

    Raises:
      RunError: if there is no checkpoint, or one of a different model.
    """
    # Or else Orbax wants the devices that saved it.
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), like)
    directory = Path(workdir) / CHECKPOINTS
    with contextlib.closing(Checkpoints(directory)) as checkpoints:
        if checkpoints.latest_step is None:
            raise RunError(f"there is no checkpoint in {directory}.")
        return checkpoints.restore(like)[0]


def _data_of_calls(
    config: ConfigDict, problem: Problem, step: int, mesh: Mesh | None
) -> Iterator[Any]:
    """Iterate over the data of each call from a step on: always the same, or read on the host."""
    if problem.read is None:
        return itertools.repeat(copy_to_all(problem.data, mesh))
    calls = stream(
        problem.read,
        config.seeds,
        start=step,
        stop=config.training.num_steps,
        steps_per_call=config.runtime.steps_per_call,
    )
    return (copy_to_all(data, mesh) for data in calls) if several() else calls


class _Window:
    """Sums of the metrics since the last "train" line; survives an interruption."""

    def __init__(self, count: int = 0, sums: dict[str, list[float]] | None = None):
        self._count = count
        self._sums = {name: np.array(values) for name, values in (sums or {}).items()}

    def add(self, metrics: dict[str, np.ndarray]) -> None:
        """Add metrics [seeds, steps]."""
        for name, values in metrics.items():
            total = np.sum(values, axis=1, dtype=np.float64)
            self._sums[name] = self._sums.get(name, 0.0) + total
            self._count += values.shape[1] if name == "loss" else 0

    def take_means(self) -> dict[str, list[float]]:
        """Return the means, one a seed, and begin anew."""
        means = {name: (total / self._count).tolist() for name, total in self._sums.items()}
        self._count, self._sums = 0, {}
        return means

    def as_json(self) -> dict[str, Any]:
        """Return what a new window is made from to continue this one."""
        return {"count": self._count, "sums": {k: v.tolist() for k, v in self._sums.items()}}


class _StopRequests(contextlib.AbstractContextManager):
    """Notes SIGTERM, SIGUSR2 and Ctrl-C, for the loop to stop between two calls.

    A second Ctrl-C kills. Of the other two any number may come: schedulers signal all processes of
    a job, and launchers, who were signalled too, pass it on. Several processes that train together
    have to stop after the same call: SIGTERM is left to JAX then, and others are turned into it.
    """

    _requested = False

    def __enter__(self):
        # Only the main thread may set handlers; elsewhere (notebooks, tests) signals keep theirs.
        main = threading.current_thread() is threading.main_thread()
        handlers = {signal.SIGUSR2: self._note, signal.SIGINT: self._note}
        if not several():
            handlers[signal.SIGTERM] = self._note
        self._previous = {s: signal.signal(s, h) for s, h in handlers.items() if main}
        return self

    def has_come(self, call: int) -> bool:
        """Tell whether to stop after a call; to be asked after each."""
        return agree_to_stop(call) if several() else self._requested

    def _note(self, number: int, _frame: Any) -> None:
        self._requested = True
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
        if several():
            os.kill(os.getpid(), signal.SIGTERM)

    def __exit__(self, *exc_info):
        for number, handler in self._previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _exclusive(workdir: Path) -> Iterator[None]:
    """Hold the work directory for this process."""
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / LOCK).open("w") as lock:
        for attempt in range(LOCK_ATTEMPTS):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt + 1 == LOCK_ATTEMPTS:
                    raise RunError(f"another process is training in {workdir}.") from None
                time.sleep(0.1)  # who only looks whether it is locked holds it for a moment
        yield


def _progress_bar(name: str, step: int, num_steps: int, examples_per_step: int) -> tqdm:
    """Show examples a second and the time left; nothing where there is no terminal."""
    return tqdm(
        desc=name,
        initial=step * examples_per_step,
        total=num_steps * examples_per_step,
        unit="ex",
        unit_scale=True,
        dynamic_ncols=True,
        smoothing=0.05,
        disable=None if leads() else True,
    )


def _not_finite(
    metrics: dict[str, np.ndarray], end: int, seeds: Sequence[int], saved: int | None
) -> str | None:
    """Say where loss or gradient stopped being finite, or return None."""
    finite = np.isfinite(metrics["loss"]) & np.isfinite(metrics["gradient_norm"])
    if finite.all():
        return None
    bad_seeds, bad_steps = np.nonzero(~finite)
    first = bad_steps.min()
    bad = bad_seeds[bad_steps == first][0]
    kept = "no checkpoint was saved before" if saved is None else f"checkpoint {saved} is kept"
    return (
        f"loss {metrics['loss'][bad, first]} and gradient norm "
        f"{metrics['gradient_norm'][bad, first]} at step {end - finite.shape[1] + first + 1} "
        f"(seed {seeds[bad]}); {kept}. A lower learning rate may help."
    )


def _check(config: ConfigDict, num_devices: int) -> None:
    training, runtime, seeds = config.training, config.runtime, config.seeds
    whole = all(isinstance(seed, int) for seed in seeds)
    if not whole or not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds must be different whole numbers, such as (0, 1), not {seeds}.")
    if runtime.steps_per_call < 1:
        raise ConfigError(f"runtime.steps_per_call={runtime.steps_per_call} must be 1 or more.")
    for name, value in (
        ("training.num_steps", training.num_steps),
        ("training.log_every", training.log_every),
        ("training.eval_every", training.eval_every),
        ("runtime.checkpoint_every", runtime.checkpoint_every),
    ):
        if value < 1 or value % runtime.steps_per_call:
            raise ConfigError(
                f"{name}={value} must be a positive multiple of runtime.steps_per_call="
                f"{runtime.steps_per_call}."
            )
    for name in ("batch_size", "eval_batch_size"):
        if training[name] < 1:
            raise ConfigError(f"training.{name}={training[name]} must be 1 or more.")
        if training[name] % num_devices:
            raise ConfigError(
                f"training.{name}={training[name]} must be a multiple of the number of devices "
                f"that share it, {num_devices} (runtime.num_devices)."
            )
