"""GRU4Rec (Hidasi et al. 2016): items to vectors, a GRU, and the same vectors as classes.

The histories of all users stand end to end in the rows of a batch, without padding: the paper's
session-parallel batches. Where one ends and the next begins the state is reset. The loss is the
cross-entropy over all items, or for many items an estimate of it from a sample that the whole batch
shares.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

import gru_jax
from experiments.harness.dropout import dropout
from experiments.recommendation.config import Config
from experiments.recommendation.data import Batch, Cases


class Model(NamedTuple):
    """The parameters."""

    embedding: jax.Array  # [V, E]
    gru: gru_jax.GRUParams
    head: gru_jax.ReadoutParams  # [H, E]
    bias: jax.Array  # [V]


def init_model(config: Config, key: jax.Array, items: int) -> Model:
    """Draws the parameters."""
    embedding_key, gru_key, head_key = jax.random.split(key, 3)
    return Model(
        0.1 * jax.random.normal(embedding_key, (items, config.embedding_size)),
        gru_jax.init_gru(gru_key, config.embedding_size, config.hidden_size),
        gru_jax.init_readout(head_key, config.hidden_size, config.embedding_size),
        jnp.zeros(items),
    )


def logits_of(model: Model, h: jax.Array) -> jax.Array:
    """Logits `[..., V]` of the next item."""
    return gru_jax.readout(model.head, h) @ model.embedding.T + model.bias


def loss_of(
    config: Config, model: Model, h: jax.Array, batch: Batch, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The mean loss in training, and the states that the next chunk goes on from."""
    input_key, state_key, item_key = jax.random.split(key, 3)
    xs = dropout(input_key, model.embedding[batch.inputs], config.dropout)
    h, hs = gru_jax.gru_unroll(model.gru, h, xs, resets=batch.is_first)

    hs = gru_jax.readout(model.head, dropout(state_key, hs, config.dropout))
    right = jnp.sum(hs * model.embedding[batch.targets], axis=-1) + model.bias[batch.targets]
    if not config.negatives:
        return jnp.mean(jax.nn.logsumexp(hs @ model.embedding.T + model.bias, axis=-1) - right), h
    items = len(model.bias)
    others = jax.random.randint(item_key, (config.negatives,), 0, items)
    logits = hs @ model.embedding[others].T + model.bias[others]
    # Each stands for as many of the items - 1 wrong ones; the right one, if drawn, for none.
    logits += jnp.log((items - 1) / config.negatives)
    logits = jnp.where(others == batch.targets[..., None], -jnp.inf, logits)
    return jnp.mean(jnp.logaddexp(jax.nn.logsumexp(logits, axis=-1), right) - right), h


def states_of(model: Model, cases: Cases) -> jax.Array:
    """The state `[N, H]` after each user's history."""
    h0 = gru_jax.zero_state(model.gru, cases.inputs.shape[1:])
    xs = model.embedding[cases.inputs]
    _, hs = gru_jax.gru_unroll(model.gru, h0, xs, resets=cases.is_first)
    return jnp.take(hs.reshape(-1, hs.shape[-1]), cases.last, axis=0)
