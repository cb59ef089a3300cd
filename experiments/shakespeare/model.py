"""A language model: characters to vectors, GRU layers, logits of the next character.

Arrays are time-major: T steps of B streams. There are V characters, embeddings of size E, and H
units in each layer.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gru_jax
from experiments.harness.dropout import dropout
from experiments.shakespeare.config import Config
from experiments.shakespeare.data import Batch, Streams

States = tuple[jax.Array, ...]  # [B, H] of each layer


class Model(NamedTuple):
    """The parameters."""

    embedding: jax.Array  # [V, E]
    stack: gru_jax.GRUStack
    head: gru_jax.ReadoutParams  # [H, V]


def init_model(config: Config, key: jax.Array, vocabulary_size: int) -> Model:
    """Draws the parameters."""
    embedding_key, stack_key, head_key = jax.random.split(key, 3)
    sizes = (config.hidden_size,) * config.layers
    return Model(
        jax.random.normal(embedding_key, (vocabulary_size, config.embedding_size)),
        gru_jax.init_gru_stack(stack_key, config.embedding_size, sizes),
        gru_jax.init_readout(head_key, config.hidden_size, vocabulary_size),
    )


def forward(
    config: Config, model: Model, hs: States, tokens: jax.Array, key: jax.Array | None = None
) -> tuple[States, jax.Array]:
    """The states after `tokens [T, B]`, and logits `[T, B, V]` of the character after each.

    With a key, for training, there is dropout.
    """
    weight_key, stack_key, output_key = (None,) * 3 if key is None else jax.random.split(key, 3)
    hs, ys = gru_jax.gru_stack_unroll(
        drop_weights(weight_key, model.stack, config.weight_dropout),
        hs,
        model.embedding[tokens],
        dropout=config.dropout if config.layers > 1 else 0.0,  # it acts between layers
        key=stack_key,
    )
    ys = dropout(output_key, ys, config.dropout, broadcast_dims=(0,))
    return hs, gru_jax.readout(model.head, ys)


def drop_weights(key: jax.Array | None, stack: gru_jax.GRUStack, rate: float) -> gru_jax.GRUStack:
    """The stack with dropout on the recurrent weights of every layer."""
    if key is None:
        return stack
    keys = jax.random.split(key, len(stack.layers))
    layers = (
        dataclasses.replace(layer, w_h=dropout(layer_key, layer.w_h, rate))
        for layer_key, layer in zip(keys, stack.layers, strict=True)
    )
    return gru_jax.GRUStack(tuple(layers))


def step(model: Model, hs: States, token: jax.Array) -> tuple[States, jax.Array]:
    """One character, for `gru_jax.generate`: the next states, and logits `[..., V]`."""
    hs, y = gru_jax.gru_stack_step(model.stack, hs, model.embedding[token])
    return hs, gru_jax.readout(model.head, y)


def loss_of(
    config: Config, model: Model, hs: States, batch: Batch, key: jax.Array
) -> tuple[jax.Array, States]:
    """Nats per character in training, and the states that the next chunk goes on from."""
    hs = jax.tree.map(lambda h: jnp.where(batch.is_first, 0, h), hs)
    hs, logits = forward(config, model, hs, batch.tokens[:-1], key)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.tokens[1:])
    return losses.mean(), hs


def evaluate(config: Config, model: Model, streams: Streams) -> jax.Array:
    """Nats per character of a whole text, read in parallel streams, each from a zero state."""

    def body(hs: States, chunk: Any) -> tuple[States, jax.Array]:
        inputs, targets, real = chunk
        hs, logits = forward(config, model, hs, inputs)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        return hs, jnp.sum(losses, where=real)

    zeros = gru_jax.zero_state(model.stack, streams.inputs.shape[-1:])
    _, sums = jax.lax.scan(body, zeros, streams)
    return jnp.sum(sums) / np.count_nonzero(streams.real)
