"""What is submitted, and what is known of it, with programs that answer as Slurm's would."""

import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from stn_jax.launch import slurm, slurm_job
from stn_jax.launch.files import append_json, exclusive
from stn_jax.launch.profile import Profile
from stn_jax.launch.slurm_job import Pack
from stn_jax.launch.slurm_queue import Job, active_jobs, cancel_jobs, ended_jobs
from stn_jax.launch.sweep import LOG, Progress, Run, count_failures, note_exit
from stn_jax.training.loop import _exclusive

SBATCH = """#!/bin/sh
cat "$1" >> sbatch.log
[ -e refuse ] && { echo "sbatch: error: invalid account" >&2; exit 1; }
echo "Submitted batch job $(cat next_id)"
"""
ANSWER = """#!/bin/sh
echo "$(basename "$0")" "$@" >> asked.log
[ -e "$(basename "$0").down" ] && { echo "Unable to contact the controller" >&2; exit 1; }
cat "$(basename "$0").txt" 2> /dev/null || true
"""


@pytest.fixture(autouse=True)
def cluster(tmp_path, monkeypatch):
    """Make squeue and sacct print squeue.txt and sacct.txt of the working directory."""
    programs = {"sbatch": SBATCH} | dict.fromkeys(("squeue", "sacct", "scancel", "srun"), ANSWER)
    (tmp_path / "bin").mkdir()
    for name, text in {**programs, "scontrol": ANSWER}.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    Path("next_id").write_text("12")
    return tmp_path


def make_runs(names, runs_dir="runs"):
    return [Run(name, Path(runs_dir, name), 4, (sys.executable, "-c", "")) for name in names]


def write_record(run, *kinds):
    run.workdir.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"kind": kind, "step": 2 * i}) + "\n" for i, kind in enumerate(kinds)]
    (run.workdir / "record.jsonl").write_text("".join(lines))


def fail(run, code=1):
    run.workdir.mkdir(parents=True, exist_ok=True)
    with (run.workdir / LOG).open("a") as log:
        log.write("toy.py: there is no data.\n")
    note_exit(run, code)


def submitted(name, packs, job="12"):
    """Leave behind what a submission does."""
    Path("runs/slurm").mkdir(parents=True, exist_ok=True)
    with Path("runs/slurm/submissions.jsonl").open("a") as file:
        file.write(json.dumps({"name": name, "packs": [list(pack) for pack in packs]}) + "\n")
        if job:
            file.write(json.dumps({"name": name, "job": job}) + "\n")


def places():
    return slurm.find_places(Path("runs"))


def planned(runs, **profile):
    packs = slurm.plan(runs, Profile(**profile), places=places())
    return ["".join(run.name for run in pack) for pack in packs]


def state(run):
    progress = slurm.inspect_in(places(), run)
    return progress.state, progress.message


def test_packs_are_as_even_as_they_can_be():
    runs = make_runs("abcdefg")
    assert planned(runs) == list("abcdefg")
    assert planned(runs, pack=3) == ["ab", "cd", "efg"]
    assert planned(runs, pack=100) == ["abcdefg"]
    assert planned([]) == []


def test_what_is_done_or_running_or_queued_is_not_submitted_again():
    runs = make_runs("abcdef")
    write_record(runs[0], "run", "end")
    write_record(runs[1], "run", "eval")
    submitted("stn-1", ["bc", "d"])
    Path("squeue.txt").write_text("12_0|stn-1|PENDING|Resources\n99|other|RUNNING|None\n")
    with _exclusive(runs[4].workdir):
        assert planned(runs) == ["d", "f"]
        assert state(runs[4]) == ("running", "another process is training it")
    assert state(runs[0]) == ("done", "")
    assert state(runs[1]) == ("interrupted", "job 12_0 pending (Resources)")
    assert state(runs[2]) == ("waiting", "job 12_0 pending (Resources)")
    assert state(runs[5]) == ("waiting", "")


