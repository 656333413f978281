import json
import re

import pytest

from scripts import benchmark
from stn_jax.reporting import benchmarks as reporting
from stn_jax.training import records
from tests.oracles import import_torch

QUICK = ["sampler", "grid", "scaling", "step", "memory"]


def test_quick_form_measures_and_reports(tmp_path, capsys, monkeypatch):
    import_torch()
    # The tests that follow in this process are to give their memory back.
    monkeypatch.setattr(benchmark, "keep_freed_memory", lambda: None)
    out = tmp_path / "b.json"
    benchmark.main(["--quick", "--groups", *QUICK, "--out", str(out)])
    report = json.loads(out.read_text())
    assert list(report) == QUICK
    for group in QUICK:
        assert report[group]["rows"], group
        assert report[group]["environment"]["packages"]["torch"]
    for name in ("stn_jax", "PyTorch"):
        assert report["memory"]["rows"][0]["mib"][name] > 1
        assert report["step"]["rows"][0]["contenders"][name]["seconds"] > 0
    assert capsys.readouterr().out.startswith(out.with_suffix(".md").read_text())
    assert (tmp_path / "b_scaling.png").stat().st_size > 10_000
    # A second call adds to the file.
    arguments = ["--groups", "throughput", "--selection", "R,FCN", "--out", str(out)]
    benchmark.main(["--quick", *arguments])
    report = json.loads(out.read_text())
    assert list(report) == [*QUICK, "throughput"]
    (row,) = report["throughput"]["rows"]
    assert (row["case"], row["work"]) == ("R FCN fast", "1 steps a call, 1 seeds")


