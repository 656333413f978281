"""A sweep of real trainings on a real Slurm, to which everything happens that clusters do.

It needs root on a Debian with packages, some ten minutes and nothing else on the machine that is
called Slurm, so it has to be asked for:

    STN_TEST_SLURM=1 python -m pytest -n 0 -m slow tests/launch/test_slurm.py

STN_TEST_SLURM=quick, as in CI, takes four runs and two of the faults: three minutes. With
STN_CLUSTER_RESULTS=FOLDER, the log of the faults and the table are written there.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from tabulate import tabulate

from scripts import make_tables, sweep
from stn_jax.launch.slurm_queue import active_jobs
from stn_jax.launch.sweep import LOG, Run, expand, inspect, is_locked
from stn_jax.training.records import read_lines

ROOT = Path(__file__).parents[2]
NODE = ROOT / "scripts" / "slurm_node.sh"

QUICK = os.environ.get("STN_TEST_SLURM") == "quick"
# Table 1 with toy digits: 20 networks of all distortions, or four.
CONFIG = "configs/distorted_mnist.py"
SELECTION = "quickstart,R,RTS,P,E,TC,FCN,ST-FCN,Aff,Proj,TPS"
if QUICK:
    SELECTION = "quickstart,R,P,FCN,ST-FCN,Aff"
NUM_STEPS, CHECKPOINT_EVERY = 2000, 100  # the first is the recipe's
OVERRIDES = [
    f"--config.training.eval_every={NUM_STEPS}",
    "--config.training.log_every=10",
    f"--config.runtime.checkpoint_every={CHECKPOINT_EVERY}",
]
PROFILE = f"pack = {2 if QUICK else 5}\nat_once = 2\ngrace = 20\nminutes = 30\nattempts = 20\n"
HURRY_SECONDS = 5  # Slurm lets a job that was put back wait for two minutes
FAULT_SECONDS = 240
ATTEMPTS = 3  # of a fault to come before the run that it is for has ended
END_SECONDS = 1800


@dataclass
class Loss:
    """What a fault did to a run: it had come to `step`, as the session with a number."""

    fault: str
    run: Run
    step: int
    session: int


class Cluster:
    """The sweep on the cluster, and the faults."""

    def __init__(self, runs_dir: Path, profile: Path, selection: str = SELECTION):
        self.runs_dir = runs_dir
        self.runs = expand(CONFIG, selection, runs_dir, OVERRIDES)
        self._selection = selection
        self.losses: list[Loss] = []
        self._options = ["--launcher", "slurm", "--profile", str(profile)]
        self._since: dict[str, float] = {}

    def call(self, *options: str) -> int:
        """Call the sweep's command, and return its exit code."""
        return run_sweep(self.runs_dir, *self._options, *options, selection=self._selection)

    def hurry(self) -> None:
        """Let jobs that were put back begin, once their old processes are gone for sure."""
        held = {job.id for job in active_jobs() if job.reason == "BeginTime"}
        self._since = {job: self._since.get(job, time.monotonic()) for job in held}
        for job, since in self._since.items():
            if time.monotonic() > since + HURRY_SECONDS:
                slurm("scontrol", "update", f"JobId={job}", "StartTime=now")

    def training(self) -> list[Run]:
        """Wait until some runs are amid their training, and return them."""
        deadline = time.monotonic() + FAULT_SECONDS
        looked, before = 0.0, {}
        while time.monotonic() < deadline:
            steps = {run.name: last_step(run) for run in self.runs if is_locked(run)}
            # One that has just begun again has the steps of its last session, and none of its own.
            found = [
                run
                for run in self.runs
                if CHECKPOINT_EVERY < steps.get(run.name, 0) < 0.7 * NUM_STEPS
                and before.get(run.name, NUM_STEPS) < steps[run.name]
            ]
            before = steps
            if found:
                return found
            if time.monotonic() > looked + 2:
                looked = time.monotonic()
                self.hurry()
                if not active_jobs():
                    break
            time.sleep(0.02)
        self.call("--status")
        raise AssertionError("no run trains.")

    def job_of(self, run: Run) -> str:
        texts = (self.runs_dir / "slurm" / "submissions.jsonl").read_text().splitlines()
        submissions = [json.loads(text) for text in texts]
        packs = {line["name"]: line["packs"] for line in submissions if "packs" in line}
        for job in active_jobs():
            if job.state == "RUNNING" and run.name in packs.get(job.name, [[]])[job.index]:
                return job.id
        raise AssertionError(f"{run.name} is in no job.")

    def strike(self, name: str) -> bool:
        """Let a fault come over runs that train, and note how far they had come when they ended.

        Returns:
          Whether one of them was interrupted by it.
        """
        self.call()
        run, *_ = self.training()
        hit = getattr(self, name)(run)
        wait_until(lambda: not any(is_locked(other) for other in hit), f"{name} to end runs")
        for other in hit:
            lines = read_lines(other.workdir / "record.jsonl")
            sessions = sum(line["kind"] == "session" for line in lines)
            known = {(loss.run.name, loss.session) for loss in self.losses}
            # It may have been faster, or not have begun again since the last fault.
            if lines[-1]["kind"] != "end" and (other.name, sessions) not in known:
                self.losses.append(Loss(name, other, last_step(other), sessions))
        return any(loss.fault == name for loss in self.losses)

    def all_training(self) -> list[Run]:
        return [run for run in self.runs if is_locked(run)]

    def preempted(self, _: Run) -> list[Run]:
        """Another job needs the whole node, and goes first."""
        hit = self.all_training()
        slurm("sbatch", "--partition=high", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
        return hit

    def warned(self, run: Run) -> list[Run]:
        """What Slurm does when the time limit comes near."""
        slurm("scancel", "--signal=USR2", self.job_of(run))
        return [run]

    def requeued(self, run: Run) -> list[Run]:
        slurm("scontrol", "requeue", self.job_of(run))
        return [run]

    def cancelled(self, _: Run) -> list[Run]:
        hit = self.all_training()
        self.call("--cancel")
        wait_until(lambda: not active_jobs(), "jobs to be cancelled")
        return hit

    def killed(self, run: Run) -> list[Run]:
        """Its process gets SIGKILL."""
        kill(processes(f"--workdir {run.workdir} "))
        return [run]

    def node_died(self, _: Run) -> list[Run]:
        """The node's daemon and all that it started are gone without a word."""
        hit, state = self.all_training(), Path(os.environ["SLURM_NODE_STATE"])
        kill([int((state / "slurmd.pid").read_text())])
        kill(processes("slurmstepd: ["))
        kill(processes(str(self.runs_dir)))
        wait_until(lambda: "down" in slurm("sinfo", "--noheader", "--format=%T"), "a dead node")
        subprocess.run([NODE, "node", state], check=True)
        return hit

    def disk_full(self, _: Run) -> list[Run]:
        """Nothing can be written any more, until somebody makes room."""
        filler, hit = self.runs_dir / "filler", self.all_training()
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        wait_until(lambda: not any(map(is_locked, self.runs)), "the full disk to end runs")

        def all_ended() -> bool:
            self.hurry()
            return not active_jobs()

        wait_until(all_ended, "their jobs to end")
        filler.unlink()
        return hit

    def finish(self) -> None:
        """Call again until all is done."""
        deadline = time.monotonic() + END_SECONDS
        while self.call() != 0:
            assert time.monotonic() < deadline, "the sweep did not come to its end."
            self.hurry()
            time.sleep(3)

    def lost(self) -> list[tuple[Loss, int]]:
        """Return for each loss how many steps had to be done again."""
        found = []
        for loss in self.losses:
            lines = read_lines(loss.run.workdir / "record.jsonl")
            begins = [line["step"] for line in lines if line["kind"] == "session"]
            found.append((loss, loss.step - begins[loss.session]))
        return found


FAULTS = {
    "preempted": "a job of a partition that goes first took the node; saved, back in the queue",
    "warned": "SIGUSR2, as before the time limit; saved, back in the queue",
    "requeued": "`scontrol requeue`; saved, back in the queue",
    "killed": "SIGKILL to the training process; failed, submitted again",
    "cancelled": "`scripts/sweep.py --cancel`; saved, submitted again",
    "node_died": "SIGKILL to the node's daemon and all it had started; back in the queue",
    "disk_full": "no space left in the runs directory; failed, submitted again",
}


def run_sweep(runs_dir: Path, *options: str, selection: str = SELECTION) -> int:
    try:
        sweep.main(
            [f"{CONFIG}:{selection}", "--runs-dir", str(runs_dir), *options, "--", *OVERRIDES]
        )
    except SystemExit as exit_:
        return exit_.code or 0
    return 0


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def processes(text: str) -> list[int]:
    """Return the processes whose command line has a text in it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            if text in path.read_text(errors="replace").replace("\0", " "):
                found.append(int(path.parent.name))
    return found


def kill(found: list[int]) -> None:
    for process in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def wait_until(condition, what: str) -> None:
    deadline = time.monotonic() + FAULT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}."
        time.sleep(0.05)


def last_step(run: Run) -> int:
    return inspect(run).step


def results(run: Run) -> list[dict]:
    """Return what has to be the same however a run came to its end."""
    lines = read_lines(run.workdir / "record.jsonl")
    return [line for line in lines if line["kind"] in ("run", "train", "eval")]


def succeeds(*command) -> bool:
    return subprocess.run(command).returncode == 0


@pytest.fixture
def node(tmp_path, monkeypatch):
    """Start Slurm on this machine, and let the runs be on a small file system of their own."""
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin:/sbin")  # where daemons are
    reason = ""
    if os.environ.get("STN_TEST_SLURM") not in ("1", "quick"):
        reason = "STN_TEST_SLURM is neither 1 nor quick"
    elif missing := [name for name in ("submitit", "sklearn") if not find_spec(name)]:
        reason = f"{' and '.join(missing)} are not installed"
    elif os.geteuid() != 0:
        reason = "only root can install and start it"
    elif not shutil.which("slurmctld") and not succeeds("timeout", "120", NODE, "install"):
        reason = "its packages cannot be installed"
    if reason:
        pytest.skip(f"SLURM IS NOT TESTED: {reason}")
    # Whoever asks for all of it wants to know that it does not start; in CI it may not be let.
    give_up = pytest.skip if QUICK else pytest.fail

    state, runs_dir = tmp_path / "slurm", tmp_path / "runs"
    runs_dir.mkdir()
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)  # the database's user has to come through
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("SLURM_NODE_STATE", str(state))
    monkeypatch.setenv("SLURM_CPUS", "2")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with contextlib.ExitStack() as stack:
        if not succeeds("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", runs_dir):
            give_up("SLURM IS NOT TESTED: no file system can be mounted here")
        stack.callback(subprocess.run, ["umount", "--lazy", runs_dir], check=True)
        stack.callback(subprocess.run, [NODE, "down", state])
        if not succeeds("timeout", "120", NODE, "up", state):
            give_up("SLURM IS NOT TESTED: it does not start here")
        if not succeeds("timeout", "60", "srun", "true"):
            give_up("SLURM IS NOT TESTED: it starts no job here")
        yield tmp_path


@pytest.mark.slow
def test_a_sweep_survives_what_clusters_do(node):
    (node / "profile.toml").write_text(PROFILE)
    cluster = Cluster(node / "runs", node / "profile.toml")
    assert len(cluster.runs) >= (4 if QUICK else 20)
    began = time.monotonic()
    for name in ("requeued", "killed") if QUICK else FAULTS:
        print(f"{time.monotonic() - began:.0f} s: {name}", file=sys.stderr, flush=True)
        assert any(cluster.strike(name) for _ in range(ATTEMPTS)), f"{name} came too late."
    cluster.finish()
    seconds = time.monotonic() - began

    # Called once more, nothing is submitted; nothing was begun again after its end.
    submissions = (cluster.runs_dir / "slurm" / "submissions.jsonl").read_text()
    assert cluster.call() == 0
    assert (cluster.runs_dir / "slurm" / "submissions.jsonl").read_text() == submissions
    for run in cluster.runs:
        kinds = [line["kind"] for line in read_lines(run.workdir / "record.jsonl")]
        assert kinds.count("end") == 1 and kinds[-1] == "end"
        # What a run says that is begun again after its end.
        assert "finished before, nothing to do" not in (run.workdir / LOG).read_text()

    assert run_sweep(node / "local", "--workers", "1") == 0
    local = expand(CONFIG, SELECTION, node / "local", OVERRIDES)
    for run, undisturbed in zip(cluster.runs, local, strict=True):
        assert results(run) == results(undisturbed), run.name
    tables = []
    for folder in (cluster.runs_dir, node / "local"):
        make_tables.main([str(folder), "--out", str(node / f"{folder.name}-tables")])
        (path,) = (node / f"{folder.name}-tables").glob("*.md")
        tables.append(path.read_text().partition("\n\nRuns:")[0])
    assert tables[0] == tables[1]

    for loss, steps in cluster.lost():
        # The last checkpoint may have been under way when the process was killed.
        saves = loss.fault in ("preempted", "warned", "requeued", "cancelled")
        assert 0 <= steps <= (0 if saves else 2 * CHECKPOINT_EVERY), (loss, steps)
    if folder := os.environ.get("STN_CLUSTER_RESULTS"):
        write_results(Path(folder), cluster, tables[0], seconds)


@pytest.mark.slow
def test_two_tasks_train_a_run_that_is_signalled_and_goes_on(node):
    """Each with half of every batch, joined by what Slurm tells them."""
    tasks = "tasks_per_node = 2\ngrace = 20\nminutes = 30\n"
    (node / "profile.toml").write_text(tasks)
    selection = "quickstart,R,ST-FCN,Aff"
    cluster = Cluster(node / "runs", node / "profile.toml", selection)
    assert cluster.strike("warned")
    cluster.finish()
    (run,) = cluster.runs
    lines = read_lines(run.workdir / "record.jsonl")
    sessions = [line for line in lines if line["kind"] == "session"]
    assert [session["device"]["processes"] for session in sessions] == [2, 2]
    ((_, steps),) = cluster.lost()
    assert steps == 0 and sessions[1]["step"] > 0

    assert run_sweep(node / "local", "--workers", "1", selection=selection) == 0
    (alone,) = expand(CONFIG, selection, node / "local", OVERRIDES)
    # Sums of two halves are rounded otherwise, and training makes more of that.
    for ours, theirs in zip(results(run)[1:], results(alone)[1:], strict=True):
        assert ours["step"] == theirs["step"]
        if ours["step"] <= 50:
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
    assert ours["error"][0] == pytest.approx(theirs["error"][0], abs=5)


def write_results(folder: Path, cluster: Cluster, table: str, seconds: float) -> None:
    """Write the log of the faults, and the table that came of the sweep nevertheless."""
    rows = [
        [loss.fault, loss.run.name.partition("+")[0], loss.step, steps]
        for loss, steps in cluster.lost()
    ]
    head = ["fault", "run", "step that it had come to", "steps done again"]
    jobs = (cluster.runs_dir / "slurm" / "submissions.jsonl").read_text().count('"packs"')
    told = "\n".join(f"- {name}: {text}" for name, text in FAULTS.items())
    text = f"""# A sweep on Slurm, with faults

Written by `tests/launch/test_slurm.py`, which checks what it says: {len(cluster.runs)} runs of
{NUM_STEPS} steps with a checkpoint every {CHECKPOINT_EVERY}, on a cluster of one machine. All came
to their end, in {jobs} submissions and {seconds / 60:.0f} minutes. None was trained again after
that, and every loss and error is that of the same sweep without Slurm and without faults.

{tabulate(rows, head, tablefmt="github")}

{told}

## The table

{table}
"""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "faults.md").write_text(text)