def test_a_submission_whose_id_was_not_noted_is_found_by_its_name():
    """As if the program had been killed while sbatch ran."""
    runs = make_runs("ab")
    submitted("stn-1", ["a", "b"], job="")
    Path("squeue.txt").write_text("12_0|stn-1|RUNNING|None\n12_1|stn-1|PENDING|Priority\n")
    assert planned(runs) == []
    Path("squeue.txt").write_text("12_1|stn-1|PENDING|Priority\n")
    assert planned(runs) == ["a"]


def test_a_run_that_was_submitted_again_is_where_its_active_job_is():
    (run,) = make_runs("a")
    for number in (1, 2):
        submitted(f"stn-{number}", ["a"], job=str(10 + number))
    Path("squeue.txt").write_text("12|stn-2|RUNNING|None\n")
    Path("sacct.txt").write_text("11|stn-1|NODE_FAIL\n12|stn-2|RUNNING\n")
    assert state(run) == ("waiting", "job 12 running")
    with _exclusive(run.workdir):
        assert state(run) == ("running", "in job 12")


def jobs_that_share_a_run():
    """Run a was submitted with job 11, which is back in the queue, and again with b in job 12."""
    submitted("stn-1", ["a"], job="11")
    submitted("stn-2", ["ab"], job="12")
    return make_runs("ab")


def test_runs_that_share_a_job_are_told_apart():
    a, b = jobs_that_share_a_run()
    Path("squeue.txt").write_text("11|stn-1|RUNNING|None\n12|stn-2|PENDING|None\n")
    assert [state(run)[1] for run in (a, b)] == ["job 11 running", "job 12 pending"]
    Path("squeue.txt").write_text("11|stn-1|RUNNING|None\n")
    Path("sacct.txt").write_text("12|stn-2|FAILED\n")
    assert state(a)[1] == "job 11 running" and "job 12 ended: FAILED" in state(b)[1]
    assert planned([a, b]) == ["b"]


def test_all_jobs_of_a_run_are_cancelled():
    a, b = jobs_that_share_a_run()
    Path("squeue.txt").write_text("11|stn-1|RUNNING|None\n12|stn-2|PENDING|None\n13|x|RUNNING|\n")
    for runs, jobs in (([a], ["11", "12"]), ([b], ["12"]), ([], [])):
        assert slurm.cancel(runs, runs_dir=Path("runs")) == jobs
    asked = [x for x in Path("asked.log").read_text().splitlines() if x.startswith("scancel")]
    assert asked == ["scancel 11 12", "scancel 12"]


def test_a_line_that_a_full_disk_cut_off_is_passed_over():
    submitted("stn-1", ["a"])
    path = Path("runs/slurm/submissions.jsonl")
    path.write_text(path.read_text() + '{"name": "stn-2", "pa')
    append_json(path, {"name": "stn-3", "packs": [["b"]]})
    Path("squeue.txt").write_text("12|stn-1|RUNNING|None\n14|stn-3|RUNNING|None\n")
    assert {name: place.job.id for name, place in places().items()} == {"a": "12", "b": "14"}


def test_the_log_of_a_lost_job_of_an_array_is_named():
    submitted("stn-1", ["a", "b"])
    assert "its log is runs/slurm/stn-1/12_1_0_log.out" in state(make_runs("b")[0])[1]


@pytest.mark.parametrize("ended", ["NODE_FAIL", "CANCELLED by 0", "TIMEOUT", "PREEMPTED"])
def test_jobs_that_end_early_leave_their_runs_to_the_next_call(ended):
    (run,) = make_runs("a")
    submitted("stn-1", ["a"])
    Path("sacct.txt").write_text(f"12|stn-1|{ended}\n")
    log = "runs/slurm/stn-1/12_0_log.out"
    assert state(run) == ("waiting", f"job 12 ended: {ended.split()[0]}; its log is {log}")
    assert planned([run], attempts=1) == ["a"]


