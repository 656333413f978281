"""Losses and per-example measurements of classifiers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax


def classification_loss(apply: Callable[..., Any]) -> Callable[..., Any]:
    """Return the multinomial cross-entropy of a classifier, in the form that training takes.

    Args:
      apply: `Model.apply` of a model whose outputs are (logits [B, K], auxiliary outputs).

    Returns:
      A function of (params, model_state, batch, key); the batch has `image` and `label`. It
      gives the mean loss, with the share of wrong labels as a metric, in percent.
    """

    def loss(params, model_state, batch, key):
        (logits, _), model_state = apply(params, model_state, batch.image, train=True, key=key)
        values = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label)
        return jnp.mean(values), (model_state, {"error": jnp.mean(_wrong(logits, batch.label))})

    return loss


def classification_measure(apply: Callable[..., Any]) -> Callable[..., dict[str, jax.Array]]:
    """Return the per-example loss and error (0 or 100, so that means are percentages)."""

    def measure(params, model_state, batch):
        (logits, _), _ = apply(params, model_state, batch.image)
        values = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label)
        return {"loss": values, "error": _wrong(logits, batch.label)}

    return measure


def _wrong(logits: jax.Array, label: jax.Array) -> jax.Array:
    return 100.0 * (jnp.argmax(logits, axis=-1) != label)