@pytest.fixture
def measured(monkeypatch):
    """What is measured instead of the rows of a group: a list of names, and those asked for."""
    import_torch()
    asked = []

    def rows_of(group, args, done):
        for case in ("a", "b", "c"):
            if (case, "work") not in done:
                asked.append(case)
                yield {"case": case, "work": "work", "facts": {}, "contenders": {}}
                if case == rows_of.stops_after:
                    raise KeyboardInterrupt

    rows_of.stops_after = None
    monkeypatch.setattr(benchmark, "rows_of", rows_of)
    monkeypatch.setattr(benchmark, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(records, "_code_version", lambda: "0123456789ab")
    return rows_of, asked


def test_what_was_measured_survives_and_is_not_measured_again(tmp_path, measured, monkeypatch):
    rows_of, asked = measured
    arguments = ["--groups", "grid", "--out", str(tmp_path / "b.json")]
    rows_of.stops_after = "b"
    with pytest.raises(KeyboardInterrupt):
        benchmark.main(arguments)
    rows_of.stops_after = None
    benchmark.main(arguments)
    assert asked == ["a", "b", "c"]
    benchmark.main([*arguments, "--again"])
    assert asked == ["a", "b", "c"] * 2
    report = json.loads((tmp_path / "b.json").read_text())
    assert [row["case"] for row in report["grid"]["rows"]] == ["a", "b", "c"]
    # Of other code, or code that nobody can look up, everything is.
    for code in ("another", "another+changes", "another+changes"):
        monkeypatch.setattr(records, "_code_version", lambda code=code: code)
        benchmark.main(arguments)
    assert asked == ["a", "b", "c"] * 5
    assert not list(tmp_path.glob("*.tmp"))


def test_jax_and_pytorch_on_different_devices_are_not_compared(tmp_path, measured, monkeypatch):
    from stn_jax.benchmarks import pytorch

    monkeypatch.setattr(pytorch, "described", lambda: {"device": "NVIDIA X1"})
    with pytest.raises(SystemExit, match="JAX runs on cpu, PyTorch on NVIDIA X1"):
        benchmark.main(["--groups", "grid", "--out", str(tmp_path / "b.json")])


def test_wrong_names_are_refused(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["--groups", "sampling"])
    assert "invalid choice: 'sampling'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        benchmark.main(["--out", "report.md"])
    assert "must end in .json" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        benchmark.main(["--quick"])
    assert "say with --out where it goes" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        benchmark.main(["--groups", "step", "--selection", "R"])
    assert "--selection is for --groups throughput" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        benchmark.main(["--groups", "throughput", "--selection", "Q"])
    assert "--selection: no 'Q' to select" in capsys.readouterr().err


def times(milliseconds):
    seconds = milliseconds / 1e3
    return {"seconds": seconds, "low": seconds, "high": seconds, "first": 2.0, "rounds": 5}


@pytest.fixture
def report():
    environment = {
        "code": "0123456789ab",
        "packages": {"jax": "1.2"},
        "device": {"platform": "gpu", "kind": "X1", "cpu": "Y2", "cores": 3},
    }

    def group(*rows):
        return {"environment": environment, "time": "2026-01-02", "rows": list(rows)}

    def row(case, work="forward", facts=None, **contenders):
        return {"case": case, "work": work, "facts": facts or {}, "contenders": contenders}

    return {
        "copy": group(row("1 GiB", facts={"bytes": 4e9}, stn_jax=times(2))),
        "sampler": group(
            row("[1]", facts={"bytes": 1e9}, stn_jax=times(1), PyTorch=times(4)),
            row("[2]", facts={"bytes": 1e6}, stn_jax=times(0.001)),
            row(
                "[3]",
                facts={"bytes": 1e9},
                stn_jax={"error": "X: y"},
                **{"PyTorch": times(4), "PyTorch, channels last": times(2)},
            ),
            row(
                "[4]",
                facts={"bytes": 1e9},
                stn_jax=times(1),
                **{"PyTorch": times(4), "PyTorch, channels last": times(2)},
            ),
        ),
        "step": group(
            row("CNN", facts={"steps_per_call": 10}, stn_jax=times(20), PyTorch=times(10)),
            row("ST-CNN Aff", facts={"steps_per_call": 10}, stn_jax=times(25), PyTorch=times(30)),
            row(
                "ST-CNN TPS",
                facts={"steps_per_call": 10},
                stn_jax=times(27),
                **{"PyTorch": times(30), "torch.compile": times(9)},
            ),
        ),
        "throughput": group(
            *(
                row("R FCN", f"{n} steps, {seeds}", {"seeds": seeds}, stn_jax=times(ms))
                for n, seeds, ms in ((1, 1, 2), (10, 1, 1), (1, 3, 4), (10, 3, 2.4))
            ),
            row("R CNN", "1 steps, 1", {"seeds": 1}, stn_jax=times(4)),
            row("R CNN", "1 steps, 3", {"seeds": 3}, stn_jax=times(16)),
        ),
    }


def test_what_a_report_says(report):
    text = re.sub(" +", " ", reporting.markdown(report))
    assert "| 1 (1 to 1) | 4 (4 to 4) | not measured | 0.25 " in text
    # 1 GB in 1 ms is half of 2 TB/s; what fits a cache says nothing.
    assert "2,000 GB/s" in text and text.count("| 50 %") == 2 and text.count("| – |") == 2
    # The faster of PyTorch's layouts counts, and what it compiles.
    assert "| 1 (1 to 1) | 4 (4 to 4) | 2 (2 to 2) | 0.50 " in text
    assert "| 27 (27 to 27) | 30 (30 to 30) | 9 (9 to 9) | 3.00 |" in text
    assert "Failed:\n\n- [3], forward, stn_jax: X: y" in text
    assert "| [2] " in text and "not measured" in text
    assert "| ST-CNN Aff | 1.25 | 3.00 |" in text
    assert "stn_jax takes 10 steps in one call" in text
    # 10 steps a call are faster for both; 2.4 ms times 150,000 steps. The CNN's three seeds are
    # faster one after the other: three times 4 ms.
    assert "| R FCN | 1,000 | 10 steps, 1 | 417" in text
    assert "These 2 models, 150,000 iterations and three seeds each, take 36 minutes" in text
    assert "Measured on X1 (Y2, 3 cores); jax 1.2; code 0123456789ab, 2026-01-02." in text
    assert "## Peak memory of training steps on R, compiling included\n\nNot measured." in text