def test_jobs_that_cannot_begin_are_failures_up_to_a_limit():
    (run,) = make_runs("a")
    for number in (1, 2):
        submitted(f"stn-{number}", ["a"], job=f"1{number}")
    Path("sacct.txt").write_text("11|stn-1|FAILED\n12|stn-2|OUT_OF_MEMORY\n")
    found, message = state(run)
    assert found == "failed" and "job 12 ended: OUT_OF_MEMORY" in message
    states, packs = slurm.submit([run], Profile(attempts=2), runs_dir=Path("runs"))
    assert not packs and states["a"].message.endswith("Left alone after 2 attempts (--attempts).")
    assert planned([run], attempts=3) == ["a"]
    assert planned([run], attempts=2) == []


def test_a_run_that_fails_is_submitted_up_to_a_limit():
    (run,) = make_runs("a")
    for code in (1, 75, -15, -9, -12, 2):
        fail(run, code)
    assert count_failures(run) == 3
    assert state(run) == ("failed", "toy.py: there is no data.")
    assert planned([run], attempts=4) == ["a"]
    assert planned([run], attempts=3) == []


def test_a_run_that_diverged_is_not_submitted_again():
    (run,) = make_runs("a")
    fail(run, 3)
    assert planned([run]) == []
    states, packs = slurm.submit([run], Profile(), runs_dir=Path("runs"))
    assert not packs
    assert states["a"].message.endswith("no data. Left alone as it would diverge again.")


def test_without_accounting_a_lost_job_is_unknown():
    (run,) = make_runs("a")
    submitted("stn-1", ["a"])
    Path("sacct.down").touch()
    assert state(run)[0] == "waiting" and "ended: UNKNOWN" in state(run)[1]
    assert planned([run]) == ["a"]


def test_without_an_answer_of_the_controller_nothing_is_submitted():
    submitted("stn-1", ["a"])
    Path("squeue.down").touch()
    with pytest.raises(RuntimeError, match="squeue failed: Unable to contact the controller"):
        slurm.submit(make_runs("a"), Profile(), runs_dir=Path("runs"))
    assert not Path("sbatch.log").exists()


def test_answers_are_read():
    Path("squeue.txt").write_text("7_2|x|PENDING|Dependency\n\n8|y|RUNNING|None\n")
    assert active_jobs() == [Job("7_2", "x", "PENDING", "Dependency"), Job("8", "y", "RUNNING")]
    assert [job.index for job in active_jobs()] == [2, 0]
    Path("sacct.txt").write_text("7_[3-9]|x|PENDING\n7_1|x|CANCELLED by 5\n")
    assert ended_jobs(["7"]) == [Job("7_1", "x", "CANCELLED")]
    cancel_jobs([])
    cancel_jobs(["7_1", "8"])
    asked = Path("asked.log").read_text().splitlines()
    assert asked[-1] == "scancel 7_1 8" and sum("scancel" in line for line in asked) == 1


def test_a_missing_program_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RuntimeError, match="squeue: .*No such file"):
        active_jobs()


def submit(runs, **profile):
    pytest.importorskip("submitit")
    return slurm.submit(runs, Profile(**profile), runs_dir=Path("runs"))


def test_an_array_is_submitted_with_its_cap_and_resources():
    options = {"partition": "gpu", "account": "me", "minutes": 30, "gpus": 1, "memory_gb": 2.5}
    _, packs = submit(make_runs("abcde"), pack=2, at_once=2, more={"constraint": "a100"}, **options)
    assert [len(pack) for pack in packs] == [1, 2, 2]
    script = Path("sbatch.log").read_text()
    for line in (
        *("--array=0-2%2", "--partition=gpu", "--account=me", "--time=30", "--gpus-per-node=1"),
        *("--mem=2560M", "--constraint=a100", "--requeue", "--signal=USR2@90"),
    ):
        assert f"#SBATCH {line}\n" in script
    (name,) = re.findall(r"--job-name=(\S+)", script)
    lines = [json.loads(x) for x in Path("runs/slurm/submissions.jsonl").read_text().splitlines()]
    assert lines[0]["packs"] == [["a"], ["b", "c"], ["d", "e"]]
    assert lines[1] == {"name": name, "job": "12"}
    assert len(list(Path("runs/slurm", name).glob("12_*_submitted.pkl"))) == 3


