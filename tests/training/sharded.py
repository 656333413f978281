"""Problems that tests train on one device and on several."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from stn_jax.data.distorted_mnist import Labelled
from stn_jax.models.birds import bird_model
from stn_jax.models.pure import functional
from stn_jax.models.svhn import MODELS, NUM_CLASSES, NUM_POSITIONS, SequenceCNN
from stn_jax.training import Problem, Streamed
from stn_jax.training.metrics import (
    classification_loss,
    classification_values,
    sequence_loss,
    sequence_measure,
)
from tests.training.toy import toy_config, toy_data, toy_problem


def toy() -> tuple[ConfigDict, Problem]:
    config = toy_config(seeds=(0, 1))
    return config, toy_problem(config)


def streamed() -> tuple[ConfigDict, Problem]:
    config = toy_config()
    return config, as_streamed(toy_problem(config), config)


def as_streamed(problem: Problem, config: ConfigDict) -> Problem:
    """Return the problem with its batches read on the host, those of its evaluations, too."""
    data = Labelled(*map(np.asarray, toy_data(100, seed=0)))
    examples = Labelled(*map(np.asarray, problem.evaluations["test"]))

    def read(key: jax.Array) -> Labelled:
        index = jax.random.randint(key, (config.training.batch_size,), 0, len(data.label))
        return Labelled(*(field[np.asarray(index)] for field in data))

    def read_examples(index: np.ndarray) -> Labelled:
        return Labelled(*(field[index] for field in examples))

    return dataclasses.replace(
        problem,
        data=None,
        read=read,
        draw=lambda key, batch: batch,
        evaluations={"test": Streamed(len(examples.label), read_examples)},
    )


def svhn() -> tuple[ConfigDict, Problem]:
    """Return a network like ST-CNN Multi, with dropout, on noise."""
    config = toy_config(**{"training.num_steps": 4, "runtime.steps_per_call": 1})
    config.update_from_flattened_dict({"training.log_every": 1, "runtime.checkpoint_every": 4})
    config.update_from_flattened_dict({"training.eval_every": 4})
    # Adam would not notice gradients that are all too large by a factor.
    config.update_from_flattened_dict({"optimizer.name": "sgd", "optimizer.learning_rate": 0.1})
    model = functional(
        lambda rngs: SequenceCNN(
            (12, 12, 3),
            layers=((4, True), (6, True)),
            units=16,
            localisations=MODELS["st_cnn_multi"][:2],
            rngs=rngs,
        )
    )

    def numbers(count: int) -> Labelled:
        random = np.random.default_rng(count)
        image = random.normal(size=(count, 12, 12, 3)).astype(np.float32)
        label = random.integers(0, NUM_CLASSES, (count, NUM_POSITIONS))
        return Labelled(jnp.asarray(image), jnp.asarray(label))

    def draw(key: jax.Array, data: Labelled) -> Labelled:
        index = jax.random.randint(key, (config.training.batch_size,), 0, len(data.label))
        return Labelled(*(field[index] for field in data))

    problem = Problem(
        init=model.init,
        loss=sequence_loss(model.apply),
        draw=draw,
        data=numbers(24),
        measure=sequence_measure(model.apply, null_class=NUM_CLASSES - 1, mean_length=3.0),
        evaluations={"test": numbers(20)},
    )
    return config, problem


def birds() -> tuple[ConfigDict, Problem]:
    """Return the first layers of 2xST-CNN, normalised by the batch, with dropout, on noise."""
    config = toy_config(**{"training.num_steps": 2, "runtime.steps_per_call": 1})
    config.update_from_flattened_dict({"training.log_every": 1, "runtime.checkpoint_every": 2})
    config.update_from_flattened_dict({"training.eval_every": 2})
    config.update_from_flattened_dict({"optimizer.name": "sgd", "optimizer.learning_rate": 0.1})
    model = functional(
        bird_model(
            "st_cnn",
            64,
            num_transformers=2,
            architecture="inception_v2",
            last="pool_1",
            crop_size=32,
            localiser_size=32,
            num_classes=3,
            statistics="batch",
            remat=True,
        )
    )

    def photographs(count: int) -> Labelled:
        random = np.random.default_rng(count)
        image = random.integers(0, 256, (count, 64, 64, 3), np.uint8)
        return Labelled(image, random.integers(0, 3, count))

    train, test = photographs(24), photographs(20)

    def read(key: jax.Array) -> Labelled:
        index = np.asarray(jax.random.randint(key, (config.training.batch_size,), 0, 24))
        return Labelled(*(field[index] for field in train))

    def measure(params: Any, model_state: Any, views: Labelled) -> dict[str, jax.Array]:
        (logits, _), _ = model.apply(params, model_state, views.image)
        return classification_values(logits, views.label)

    problem = Problem(
        init=model.init,
        loss=classification_loss(model.apply),
        draw=lambda key, batch: batch,
        data=None,
        read=read,
        measure=measure,
        evaluations={"test": Streamed(20, lambda index: Labelled(*(x[index] for x in test)))},
    )
    return config, problem


PROBLEMS = {"toy": toy, "streamed": streamed, "svhn": svhn, "birds": birds}
