"""Sweeps over a toy experiment that needs no JAX, and one over a real one."""

import contextlib
import io
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from scripts import sweep
from stn_jax.launch import local
from stn_jax.training.loop import _exclusive
from tests.launching import sweep_toy, write_toy

ROOT = Path(__file__).parents[2]

CONFIG = """
from ml_collections import ConfigDict

def get_config(selection="good"):
    config = ConfigDict()
    config.name = selection
    config.training = ConfigDict({"num_steps": 4})
    config.runtime = ConfigDict({"delay": 0.0})
    return config

def sweep(selection=""):
    return selection.split(",") if selection else ["good", "better"]
"""

# Trains nothing, but keeps its record, stops and continues as a real experiment does. Selections
# that are not a key of FATES come to a good end.
EXPERIMENT = """
import json, os, signal, sys, time
from pathlib import Path

def die(code, *message):
    print(*message, file=sys.stderr)
    sys.exit(code)

def stop_sweep(number, times):
    for _ in range(times):
        os.kill(os.getppid(), number)
        time.sleep(0.3)

FATES = {
    "bad": lambda: die(1, "warming up\\ntoy.py: there is no data."),
    "nan": lambda: die(3, "toy.py: loss nan."),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "early": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "endless": lambda: sys.exit(0),
    "ctrl-c": lambda: stop_sweep(signal.SIGINT, 1),
    "sigterm": lambda: stop_sweep(signal.SIGTERM, 1),
    "sighup": lambda: stop_sweep(signal.SIGHUP, 1),
    "stubborn": lambda: (signal.signal(signal.SIGTERM, signal.SIG_IGN), stop_sweep(2, 2)),
}

def main(config, workdir, overrides):
    record = Path(workdir, "record.jsonl")
    lines = [json.loads(x) for x in record.read_text().splitlines()] if record.exists() else []
    step = max((line["step"] for line in lines), default=0)

    def write(kind, **fields):
        with record.open("a") as file:
            file.write(json.dumps({"kind": kind, "step": step, **fields}) + "\\n")

    requests = []
    signal.signal(signal.SIGTERM, lambda *_: requests.append(1))
    process = {"began": time.time(), "cpus": sorted(CPUS), "group": os.getpgrp()}
    write("run" if not lines else "session", **process)
    FATES.get(config.partition(":")[2], lambda: None)()
    steps = int(overrides.get("--config.training.num_steps", 4))
    while step < steps:
        time.sleep(float(overrides.get("--config.runtime.delay", 0)))
        step += 1
        write("eval", split="test", loss=[0.5, 0.5], error=[10.0 - step, 20.0 - step])
        write("timing", seconds=60.0 * step)
        if requests:
            die(75, "toy.py: stopped.")
    write("end", seconds=60.0 * step, ended=time.time())

CPUS = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else []
flag1, config, flag2, workdir, *overrides = sys.argv[1:]
assert (flag1, flag2) == ("--config", "--workdir")
main(config, workdir, dict(text.split("=", 1) for text in overrides))
"""


def cores():
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


@pytest.fixture(autouse=True)
def toy(tmp_path, monkeypatch):
    write_toy(tmp_path, CONFIG, EXPERIMENT)
    monkeypatch.chdir(tmp_path)
    before = cores()
    yield
    assert cores() == before


def record(name):
    return [json.loads(x) for x in Path("runs", name, "record.jsonl").read_text().splitlines()]


def states(capsys, selection, *arguments):
    """Return the states that --status shows, and all it prints."""
    capsys.readouterr()
    assert sweep_toy("--status", *arguments, selection=selection) == 0
    text = capsys.readouterr().out
    rows = [line.split() for line in text.splitlines()[2 : 2 + len(selection.split(","))]]
    return {row[0]: row[1] for row in rows}, text


def test_all_runs_come_to_an_end_once(capsys):
    assert sweep_toy() == 0
    out = capsys.readouterr().out
    assert "2 runs: 2 waiting." in out and "2 runs: 2 done." in out
    assert "[1/2] good: finished, test error 11.00 % (04:00)" in out
    assert "[2/2] better: finished" in out
    assert record("good")[-1]["kind"] == "end"

    logs = [Path("runs", name, "log.txt").read_bytes() for name in ("good", "better")]
    assert sweep_toy() == 0
    assert logs == [Path("runs", name, "log.txt").read_bytes() for name in ("good", "better")]
    assert capsys.readouterr().out == "2 runs: 2 done.\n2 runs: 2 done.\n"


def test_a_failed_run_stops_no_other_and_is_explained(capsys):
    selection = "bad,nan,killed,early,endless,good"
    assert sweep_toy("--workers", "2", selection=selection) == 75
    out = capsys.readouterr().out
    reasons = {
        "bad": "toy.py: there is no data.",
        "nan": "toy.py: loss nan.",
        "killed": "killed by signal 9 (Killed)",
        "endless": "it ended without an error, but its record has no end.",
    }
    found, table = states(capsys, selection)
    assert found == dict.fromkeys(reasons, "failed") | {"early": "interrupted", "good": "done"}
    for name, reason in reasons.items():
        assert f"{name}: failed: {reason}" in out
        line = f"{name} failed ({Path('runs', name, 'log.txt')}): {reason}"
        assert line in out and line in table
    assert "6 runs: 1 done, 1 interrupted, 4 failed." in out
    assert "warming up" in Path("runs/bad/log.txt").read_text()


