"""A language model of one sequence, and the losses whose gradients reach back differently far.

There is no batch axis: T steps of one text, V characters, embeddings of size E, and H units. A
loss is `(model, carry, sequence) -> (nats, carry)`, summed over the steps.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

import gru_jax
from experiments.long_sequences.data import Sequence

CHUNK = 1_000
"""Steps: √T of the longest sequence, and the same for all, so that a step of each costs as much."""
Loss = Callable[[Any, Any, Any], tuple[jax.Array, Any]]


class Model(NamedTuple):
    """The parameters."""

    embedding: jax.Array  # [V, E]
    gru: gru_jax.GRUParams
    head: gru_jax.ReadoutParams  # [H, V]


def init_model(key: jax.Array, vocabulary: int, embedding: int, hidden: int) -> Model:
    """Draws the parameters."""
    embedding_key, gru_key, head_key = jax.random.split(key, 3)
    return Model(
        jax.random.normal(embedding_key, (vocabulary, embedding)),
        gru_jax.init_gru(gru_key, embedding, hidden),
        gru_jax.init_readout(head_key, hidden, vocabulary),
    )


def nats_of(model: Model, hs: jax.Array, targets: Any) -> jax.Array:
    """The nats of the characters that follow the states `[T, H]`."""
    logits = gru_jax.readout(model.head, hs)
    return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, targets))


def whole(
    model: Model,
    h: jax.Array,
    sequence: Sequence,
    save: Literal["gates", "states", "chunks"] = "gates",
) -> tuple[jax.Array, jax.Array]:
    """All states first, then all logits; the gradient reaches back to the sequence's beginning."""
    h, hs = gru_jax.gru_unroll(model.gru, h, model.embedding[sequence.inputs], save=save)
    return nats_of(model, hs, sequence.targets), h


def chunked(model: Model, h: jax.Array, sequence: Sequence) -> tuple[jax.Array, jax.Array]:
    """The same in chunks, with the same gradient."""
    nats, h = gru_jax.chunked_loss(whole, model, h, sequence, CHUNK)
    return nats, h


class Overlap(NamedTuple):
    """What is handed from segment to segment where these overlap by L steps."""

    h: jax.Array  # before the last L inputs
    inputs: jax.Array  # the last L, [L]
    is_first: jax.Array  # []: there are none yet


def no_overlap(h: jax.Array, length: int) -> Overlap:
    """Before the first segment."""
    return Overlap(h, jnp.zeros(length, jnp.int32), jnp.ones((), bool))


def overlapped(model: Model, last: Overlap, sequence: Sequence) -> tuple[jax.Array, Overlap]:
    """The loss of a segment, whose gradient reaches back through the L steps before it as well."""
    (overlap,), count = last.inputs.shape, len(sequence.inputs)
    inputs = jnp.concatenate([last.inputs, sequence.inputs])
    real = ~last.is_first | (jnp.arange(len(inputs)) >= overlap)
    _, hs = gru_jax.gru_unroll(model.gru, last.h, model.embedding[inputs], mask=real)
    nats = nats_of(model, hs[overlap:], sequence.targets)
    h = jnp.where(real[count - 1], hs[count - 1], last.h)
    return nats, Overlap(h, inputs[count:], jnp.zeros((), bool))


def truncated(loss: Loss, length: int) -> Loss:
    """The sum of the losses of segments; the state is handed on, the gradient is not."""

    def of_segment(model: Model, carry: Any, segment: Sequence) -> tuple[jax.Array, Any]:
        carry = jax.tree.map(jax.lax.stop_gradient, carry)
        return loss(model, carry, segment)

    def of_all(model: Model, carry: Any, sequence: Sequence) -> tuple[jax.Array, Any]:
        return gru_jax.chunked_loss(of_segment, model, carry, sequence, length)

    return of_all


class Way(NamedTuple):
    """A way of training through a sequence."""

    loss: Loss
    truncates: bool  # whether there is an update after each segment instead of one at the end
    overlaps: bool = False


WAYS: Mapping[str, Way] = {
    'save="gates"': Way(whole, truncates=False),
    'save="states"': Way(partial(whole, save="states"), truncates=False),
    'save="chunks"': Way(partial(whole, save="chunks"), truncates=False),
    "chunked_loss": Way(chunked, truncates=False),
    "truncated": Way(whole, truncates=True),
    "truncated, overlap": Way(overlapped, truncates=True, overlaps=True),
}


def first_carry(model: Model, way: Way, overlap: int) -> Any:
    """What the first segment goes on from: a zero state."""
    h = gru_jax.zero_state(model.gru)
    return no_overlap(h, overlap) if way.overlaps else h
