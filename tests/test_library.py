"""What docs/library.md says of the library is there, and works."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stn_jax import geometry, models
from tests.oracles import import_torch

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "library.md").read_text(encoding="utf-8")
CODE = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_code_blocks_run_in_order():
    names = {}
    for number, code in enumerate(CODE, 1):
        exec(compile(code, f"docs/library.md, code block {number}", "exec"), names)
    images, sheared, crops = names["images"], names["sheared"], names["crops"]
    assert sheared.shape == images.shape and np.abs(sheared - images).max() > 0.1
    identity = names["shear"].grid(jnp.zeros((4, 1)), (32, 32))
    np.testing.assert_array_equal(geometry.sample(images, identity), images)
    assert crops.shape == (4, 16, 16, 3)
    np.testing.assert_array_equal(names["theta"], np.tile([1, 0, 0], (4, 1)))


def test_everything_public_is_named():
    named = set(re.findall(r"\w+", PAGE))
    assert {*geometry.__all__} <= named
    training = {"Model", "functional"}  # what the experiments train with
    assert {*models.__all__} - training <= named
    rows = re.findall(r"^\| `(\w+)` \|.*\|.*\|$", PAGE, re.MULTILINE)
    assert rows == list(geometry.TRANSFORMS)


def test_pytorch_is_translated():
    torch = import_torch()
    f = torch.nn.functional
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 6, 7, 3)).astype(np.float32)
    theta = (np.eye(2, 3) + 0.2 * rng.normal(size=(2, 2, 3))).astype(np.float32)
    grid = f.affine_grid(torch.tensor(theta), (2, 3, 4, 5), align_corners=False)
    ours = geometry.affine_grid(theta.reshape(-1, 6), (4, 5), align_corners=False)
    np.testing.assert_allclose(ours, grid.numpy(), atol=1e-6)
    for padding in ("zeros", "border", "reflection"):
        theirs = f.grid_sample(
            torch.tensor(image.transpose(0, 3, 1, 2)),
            grid,
            padding_mode=padding,
            align_corners=False,
        )
        out = geometry.sample(image, ours, padding=padding, align_corners=False)
        np.testing.assert_allclose(out, theirs.numpy().transpose(0, 2, 3, 1), atol=1e-5)


@pytest.mark.parametrize(("width", "exact"), [(5, True), (7, False)])
def test_on_pixel_centres_pytorchs_gradient_depends_on_rounding(width, exact):
    """Coordinates of 5 pixels are quarters; of 7, sixths are not exact."""
    torch = import_torch()
    image = np.random.default_rng(0).normal(size=(1, 5, width, 1)).astype(np.float32)
    grid = geometry.regular_grid((5, width))[None]
    for padding in ("zeros", "border", "reflection"):
        points = torch.tensor(grid, requires_grad=True)
        torch.nn.functional.grid_sample(
            torch.tensor(image.transpose(0, 3, 1, 2)),
            points,
            padding_mode=padding,
            align_corners=True,
        ).sum().backward()
        slope = jax.grad(lambda g, p=padding: geometry.sample(image, g, padding=p).sum())(
            jnp.asarray(grid)
        )
        same = np.isclose(slope, points.grad.numpy(), atol=1e-4).all(axis=-1)[0]
        assert same[1:-1, 1:-1].all() == exact
        assert same.all() == (exact and padding == "zeros")