def test_only_what_is_left_is_submitted_again():
    runs = make_runs("abc")
    submit(runs)
    name = json.loads(Path("runs/slurm/submissions.jsonl").read_text().splitlines()[0])["name"]
    write_record(runs[0], "run", "end")
    Path("squeue.txt").write_text(f"12_1|{name}|RUNNING|None\n")
    Path("next_id").write_text("13")
    states, packs = submit(runs)
    assert [[run.name for run in pack] for pack in packs] == [["c"]]
    assert states["a"] == Progress("done", 2)
    assert states["b"] == Progress("waiting", message="job 12_1 running")
    assert len(list(Path("runs/slurm").glob("stn-*/13_submitted.pkl"))) == 1


def test_a_refusal_is_told_in_a_line_and_leaves_nothing_in_the_queue():
    Path("refuse").touch()
    with pytest.raises(RuntimeError, match="^sbatch failed: .*invalid account"):
        submit(make_runs("ab"))
    Path("refuse").unlink()
    assert state(make_runs("a")[0]) == ("waiting", "")
    assert len(submit(make_runs("ab"))[1]) == 2


def test_variables_of_sbatch_do_not_go_before_the_profile(monkeypatch):
    """A job of another name would not be known again."""
    program = Path("bin/sbatch")
    program.write_text(program.read_text().replace("cat", "env | grep SBATCH_ > seen; cat", 1))
    for name in ("JOB_NAME", "PARTITION", "ACCOUNT"):
        monkeypatch.setenv(f"SBATCH_{name}", "mine")
    submit(make_runs("a"), partition="gpu")
    assert Path("seen").read_text() == "SBATCH_ACCOUNT=mine\n"
    assert os.environ["SBATCH_JOB_NAME"] == "mine"


def test_two_sweeps_of_a_directory_do_not_submit_at_once():
    with (
        exclusive(Path("runs/slurm/lock"), busy="taken"),
        pytest.raises(RuntimeError, match="another process submits runs of runs"),
    ):
        submit(make_runs("a"))


# Takes steps until it is told to stop; writes what a run does.
TRAINING = """
import json, signal, sys, time
from pathlib import Path
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
record = Path(sys.argv[1], "record.jsonl")
write = lambda kind, step: record.open("a").write(
    json.dumps({"kind": kind, "step": step}) + chr(10))
write("run", 0)
Path("began").touch()
while not stop and not Path("go").exists(): time.sleep(0.01)
write("timing", 3)
if stop: sys.exit(75)
write("end", 4)
"""


def toy(name, program=TRAINING):
    return Run(name, Path("runs", name), 4, (sys.executable, "-c", program, f"runs/{name}"))


def in_job(monkeypatch, runs, *, signalled, **env):
    """Run a pack as its job does; signals come once the first run trains."""
    for variable, value in {"SLURM_JOB_ID": "21", **env}.items():
        monkeypatch.setenv(variable, value)

    class Report:
        def __call__(self, run, progress):
            if signalled and Path("began").exists():
                for number in signalled:
                    os.kill(os.getpid(), number)
                Path("began").unlink()

    monkeypatch.setattr(slurm_job, "_Report", Report)
    monkeypatch.setattr("stn_jax.launch.local.REPORT_SECONDS", 0.0)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    try:
        Pack(runs=runs, workers=1, restarts=2)()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    asked = Path("asked.log")
    return [x for x in asked.read_text().splitlines() if "requeue" in x] if asked.exists() else []


