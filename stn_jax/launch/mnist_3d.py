"""3-D MNIST's data, network and problem, from its config."""

from functools import partial
from typing import Any

import jax
from ml_collections import ConfigDict

from stn_jax.data import mnist_3d
from stn_jax.data.distorted_mnist import Labelled
from stn_jax.data.mnist_3d import Extrusion, Posed
from stn_jax.launch.digits import load_digits, splits
from stn_jax.launch.evaluated import evaluated_split
from stn_jax.launch.saved import plain_digits
from stn_jax.models.mnist_3d import mnist_3d_model
from stn_jax.models.pure import Model, functional
from stn_jax.training import Problem
from stn_jax.training.metrics import classification_loss, classification_measure


def extrusion_of(config: ConfigDict) -> Extrusion:
    """Return how a config makes volumes of digits."""
    data = config.data
    return Extrusion(size=data.size, depth=data.depth, max_angle=data.max_angle)


def make_model(config: ConfigDict) -> Model:
    """Build the network that a config describes."""
    return functional(
        mnist_3d_model(
            config.model.name,
            extrusion_of(config).volume_shape,
            transform=config.model.transform or None,
            output_shape=tuple(config.model.output_shape) or None,
            downsample=config.model.downsample,
            num_classes=mnist_3d.NUM_CLASSES,
            num_params=config.model.num_params,
            dropout=config.model.dropout,
        )
    )


def make_problem(config: ConfigDict) -> Problem:
    """Build model, loss and data as a config says."""
    extrusion, model = extrusion_of(config), make_model(config)
    loaded = load_digits(config.data.digits, config.runtime.data_dir)
    train, test = splits(loaded, evaluated_split(config))
    measure_volumes = classification_measure(model.apply)

    def measure(params: Any, model_state: Any, batch: Posed) -> dict[str, jax.Array]:
        return measure_volumes(params, model_state, mnist_3d.render(batch, extrusion))

    return Problem(
        init=model.init,
        loss=classification_loss(model.apply),
        draw=partial(
            mnist_3d.training_batch, extrusion=extrusion, batch_size=config.training.batch_size
        ),
        data=train,
        measure=measure,
        evaluations={config.data.evaluate_on: mnist_3d.fixed_set(test, extrusion=extrusion)},
        description={
            "name": loaded.name,
            "fingerprint": loaded.fingerprint,
            "train": train.label.shape[0],
            "test": test.label.shape[0],
        },
    )


def evaluation_volumes(config: dict[str, Any], fingerprint: str, indices: list[int]) -> Labelled:
    """Return test digits as volumes, as a run's evaluation has them.

    Args:
      config: the run's config, as its record has it.
      fingerprint: of the run's data.
      indices: which digits.

    Raises:
      ConfigError: if the data here are not those of the run.
      IndexError: if there is no such test digit.
    """
    test, _ = plain_digits(config, fingerprint, indices)
    extrusion = extrusion_of(ConfigDict(config))
    posed = mnist_3d.fixed_set(test, extrusion=extrusion, index=indices)
    return jax.jit(partial(mnist_3d.render, extrusion=extrusion))(posed)
