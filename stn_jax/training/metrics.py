"""Losses and per-example measurements of networks that name a class, or a sequence of them."""

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
        return classification_values(logits, batch.label)

    return measure


def classification_values(logits: jax.Array, label: jax.Array) -> dict[str, jax.Array]:
    """Return loss and error [B] of logits [B, K]: see `classification_measure`."""
    values = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    return {"loss": values, "error": _wrong(logits, label)}


def sequence_loss(apply: Callable[..., Any]) -> Callable[..., Any]:
    """Return the loss of a network that reads sequences: the sum of its positions' cross-entropies.

    Args:
      apply: `Model.apply` of a model whose outputs are (logits [B, L, K], auxiliary outputs).

    Returns:
      A function of (params, model_state, batch, key); the batch has `image`, and `label` [B, L].
      It gives the mean loss, with the share of sequences that are not wholly right as a metric, in
      percent.
    """

    def loss(params, model_state, batch, key):
        (logits, _), model_state = apply(params, model_state, batch.image, train=True, key=key)
        values = _sum_of_positions(logits, batch.label)
        wrong = jnp.any(_wrong(logits, batch.label) > 0, axis=-1)
        return jnp.mean(values), (model_state, {"error": 100.0 * jnp.mean(wrong)})

    return loss


def sequence_measure(
    apply: Callable[..., Any], *, null_class: int, mean_length: float
) -> Callable[..., dict[str, jax.Array]]:
    """Return the per-example loss, sequence error and share in the digit error.

    A sequence is right only if every position is, those behind its end included (0 or 100, so that
    means are percentages). The mean of `digit_error` is the percentage of the set's digits that are
    misread.

    Args:
      apply: as in `sequence_loss`.
      null_class: the label of positions behind a sequence's end.
      mean_length: digits of a sequence of the set, on average.
    """

    def measure(params, model_state, batch):
        (logits, _), _ = apply(params, model_state, batch.image)
        wrong = _wrong(logits, batch.label)
        misread = jnp.sum(jnp.where(batch.label == null_class, 0, wrong), axis=-1)
        return {
            "loss": _sum_of_positions(logits, batch.label),
            "error": jnp.max(wrong, axis=-1),
            "digit_error": misread / mean_length,
        }

    return measure


def _sum_of_positions(logits: jax.Array, label: jax.Array) -> jax.Array:
    values = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    return jnp.sum(values, axis=-1)


def _wrong(logits: jax.Array, label: jax.Array) -> jax.Array:
    return 100.0 * (jnp.argmax(logits, axis=-1) != label)