def test_the_exit_code_tells_failed_from_left():
    assert sweep_toy(selection="good,bad") == 1
    assert sweep_toy(selection="good,early") == 75
    assert sweep_toy(selection="good,early,bad") == 75


def test_a_failed_run_is_tried_again(capsys):
    assert sweep_toy(selection="bad") == 1
    experiment = Path("experiments/toy.py")
    experiment.write_text(experiment.read_text().replace('"bad":', '"worse":'))
    capsys.readouterr()
    assert sweep_toy(selection="bad") == 0
    assert "failed" not in capsys.readouterr().out.partition("\n")[2]


def test_a_directory_that_cannot_be_written_leaves_the_other_runs_alone(capsys):
    Path("runs").mkdir()
    Path("runs/good").write_text("in the way")
    assert sweep_toy("--workers", "2") == 1
    said = capsys.readouterr().out
    assert "2 runs: 1 done, 1 failed." in said
    assert re.search(r"good failed .*: .*(File exists|Not a directory)", said)


def test_a_run_that_the_time_budget_interrupts_continues_where_it_stopped(capsys):
    overrides = "--", "--config.training.num_steps=100", "--config.runtime.delay=0.05"
    name = "good+training.num_steps=100"
    selection = "good,better"
    began = time.monotonic()
    assert sweep_toy("--workers", "1", "--minutes", "0.02", *overrides, selection=selection) == 75
    assert time.monotonic() - began < 4  # the 100 steps alone take 5 s
    out = capsys.readouterr().out
    stopped = record(name)[-1]["step"]
    assert 1 <= stopped < 100
    assert f"{name}: asked to save and stop" in out
    assert f"{name}: interrupted at step {stopped}" in out
    assert "2 runs: 1 interrupted, 1 waiting.\nThe same command continues.\n" in out
    found, table = states(capsys, selection, *overrides)
    assert found == {name: "interrupted", "better+training.num_steps=100": "waiting"}
    error = rf"{15 - stopped:.2f} \(test\)"
    assert re.search(rf"interrupted +{stopped}/100 +{error} +0?{stopped}:00\n", table)

    assert sweep_toy("--workers", "2", *overrides[:2], selection=selection) == 0
    assert f"{name}: continues after step {stopped}\n" in capsys.readouterr().out
    lines = record(name)
    assert [line["step"] for line in lines if line["kind"] == "session"] == [stopped]
    assert [line["step"] for line in lines if line["kind"] == "eval"] == list(range(1, 101))


@pytest.mark.parametrize("name", ["ctrl-c", "sigterm", "sighup"])
def test_signals_stop_as_the_time_budget_does(capsys, name):
    """The toy sends the signal; it waits long enough to notice that it has to stop itself."""
    delay = "--config.runtime.delay=0.3"
    handler = signal.getsignal(signal.SIGINT)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored
    try:
        assert sweep_toy("--workers", "2", "--", delay, selection=f"{name},good,better") == 75
    finally:
        signal.signal(signal.SIGHUP, hangup)
    out = capsys.readouterr().out
    assert f"{name}: asked to save and stop" in out and f"{name}: interrupted at step 1" in out
    assert "good: asked to save and stop" in out and "good: interrupted" in out
    assert not Path("runs/better").exists()
    assert signal.getsignal(signal.SIGINT) is handler


def test_who_started_it_with_nohup_may_go(capsys):
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert sweep_toy("--workers", "2", selection="sighup,good") == 0
    finally:
        signal.signal(signal.SIGHUP, hangup)


def test_a_second_signal_does_not_wait(capsys):
    began = time.monotonic()
    delay = "--config.runtime.delay=30"
    assert sweep_toy("--workers", "2", "--", delay, selection="stubborn") == 75
    assert time.monotonic() - began < 10
    assert states(capsys, "stubborn")[0] == {"stubborn": "interrupted"}


def test_a_run_of_another_process_is_left_to_it(capsys):
    with _exclusive(Path("runs/good")):
        assert sweep_toy() == 75
        out = capsys.readouterr().out
        assert "good: another process is training it" in out
        assert "2 runs: 1 done, 1 running." in out
        assert states(capsys, "good,better")[0] == {"good": "running", "better": "done"}
    assert not Path("runs/good/log.txt").exists()
    assert sweep_toy() == 0


def test_a_run_that_another_process_takes_first_did_not_fail(monkeypatch, capsys):
    """As if the other had locked the directory after this sweep looked."""
    looks = []
    inspect = local.inspect

    def look(run):
        looks.append(run)
        progress = inspect(run)
        return replace(progress, state="waiting") if len(looks) == 1 else progress

    monkeypatch.setattr(local, "inspect", look)
    with _exclusive(Path("runs/bad")):
        assert sweep_toy(selection="bad") == 75
    assert "bad: another process is training it" in capsys.readouterr().out
    assert "exit code" not in Path("runs/bad/log.txt").read_text()