def test_a_job_trains_its_runs_to_the_end_and_does_not_come_back(monkeypatch):
    Path("go").touch()
    Path("squeue.txt").write_text("RUNNING\n")
    runs = [toy("a"), toy("b")]
    assert in_job(monkeypatch, runs, signalled=()) == []
    assert [slurm.inspect_in({}, run).state for run in runs] == ["done", "done"]


@pytest.mark.parametrize("signalled", [[signal.SIGUSR2], [signal.SIGTERM], [signal.SIGUSR2, 15]])
def test_a_job_that_is_signalled_saves_and_comes_back(monkeypatch, signalled):
    Path("squeue.txt").write_text("RUNNING\n")
    array = {"SLURM_ARRAY_JOB_ID": "20", "SLURM_ARRAY_TASK_ID": "3"}
    runs = [toy("a"), toy("b")]
    requeued = in_job(monkeypatch, runs, signalled=signalled, **array)
    assert requeued == ["scontrol requeue 20_3"]
    assert [slurm.inspect_in({}, run).state for run in runs] == ["interrupted", "waiting"]


@pytest.mark.parametrize("back", [True, False])
def test_a_controller_that_does_not_answer_is_asked_again(monkeypatch, capsys, back):
    Path("squeue.txt").write_text("RUNNING\n")
    Path("squeue.down").touch()

    def sleep(seconds):
        if back:
            Path("squeue.down").unlink()

    runs = [toy("a")]
    monkeypatch.setattr(slurm_job, "time", SimpleNamespace(sleep=sleep))
    requeued = in_job(monkeypatch, runs, signalled=[signal.SIGTERM])
    assert requeued == (["scontrol requeue 21"] if back else [])
    said = capsys.readouterr().out
    assert "squeue failed: Unable to contact the controller (for 0 s)" in said
    assert ("There is more to do: call the sweep again." in said) != back


@pytest.mark.parametrize("job_state", ["COMPLETING", "CANCELLED", ""])
def test_a_job_that_was_cancelled_saves_and_stays_away(monkeypatch, job_state):
    Path("squeue.txt").write_text(job_state)
    runs = [toy("a")]
    assert in_job(monkeypatch, runs, signalled=[signal.SIGTERM]) == []
    assert slurm.inspect_in({}, runs[0]) == Progress("interrupted", 3)


def test_a_job_too_short_for_a_step_does_not_come_back_for_ever(monkeypatch):
    Path("squeue.txt").write_text("RUNNING\n")
    stuck = TRAINING.replace('"timing", 3', '"timing", 0')
    for restarts, comes_back in ((1, True), (2, False)):
        shutil.rmtree("runs", ignore_errors=True)
        env = {"SLURM_RESTART_COUNT": str(restarts)}
        asked = in_job(monkeypatch, [toy("a", stuck)], signalled=[signal.SIGTERM], **env)
        assert bool(asked) == comes_back
        Path("asked.log").unlink(missing_ok=True)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_tasks_train_one_run_together_and_the_first_brings_the_job_back(monkeypatch, rank):
    Path("squeue.txt").write_text("RUNNING\n")

    def warn():
        while not Path("began").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR2)

    thread = threading.Thread(target=warn)
    thread.start()
    run = toy("a")
    env = {"SLURM_NTASKS": "2", "SLURM_PROCID": rank}
    requeued = in_job(monkeypatch, [run], signalled=(), **env)
    thread.join()
    assert requeued == (["scontrol requeue 21"] if rank == "0" else [])
    log = (run.workdir / ("log.txt" if rank == "0" else "log-1.txt")).read_text()
    assert "--distributed --config.runtime.num_devices=0" in log
    assert ("exit code 75" in log) == (rank == "0")
    assert len(list(run.workdir.glob("log*"))) == 1
