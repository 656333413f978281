"""What the experiments on digits have in common: data, network and problem, from their configs."""

from collections.abc import Callable
from functools import cache, partial
from types import ModuleType

import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from stn_jax.data import digits, distorted_mnist, mnist, mnist_addition
from stn_jax.data.distorted_mnist import Labelled
from stn_jax.data.distortions import DISTORTIONS, Distortion
from stn_jax.data.types import Digits
from stn_jax.launch.evaluated import evaluated_split
from stn_jax.models.mnist import mnist_model
from stn_jax.models.pure import Model, functional
from stn_jax.training import Problem
from stn_jax.training.errors import ConfigError
from stn_jax.training.metrics import classification_loss, classification_measure

# A config's experiment -> the module of its batches and its test set. Records of distorted MNIST,
# which came first, do not name theirs.
TASKS: dict[str, ModuleType] = {
    "distorted_mnist": distorted_mnist,
    "mnist_addition": mnist_addition,
}
# When a recipe is chosen, the last 10,000 training digits are held out and evaluated on.
VALIDATION_SPLIT = (slice(None, -10_000), slice(-10_000, None))


def task_of(config: ConfigDict) -> ModuleType:
    """Return what a config trains on."""
    return TASKS[config.get("experiment", "distorted_mnist")]


# Scripts that open several runs in turn load their digits once.
@cache
def load_digits(name: str, data_dir: str) -> Digits:
    """Load "mnist" from a folder ("": the usual one), or "sklearn".

    Raises:
      ConfigError: if there are no such digits.
    """
    loaders = {"mnist": partial(mnist.load, data_dir or None), "sklearn": digits.load}
    if name not in loaders:
        raise ConfigError(f"data.digits={name!r}; there are {', '.join(loaders)}.")
    return loaders[name]()


def distortion_of(config: ConfigDict) -> Distortion:
    """Return what a config distorts digits with.

    Raises:
      ConfigError: if there is no such distortion.
    """
    name = config.data.distortion
    if name not in DISTORTIONS:
        raise ConfigError(f"data.distortion={name!r}; there are {', '.join(DISTORTIONS)}.")
    return DISTORTIONS[name]


def splits(loaded: Digits, evaluate_on: str) -> tuple[Labelled, Labelled]:
    """Return the digits to train and to evaluate on, the latter "test" or "validation"."""
    train = Labelled(jnp.asarray(loaded.train_images), jnp.asarray(loaded.train_labels))
    if evaluate_on == "validation":
        return tuple(Labelled(*(x[part] for x in train)) for part in VALIDATION_SPLIT)
    return train, Labelled(jnp.asarray(loaded.test_images), jnp.asarray(loaded.test_labels))


def make_model(config: ConfigDict) -> Model:
    """Build the network that a config describes."""
    return functional(make_network(config))


def make_network(config: ConfigDict) -> Callable[[nnx.Rngs], nnx.Module]:
    """Return a function of the random streams that builds the network that a config describes."""
    # Fields that records do not have came later; their defaults do what was done before.
    task = task_of(config)
    height, width, _ = distortion_of(config).image_shape
    return mnist_model(
        config.model.name,
        (height, width, task.NUM_CHANNELS),
        transform=config.model.transform or None,
        num_transformers=config.model.get("num_transformers", 1),
        downsample=config.model.downsample,
        num_classes=task.NUM_CLASSES,
        num_params=config.model.num_params,
        dropout=config.model.get("dropout", 0.0),
    )


def make_problem(config: ConfigDict) -> Problem:
    """Build model, loss and data as a config says."""
    task, distortion = task_of(config), distortion_of(config)
    model, loaded = make_model(config), load_digits(config.data.digits, config.runtime.data_dir)
    train, test = splits(loaded, evaluated_split(config))
    return Problem(
        init=model.init,
        loss=classification_loss(model.apply),
        draw=partial(
            task.training_batch, distortion=distortion, batch_size=config.training.batch_size
        ),
        data=train,
        measure=classification_measure(model.apply),
        evaluations={
            config.data.evaluate_on: task.fixed_set(test, train.image, distortion=distortion)
        },
        description={
            "name": loaded.name,
            "fingerprint": loaded.fingerprint,
            "train": train.label.shape[0],
            "test": test.label.shape[0],
        },
    )
