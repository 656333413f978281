import errno
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stn_jax.training.checkpoints import Checkpoints
from stn_jax.training.errors import RunError
from stn_jax.training.state import create_state


def state(width=3):
    return create_state(lambda key: ({"w": jnp.ones((width, 2))}, {}), optax.adam(0.1), (4, 7))


def test_round_trip_and_only_a_few_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.latest_step is None
    saved = state()._replace(step=jnp.asarray([5, 5]))
    for step in (1, 2, 3):
        checkpoints.save(step, saved, {"count": step})
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path)
    restored, progress = checkpoints.restore(state())
    assert progress == {"count": 3}
    np.testing.assert_array_equal(restored.step, [5, 5])
    np.testing.assert_array_equal(restored.seed, [4, 7])
    np.testing.assert_array_equal(restored.opt_state[0].mu["w"], np.zeros((2, 3, 2)))
    checkpoints.close()
    assert {path.name for path in tmp_path.iterdir()} == {"2", "3"}


def test_another_model_is_refused_with_a_reason(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(), {})
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(
        RunError,
        match=r"checkpoint 1 in .* of another model: params/w \[2, 3, 2\] there, \[2, 4, 2\] here",
    ):
        checkpoints.restore(state(width=4))
    checkpoints.close()


def test_an_unfinished_save_is_not_a_checkpoint(tmp_path):
    """What a process killed while saving leaves behind has a temporary name."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(), {})
    checkpoints.close()
    left = tmp_path / "2.orbax-checkpoint-tmp"
    left.mkdir()
    for step, cleanup in ((3, False), (4, True)):
        checkpoints = Checkpoints(tmp_path, cleanup=cleanup)
        assert checkpoints.latest_step in (1, 3)
        checkpoints.save(step, state(), {})  # waits until it is removed
        checkpoints.close()
        assert left.exists() != cleanup


def test_damage_is_named_with_what_is_there_without_it(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, state(), {})
    checkpoints.close()
    for path in (tmp_path / "2").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(RunError, match="checkpoint 2 in .* is damaged: .* continues from step 1"):
        checkpoints.restore(state())
    checkpoints.close()
    shutil.rmtree(tmp_path / "2")
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.restore(state())[1] == {}
    checkpoints.close()


def test_arrays_that_are_cut_short_are_damage(tmp_path):
    """What describes them is whole then; Orbax raises an exception of no narrower class."""

    def init(key):
        return {"w": jax.random.normal(key, (10_000, 2))}, {}

    large = create_state(init, optax.adam(0.1), (4, 7))
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, large, {})
    checkpoints.close()
    largest = max((tmp_path / "2" / "state").rglob("d/*"), key=lambda path: path.stat().st_size)
    with largest.open("r+b") as file:
        file.truncate(largest.stat().st_size // 2)
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(RunError, match="checkpoint 2 in .* is damaged: .* continues from step 1"):
        checkpoints.restore(large)
    checkpoints.close()


def test_what_cannot_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(), {})
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path)

    def stale(*_, **__):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(checkpoints._manager, "restore", stale)
    with pytest.raises(RunError, match="checkpoint 1 in .* cannot be read: .*Stale file handle"):
        checkpoints.restore(state())
    checkpoints.close()


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path, monkeypatch):
    """Orbax raises this at the next save or at the end; seen on a real, full file system."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(), {})
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path)

    def full(*_, **__):
        raise ValueError("RESOURCE_EXHAUSTED: Error writing: No space left on device [28]\nmore")

    monkeypatch.setattr(checkpoints._manager, "save", full)
    with pytest.raises(RunError, match=r"no space left on device. The last complete .* is 1;"):
        checkpoints.save(2, state(), {})
    checkpoints.close()