def test_a_dry_run_prints_commands_that_work(capsys):
    sweep_toy(selection="good")
    capsys.readouterr()
    arguments = "--dry-run", "--", "--config.runtime.delay=0.0"
    assert sweep_toy(*arguments, selection="good,a'b c+ü") == 0
    done, left, command = capsys.readouterr().out.splitlines()
    assert done == "# good: done" and re.fullmatch(r"# abc\+_-[0-9a-f]{8}: waiting", left)
    workdir = Path("runs", left.split()[1].rstrip(":"))
    assert not workdir.exists()
    workdir.mkdir()
    subprocess.run(shlex.split(command), check=True)
    assert record(workdir.name)[-1]["kind"] == "end"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")
def test_workers_run_side_by_side_on_their_own_cores():
    selection = "a,b,c,d"
    assert sweep_toy("--workers", "2", "--", "--config.runtime.delay=0.1", selection=selection) == 0
    shares = [set(share) for share in local.cpu_shares(2)]
    runs = [record(name) for name in "abcd"]
    assert {tuple(lines[0]["cpus"]) for lines in runs} == {tuple(sorted(s)) for s in shares}
    # Ctrl-C in a terminal goes to the sweep's group: it must not reach the workers as well.
    assert os.getpgrp() not in {lines[0]["group"] for lines in runs}
    spans = [(lines[0]["began"], lines[-1]["ended"]) for lines in runs]
    pairs = list(itertools.combinations(range(4), 2))
    together = [
        (i, j) for i, j in pairs if max(spans[i][0], spans[j][0]) < min(spans[i][1], spans[j][1])
    ]
    assert 1 <= len(together) <= 3
    if len(cores()) > 1:
        assert not any(set(runs[i][0]["cpus"]) & set(runs[j][0]["cpus"]) for i, j in together)


def test_a_sweep_that_breaks_leaves_no_process_behind(monkeypatch, capsys):
    def report(self, run, progress):
        if Path("runs/good/record.jsonl").exists():
            raise BrokenPipeError("nobody reads this")

    monkeypatch.setattr(sweep.Display, "report", report)
    monkeypatch.setattr(local, "REPORT_SECONDS", 0.0)
    assert sweep_toy("--", "--config.runtime.delay=0.3", selection="good") == 1
    assert "nobody reads this\n" in capsys.readouterr().err
    time.sleep(0.5)
    assert record("good")[-1]["kind"] != "end"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--", "--config.training.num_step=1"], 'Did you mean "num_steps"'),
        (["--", "num_steps=1"], "--config.FIELD=VALUE"),
        (["--workers", "0"], "invalid positive int value: '0'"),
        (["--minutes", "-1"], "invalid positive float value: '-1'"),
        (["--config.training.num_steps=1"], "[-- --config.FIELD=VALUE ...]"),
    ],
)
def test_a_wrong_command_line_starts_nothing(capsys, arguments, message):
    assert sweep_toy(*arguments) == 2
    out, err = capsys.readouterr()
    assert message in err and "Traceback" not in err and not out
    assert not Path("runs").exists()


def test_a_terminal_shows_all_steps_in_one_bar(monkeypatch):
    assert sweep_toy(selection="good") == 0
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    assert sweep_toy() == 0
    bars = terminal.getvalue().split("\r")
    assert any(" 4.00/8.00 " in bar and "step/s" in bar for bar in bars)
    assert any("8.00/8.00" in bar and "2 done" in bar for bar in bars)


def test_a_real_experiment_is_interrupted_and_continued(monkeypatch, tmp_path, capsys):
    """The sweep is asked to stop as soon as the first run begins to train."""
    pytest.importorskip("sklearn")
    monkeypatch.chdir(ROOT)
    runs_dir = tmp_path / "real"
    steps = 100
    arguments = [
        *("configs/distorted_mnist.py:quickstart,FCN,ST-FCN", "--runs-dir", str(runs_dir)),
        *("--workers", "1", "--", f"--config.training.num_steps={steps}"),
        *("--config.model.num_params=20000", "--config.training.batch_size=8"),
    ]

    def stop():
        while not any('"session"' in path.read_text() for path in runs_dir.glob("*/record.jsonl")):
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    with contextlib.ExitStack() as stack:
        thread = threading.Thread(target=stop, daemon=True)
        stack.callback(thread.join)
        thread.start()
        with pytest.raises(SystemExit) as stopped:
            sweep.main(arguments)
    assert stopped.value.code == 75
    assert "1 interrupted, 1 waiting" in capsys.readouterr().out
    with pytest.raises(SystemExit) as finished:
        sweep.main(arguments)
    assert not finished.value.code
    for name, sessions in (("R-FCN", 2), ("R-ST-FCN-Aff", 1)):
        (path,) = runs_dir.glob(f"{name}-quickstart+*/record.jsonl")
        lines = [json.loads(text) for text in path.read_text().splitlines()]
        assert [line["kind"] for line in lines].count("session") == sessions
        assert (lines[-1]["kind"], lines[-1]["step"]) == ("end", steps)
