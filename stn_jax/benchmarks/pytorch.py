"""The opponent: the grids, and the training step on task R, written in PyTorch with care.

The same work as our step, in PyTorch's own idiom: digits live on the device as uint8, a batch is
drawn and rotated by `affine_grid` and `grid_sample` there, the networks have the same layers and
widths, Adam is the fused one, nothing is copied to the host, and constant parts are computed once.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch._dynamo.config
import torch._inductor.config
from torch import nn
from torch.nn import functional as F

from stn_jax.geometry import TRANSFORMS, regular_grid

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# As JAX does by default, networks on a GPU multiply in TF32; so do these grids, unlike ours.
torch.backends.cuda.matmul.allow_tf32 = True
torch.backends.cudnn.allow_tf32 = True
torch.backends.cudnn.benchmark = True  # XLA, too, tries what is fastest.
OPTIONS = {"mode": "bilinear", "padding_mode": "zeros", "align_corners": True}


class AffineGrid(nn.Module):
    """Affine grids by PyTorch's own generator, of any family that gives it matrices."""

    def __init__(self, size: int, to_matrix: Callable[[torch.Tensor], torch.Tensor] | None = None):
        super().__init__()
        self.size = size
        self.to_matrix = to_matrix or (lambda theta: theta)

    def forward(self, theta: torch.Tensor) -> torch.Tensor:
        """Return grids [B, H, W, 2] of theta [B, P]."""
        shape = [theta.shape[0], 1, self.size, self.size]
        return F.affine_grid(self.to_matrix(theta).view(-1, 2, 3), shape, align_corners=True)


def attention_matrix(theta: torch.Tensor) -> torch.Tensor:
    """Return the affine theta [B, 6] of scale and translation [B, 3]."""
    scale, x, y = theta.unbind(1)
    zero = torch.zeros_like(scale)
    return torch.stack([scale, zero, x, zero, scale, y], dim=1)


def similarity_matrix(theta: torch.Tensor) -> torch.Tensor:
    """Return the affine theta [B, 6] of angle, scale and translation [B, 4]."""
    angle, scale, x, y = theta.unbind(1)
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    return torch.stack([cos, -sin, x, sin, cos, y], dim=1)


class ProjectiveGrid(nn.Module):
    """Projective grids: one matrix product and a division."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size
        points = regular_grid((size, size)).reshape(-1, 2)
        points = np.concatenate([points, np.ones_like(points[:, :1])], axis=1)
        self.register_buffer("points", torch.tensor(points, device=DEVICE))

    def forward(self, theta: torch.Tensor) -> torch.Tensor:
        """Return grids [B, H, W, 2] of theta [B, 8]."""
        matrix = F.pad(theta, (0, 1), value=1.0).view(-1, 3, 3)
        mapped = self.points @ matrix.transpose(1, 2)
        return (mapped[..., :2] / mapped[..., 2:]).view(-1, self.size, self.size, 2)


class ControlledGrid(nn.Module):
    """Grids of 4x4 control points: one matrix product with the constant basis of a transform."""

    def __init__(self, size: int, transform: str):
        super().__init__()
        self.size = size
        # The grid is linear in theta: what each control point adds at every target point.
        points = np.eye(32, dtype=np.float32)[:16]
        basis = np.asarray(TRANSFORMS[transform].grid(points, (size, size))[..., 0])
        basis = basis.reshape(16, -1).T.copy()
        self.register_buffer("basis", torch.tensor(basis, device=DEVICE))

    def forward(self, theta: torch.Tensor) -> torch.Tensor:
        """Return grids [B, H, W, 2] of theta [B, 32]."""
        points = self.basis @ theta.view(-1, 2, 16).transpose(1, 2)
        return points.view(-1, self.size, self.size, 2)


GRIDS: dict[str, Callable[[int], nn.Module]] = {
    "attention": partial(AffineGrid, to_matrix=attention_matrix),
    "affine": AffineGrid,
    "projective": ProjectiveGrid,
    "tps": partial(ControlledGrid, transform="tps"),
    "piecewise_affine": partial(ControlledGrid, transform="piecewise_affine"),
    "rotation_scale_translation": partial(AffineGrid, to_matrix=similarity_matrix),
}


class Transformer(nn.Module):
    """A spatial transformer, to be followed by a classifier."""

    def __init__(self, localisation: nn.Module, features: int, transform: str, size: int):
        super().__init__()
        self.localisation = localisation
        self.grid = GRIDS[transform](size)
        identity = torch.tensor(TRANSFORMS[transform].identity)
        self.regression = nn.Linear(features, identity.numel())
        nn.init.zeros_(self.regression.weight)
        self.regression.bias.data.copy_(identity)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Warp x [B, C, H, W]."""
        theta = self.regression(self.localisation(x))
        return F.grid_sample(x, self.grid(theta), **OPTIONS)


