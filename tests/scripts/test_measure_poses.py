import numpy as np
import pytest

from scripts.measure_poses import error_gap, within_class_variance
from stn_jax.launch.saved import rotation_degrees
from stn_jax.reporting.runs import find_runs
from tests.reporting.synthetic import write_record


def test_variance_within_classes_against_a_loop():
    images = np.random.default_rng(0).normal(size=(9, 3, 2, 1))
    label = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
    expected = 0.0
    for k in range(3):
        members = [image for image, own in zip(images, label, strict=True) if own == k]
        mean = sum(members) / len(members)
        expected += sum(((m - mean) ** 2).sum() for m in members) / len(members) / 3
    assert within_class_variance(images, label) == pytest.approx(expected)
    alike = images[:1].repeat(9, axis=0)
    assert within_class_variance(alike, label) == pytest.approx(0, abs=1e-12)


def test_angle_of_rotations_under_scale_and_translation():
    angle = np.radians([-170, -30, 0, 45, 120])
    cos, sin, zero = np.cos(angle), np.sin(angle), np.zeros(5)
    theta = 0.7 * np.stack([cos, -sin, zero + 1, sin, cos, zero - 2], axis=1)
    np.testing.assert_allclose(rotation_degrees(theta.reshape(-1, 2, 3)), np.degrees(angle))


def test_gap_is_the_last_test_error_less_the_last_training_error(tmp_path):
    more = [{"kind": "train", "step": 2000, "loss": [0.1], "error": [0.25]}]
    write_record(tmp_path / "a", errors=[1.5], more=more)
    run = find_runs([tmp_path])[0]
    assert error_gap(run) == pytest.approx(1.5 - 0.25)
