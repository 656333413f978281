import pytest

from stn_jax.launch import measuring


def test_without_rows_a_table_that_is_there_stays(tmp_path):
    out = tmp_path / "table.md"
    out.write_text("measured before")
    with pytest.raises(SystemExit, match="nothing is measured"):
        measuring.write([], ["run"], out, description="A.\n\nB.\n\nC.")
    assert out.read_text() == "measured before"
    measuring.write([["a"]], ["run"], out, description="A.\n\nB.\n\nC.")
    assert "| a" in out.read_text()
