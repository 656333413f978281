"""Train a network of Table 1 on distorted MNIST, or continue a run that was interrupted."""

from functools import partial

import jax.numpy as jnp
from ml_collections import ConfigDict

from stn_jax.data import digits, mnist
from stn_jax.data.distorted_mnist import Labelled, fixed_set, training_batch
from stn_jax.data.distortions import DISTORTIONS
from stn_jax.launch import cli
from stn_jax.models.mnist import mnist_model
from stn_jax.models.pure import functional
from stn_jax.training import Problem
from stn_jax.training.metrics import classification_loss, classification_measure

# When a recipe is chosen, the last 10,000 training digits are held out and evaluated on.
VALIDATION_SPLIT = (slice(None, -10_000), slice(-10_000, None))


def make_problem(config: ConfigDict) -> Problem:
    """Build model, loss and data as the config says."""
    distortion = DISTORTIONS[config.data.distortion]
    model = functional(
        mnist_model(
            config.model.name,
            distortion.image_shape,
            transform=config.model.transform or None,
            downsample=config.model.downsample,
            num_params=config.model.num_params,
            dropout=config.model.dropout,
        )
    )
    source = {"mnist": partial(mnist.load, config.runtime.data_dir or None), "sklearn": digits.load}
    loaded = source[config.data.digits]()
    train = Labelled(jnp.asarray(loaded.train_images), jnp.asarray(loaded.train_labels))
    test = Labelled(jnp.asarray(loaded.test_images), jnp.asarray(loaded.test_labels))
    if config.data.evaluate_on == "validation":
        train, test = (Labelled(*(x[part] for x in train)) for part in VALIDATION_SPLIT)
    return Problem(
        init=model.init,
        loss=classification_loss(model.apply),
        draw=partial(training_batch, distortion=distortion, batch_size=config.training.batch_size),
        data=train,
        measure=classification_measure(model.apply),
        evaluations={config.data.evaluate_on: fixed_set(test, train.image, distortion=distortion)},
        description={
            "name": loaded.name,
            "fingerprint": loaded.fingerprint,
            "train": train.label.shape[0],
            "test": test.label.shape[0],
        },
    )


if __name__ == "__main__":
    cli.run(make_problem, description=__doc__, config="configs/distorted_mnist.py")
