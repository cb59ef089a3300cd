"""A classifier of sequences of any length, and a forecaster with quantiles."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import gru_jax
from experiments.timeseries.demand import COMING, PAST, Windows
from experiments.timeseries.vowels import COEFFICIENTS, SPEAKERS, Batch

LEVELS = tuple(i / 20 for i in range(1, 20))
"""The probabilities with which the demand is below each forecast quantile."""
MEDIAN = LEVELS.index(0.5)


class Classifier(NamedTuple):
    """The parameters: a bidirectional stack of GRUs, and a linear head on its mean state."""

    stack: gru_jax.GRUStack
    head: gru_jax.ReadoutParams  # [2 H, 9]


def init_classifier(key: jax.Array, sizes: Sequence[int]) -> Classifier:
    """Draws the parameters."""
    stack_key, head_key = jax.random.split(key)
    stack = gru_jax.init_gru_stack(stack_key, COEFFICIENTS, sizes, bidirectional=True)
    return Classifier(stack, gru_jax.init_readout(head_key, 2 * sizes[-1], SPEAKERS))


def logits_of(
    model: Classifier, batch: Batch, rate: float = 0.0, key: jax.Array | None = None
) -> jax.Array:
    """One of nine speakers for each utterance, `[B, 9]`; with a key, with dropout."""
    mask = gru_jax.sequence_mask(batch.lengths, len(batch.xs))
    _, hs = gru_jax.gru_stack_unroll(
        model.stack, None, batch.xs, mask=mask, recurrent_dropout=rate, key=key
    )
    mean = jnp.sum(hs, axis=0) / batch.lengths[:, None]  # outputs are zero after the end
    return gru_jax.readout(model.head, mean)


def nats_of(model: Classifier, batch: Batch, *dropout: Any) -> jax.Array:
    """Nats for each utterance."""
    logits = logits_of(model, batch, *dropout)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels))


class Forecaster(NamedTuple):
    """The parameters: a stack that reads the past, one for the coming day, and a head.

    What is known of the coming day is known of all of it, so that its stack runs both ways; both
    directions begin with the states in which the past ends.
    """

    encoder: gru_jax.GRUStack
    decoder: gru_jax.GRUStack
    head: gru_jax.ReadoutParams  # [2 H, quantiles]


def init_forecaster(key: jax.Array, sizes: Sequence[int]) -> Forecaster:
    """Draws the parameters."""
    encoder_key, decoder_key, head_key = jax.random.split(key, 3)
    return Forecaster(
        gru_jax.init_gru_stack(encoder_key, PAST, sizes),
        gru_jax.init_gru_stack(decoder_key, COMING, sizes, bidirectional=True),
        gru_jax.init_readout(head_key, 2 * sizes[-1], len(LEVELS)),
    )


def quantiles_of(
    model: Forecaster, windows: Windows, rate: float = 0.0, key: jax.Array | None = None
) -> jax.Array:
    """The quantiles of the coming demand, normalised, `[48, B, 19]`; with a key, with dropout.

    The head gives their distance from the demand of a day before. They are sorted, because
    quantiles that cross are no distribution's (Chernozhukov et al. 2010).
    """
    encoder_key, decoder_key = (None, None) if key is None else jax.random.split(key)
    states, _ = gru_jax.gru_stack_unroll(
        model.encoder, None, windows.past, recurrent_dropout=rate, key=encoder_key
    )
    both = [gru_jax.Bidirectional(h, h) for h in states]
    _, hs = gru_jax.gru_stack_unroll(
        model.decoder, both, windows.coming, recurrent_dropout=rate, key=decoder_key
    )
    distances = gru_jax.readout(model.head, hs)
    return jnp.sort(windows.day_before[..., None] + distances, axis=-1)


def pinball(quantiles: jax.Array, demand: jax.Array) -> jax.Array:
    """The mean quantile loss (Koenker & Bassett 1978): max(τ e, (τ − 1) e), e = y − q.

    Args:
      quantiles: `[..., 19]`, of the probabilities τ in `LEVELS`.
      demand: the outcome y, `[...]`.
    """
    levels = jnp.asarray(LEVELS, quantiles.dtype).reshape((1,) * demand.ndim + (-1,))
    errors = demand[..., None] - quantiles
    return jnp.mean(jnp.maximum(levels * errors, (levels - 1) * errors))
