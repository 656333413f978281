import json
import re

import pytest

from scripts import benchmark
from stn_jax.reporting import benchmarks as reporting
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
    assert (row["case"], row["work"]) == ("R FCN", "1 steps a call, 1 seeds")


def test_rows_of_the_same_code_and_machine_are_kept():
    first = benchmark.merged(None, [{"case": "a", "work": "b", "n": 1}, {"case": "c", "n": 2}])
    again = benchmark.merged(first, [{"case": "a", "work": "b", "n": 3}])
    assert [row["n"] for row in again["rows"]] == [2, 3]
    first["environment"]["code"] = "another"
    assert [row["n"] for row in benchmark.merged(first, [{"case": "d", "n": 4}])["rows"]] == [4]


def test_wrong_names_are_refused(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["--groups", "sampling"])
    assert "invalid choice: 'sampling'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        benchmark.main(["--out", "report.md"])
    assert "must end in .json" in capsys.readouterr().err


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
            row("[1]", facts={"bytes": 1e6}, stn_jax=times(0.001), PyTorch=times(0.004)),
            row("[2]", facts={"bytes": 1e6}, stn_jax=times(0.001)),
        ),
        "step": group(
            row("CNN", stn_jax=times(20), PyTorch=times(10)),
            row("ST-CNN Aff", stn_jax=times(25), PyTorch=times(30)),
        ),
        "throughput": group(
            *(
                row("R FCN", f"{n} steps, {seeds}", {"seeds": seeds}, stn_jax=times(ms))
                for n, seeds, ms in ((1, 1, 2), (10, 1, 1), (1, 3, 4), (10, 3, 2.4))
            )
        ),
    }


def test_what_a_report_says(report):
    text = re.sub(" +", " ", reporting.markdown(report))
    assert "| 0.001 (0.001 to 0.001) | 0.004 (0.004 to 0.004) | 0.25 " in text
    # 1 MB in 1 us is half of 2 TB/s.
    assert "2,000 GB/s" in text and text.count("| 50 %") == 2
    assert "| [2] " in text and "not measured" in text
    assert "| ST-CNN Aff | 1.25 | 3.00 |" in text
    # 10 steps a call are faster for both; 2.4 ms times 150,000 steps.
    assert "| R FCN | 1,000 | 10 steps, 1 | 417" in text
    assert "take 0.1 hours" in text
    assert "Measured on X1 (Y2, 3 cores); jax 1.2; code 0123456789ab, 2026-01-02." in text
    assert "## Peak memory of training steps on R\n\nNot measured." in text
