"""A small problem for the loop: two-class blobs, a linear model, a little noise on the inputs."""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from stn_jax.data.distorted_mnist import Labelled
from stn_jax.training import Problem
from stn_jax.training.metrics import classification_loss, classification_measure


def toy_config(**overrides) -> ConfigDict:
    config = ConfigDict(
        {
            "name": "toy",
            "seeds": (0,),
            "training": {
                "batch_size": 8,
                "num_steps": 40,
                "log_every": 10,
                "eval_every": 20,
                "eval_batch_size": 16,
            },
            "optimizer": {
                "name": "adam",
                "learning_rate": 0.01,
                "momentum": 0.9,
                "weight_decay": 0.0,
                "schedule": "cosine",
                "decay_steps": (),
                "decay_factor": 0.1,
                "multipliers": {},
            },
            "runtime": {
                "steps_per_call": 2,
                "vmap_seeds": True,
                "num_devices": 1,
                "checkpoint_every": 10,
                "tensorboard": False,
            },
        }
    )
    config.update_from_flattened_dict(overrides)
    return config


def toy_data(count: int, seed: int) -> Labelled:
    random = np.random.default_rng(seed)
    label = random.integers(0, 2, count)
    image = random.normal(size=(count, 3)) + label[:, None]
    return Labelled(jnp.asarray(image, jnp.float32), jnp.asarray(label, jnp.int32))


def init(key):
    return {"layer": {"kernel": 0.1 * jax.random.normal(key, (3, 2)), "bias": jnp.zeros(2)}}, {}


def apply(params, state, x, train=False, key=None):
    if train:
        x = x + 0.1 * jax.random.normal(key, x.shape)
    layer = params["layer"]
    return (x @ layer["kernel"] + layer["bias"][None], {}), state


def toy_problem(config: ConfigDict, *, apply=apply) -> Problem:
    def draw(key, data):
        index = jax.random.randint(key, (config.training.batch_size,), 0, data.label.shape[0])
        return Labelled(data.image[index], data.label[index])

    return Problem(
        init=init,
        loss=classification_loss(apply),
        draw=draw,
        data=toy_data(100, seed=0),
        measure=classification_measure(apply),
        evaluations={"test": toy_data(37, seed=1)},
        description={"name": "blobs"},
    )
