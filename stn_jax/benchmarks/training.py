"""Rows on whole training steps: drawing, distorting, forward, backward, update."""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from ml_collections import ConfigDict

from stn_jax.benchmarks import pytorch
from stn_jax.benchmarks.timing import Contender, Row
from stn_jax.data.distorted_mnist import Labelled, training_batch
from stn_jax.data.distortions import DISTORTIONS
from stn_jax.launch.digits import make_model
from stn_jax.models import ConvLocalisation, SpatialTransformer
from stn_jax.models.mnist import CNN, TransformedClassifier
from stn_jax.models.pure import functional
from stn_jax.reporting.benchmarks import COMPILED, OPPONENT, OURS, WITH_GRAPHS
from stn_jax.training.metrics import classification_loss
from stn_jax.training.optim import make_optimizer
from stn_jax.training.state import create_state
from stn_jax.training.step import make_train_call

TRANSFORMS = ("Aff", "Proj", "TPS")
MODELS = ("FCN", *(f"ST-FCN,{t}" for t in TRANSFORMS), "CNN", *(f"ST-CNN,{t}" for t in TRANSFORMS))
# Steps a call, seeds, and whether these are vmapped or unrolled.
PROGRAMS = ((1, 1, False), (10, 1, False), (100, 1, False), (100, 3, False), (100, 3, True))
GetConfig = Callable[[str], ConfigDict]


def step_rows(get_config: GetConfig, *, compiled: bool = True) -> Iterator[Row]:
    """Yield the training step of every model of Table 1 on R, batch 256, beside PyTorch's.

    Args:
      get_config: of distorted MNIST.
      compiled: whether torch.compile takes part; it compiles for half a minute.
    """
    for model in MODELS:
        config = get_config(f"R,{model}")
        contenders = {OURS: partial(jax_step, config), OPPONENT: partial(torch_step, config)}
        if compiled:
            contenders[COMPILED] = partial(torch_step, config, mode="default")
            if jax.default_backend() == "gpu":
                contenders[WITH_GRAPHS] = partial(torch_step, config, mode="reduce-overhead")
        # Ours takes several in one call, as in training.
        facts = {"steps_per_call": config.runtime.steps_per_call}
        yield Row(model.replace(",", " "), "training step", contenders, facts)


def throughput_rows(get_config: GetConfig, selections: list[str]) -> Iterator[Row]:
    """Yield every cell of a sweep with several numbers of steps a call and seeds a program."""
    for selection in selections:
        for steps, seeds, vmapped in PROGRAMS:
            config = get_config(selection)
            config.seeds = tuple(range(seeds))
            config.runtime.steps_per_call = steps
            config.runtime.vmap_seeds = vmapped
            work = f"{steps} steps a call, {seeds} seeds" + (", vmapped" if vmapped else "")
            case, facts = selection.replace(",", " "), {"seeds": seeds}
            yield Row(case, work, {OURS: partial(jax_step, config)}, facts)


def crop_rows() -> Iterator[Row]:
    """Yield an ST-CNN on 42x42 inputs whose attention crop, and so its CNN's input, is smaller."""
    images = jnp.asarray(np.random.default_rng(0).random((64, 42, 42, 1), np.float32))
    for side in (42, 32, 21):
        model = functional(partial(_cropping_network, side=side))
        params, state = model.init(jax.random.key(0))

        def loss(params, state, images, model=model):
            (logits, _), _ = model.apply(params, state, images)
            return jnp.mean(logits**2)

        inputs = params, state, images
        compiled = jax.jit(jax.value_and_grad(loss)).lower(*inputs).compile()
        call = partial(compiled, *inputs)
        contenders = {OURS: partial(Contender, call, jax.block_until_ready)}
        facts = {"flops": compiled.cost_analysis()["flops"]}
        yield Row(f"{side}x{side}", "forward and backward", contenders, facts)


def _cropping_network(rngs: nnx.Rngs, *, side: int) -> TransformedClassifier:
    localisation = ConvLocalisation((42, 42, 1), rngs=rngs)
    transformer = SpatialTransformer(localisation, "attention", (side, side), rngs=rngs)
    return TransformedClassifier(
        transformer, CNN((side, side, 1), width=32, rngs=rngs), downsample=False
    )


def jax_step(config: ConfigDict) -> Contender:
    """Return the training call of a config as the loop runs it, on digits of noise."""
    distortion = DISTORTIONS[config.data.distortion]
    model = make_model(config)
    optimizer = make_optimizer(config.optimizer, config.training.num_steps)
    state = create_state(model.init, optimizer, config.seeds)
    images, labels = _digits()
    data = Labelled(jnp.asarray(images), jnp.asarray(labels))
    train_call = make_train_call(
        partial(training_batch, distortion=distortion, batch_size=config.training.batch_size),
        classification_loss(model.apply),
        optimizer,
        steps_per_call=config.runtime.steps_per_call,
        vmap_seeds=config.runtime.vmap_seeds,
    )

    def call():
        nonlocal state
        state, metrics = train_call(state, data)
        return metrics

    return Contender(call, jax.block_until_ready, units=config.runtime.steps_per_call)


def torch_step(config: ConfigDict, *, mode: str = "") -> Contender:
    """Return PyTorch's training step of the same network on R, through torch.compile by `mode`."""
    model = torch_network(config)
    step = pytorch.training_step(model, *_digits(), batch_size=config.training.batch_size)
    return Contender(pytorch.compiled(step, mode) if mode else step, pytorch.wait)


def torch_network(config: ConfigDict) -> torch.nn.Module:
    """Return a config's network in PyTorch, for R."""
    params, _ = jax.eval_shape(make_model(config).init, jax.random.key(0))
    classifier = params["classifier"]
    last_hidden = classifier["hidden2" if "hidden2" in classifier else "conv2"]
    size = DISTORTIONS["R"].size
    width = last_hidden["bias"].shape[-1]
    return pytorch.network(config.model.name, config.model.transform or None, size, width)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60_000, 28, 28, 1), dtype=np.uint8)
    return images, rng.integers(0, 10, 60_000).astype(np.int32)