def network(name: str, transform: str | None, size: int, width: int) -> nn.Module:
    """Build FCN, CNN, ST-FCN or ST-CNN of the given width for size x size inputs."""
    kind = name.removeprefix("st_")
    if kind == "fcn":
        layers = [nn.Flatten(), nn.Linear(size * size, width), nn.ReLU()]
        layers += [nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)]
        units = [size * size, 32, 32, 32]
        local = [nn.Flatten()]
        for n_in, n_out in zip(units, units[1:], strict=False):
            local += [nn.Linear(n_in, n_out), nn.ReLU()]
        features = 32
    else:
        rest = -(-(-(-(size - 8) // 2) - 6) // 2)
        layers = [nn.Conv2d(1, width, 9), nn.MaxPool2d(2, ceil_mode=True), nn.ReLU()]
        layers += [nn.Conv2d(width, width, 7), nn.MaxPool2d(2, ceil_mode=True), nn.ReLU()]
        layers += [nn.Flatten(), nn.Linear(rest * rest * width, 10)]
        rest = -(-(size // 2 - 4) // 2) - 4
        local = [nn.AvgPool2d(2), nn.Conv2d(1, 20, 5), nn.MaxPool2d(2, ceil_mode=True), nn.ReLU()]
        local += [nn.Conv2d(20, 20, 5), nn.ReLU(), nn.Flatten(), nn.Linear(rest * rest * 20, 20)]
        local += [nn.ReLU()]
        features = 20
    if transform:
        layers.insert(0, Transformer(nn.Sequential(*local), features, transform, size))
    model = nn.Sequential(*layers)
    # On CPUs convolutions are two to four times faster with channels last.
    return model.to(DEVICE, memory_format=torch.channels_last)


def training_step(model: nn.Module, digits: np.ndarray, labels: np.ndarray, *, batch_size: int):
    """Return a function without arguments that trains one step on task R and returns the loss."""
    digits = torch.tensor(digits[..., 0], device=DEVICE)
    labels = torch.tensor(labels, dtype=torch.int64, device=DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    size = digits.shape[1]

    def step() -> torch.Tensor:
        index = torch.randint(len(digits), (batch_size,), device=DEVICE)
        angle = (torch.rand(batch_size, device=DEVICE) - 0.5) * torch.pi
        cos, sin, zero = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
        theta = torch.stack([cos, sin, zero, -sin, cos, zero], dim=1).view(-1, 2, 3)
        grid = F.affine_grid(theta, [batch_size, 1, size, size], align_corners=True)
        image = F.grid_sample(digits[index, None].float() / 255, grid, **OPTIONS)
        logits = model(image.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits, labels[index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def described() -> dict[str, object]:
    """Return what PyTorch's times depend on besides its version."""
    on_gpu = DEVICE.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if on_gpu else None,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
    }


def wait(_: object) -> None:
    """Return when the device has done what it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def compiled(step: Callable[[], torch.Tensor], mode: str) -> Callable[[], torch.Tensor]:
    """Return the step through torch.compile, compiled anew whatever earlier runs left behind.

    Mode "reduce-overhead" records CUDA graphs, which spare a GPU the launch of every kernel.
    """
    torch._inductor.config.force_disable_caches = True
    # Of all models' steps, which are one function's code; beyond it they would run uncompiled.
    torch._dynamo.config.recompile_limit = 256
    step = torch.compile(step, mode=mode)

    def call() -> torch.Tensor:
        # What the graphs of the last call gave, if there are any, may be overwritten.
        torch.compiler.cudagraph_mark_step_begin()
        return step()

    return call
