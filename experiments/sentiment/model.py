"""A classifier of sentences: a bidirectional GRU over words, pooled; attributions of words.

A word's vector is a sum over its pieces: the word, its pair with the word before, and the n-grams
of its letters, as in fastText (Bojanowski et al. 2017, "Enriching Word Vectors with Subword
Information", section 3.2). A rare, misspelt or drawn out word is near those that are written alike.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gru_jax
from experiments.harness.dropout import dropout
from experiments.harness.tokens import PAD
from experiments.sentiment.data import UNKNOWN, Batch

ROWS = 128  # that are classified at once


class Model(NamedTuple):
    """The parameters: pieces to vectors, a bidirectional GRU, logits of its pooled states."""

    embedding: jax.Array  # [V, E]
    stack: gru_jax.GRUStack
    head: gru_jax.ReadoutParams  # [4H, C]


def init_model(key: jax.Array, ratios: np.ndarray, embedding_size: int, hidden_size: int) -> Model:
    """Draws the parameters; the pieces' first numbers are half their `data.ratios_of`, `[V, C]`."""
    embedding_key, stack_key, head_key = jax.random.split(key, 3)
    pieces, classes = ratios.shape
    embedding = 0.1 * jax.random.normal(embedding_key, (pieces, embedding_size))
    return Model(
        embedding.at[:, :classes].set(0.5 * ratios[:, :embedding_size]),
        gru_jax.init_gru_stack(stack_key, embedding_size, (hidden_size,), bidirectional=True),
        gru_jax.init_readout(head_key, embedding_size + 2 * hidden_size, classes),
    )


def vectors_of(
    model: Model, tokens: jax.Array, rate: float = 0.0, key: jax.Array | None = None
) -> jax.Array:
    """Word vectors `[..., E]` of words `[..., PIECES]`; with a key, with dropout of pieces.

    They are sums over the square root of the number of pieces.
    """
    pieces = jnp.asarray(tokens != PAD, model.embedding.dtype)
    count = jnp.maximum(jnp.sum(pieces, axis=-1, keepdims=True), 1)
    kept = dropout(key, pieces, rate)
    return jnp.sum(kept[..., None] * model.embedding[tokens], axis=-2) / jnp.sqrt(count)


def mask_of(tokens: jax.Array) -> jax.Array:
    """Which of `[..., PIECES]` are words."""
    return tokens[..., 0] != PAD


def classify(
    model: Model, xs: jax.Array, mask: jax.Array, rate: float = 0.0, key: jax.Array | None = None
) -> jax.Array:
    """Logits `[..., C]` of word vectors `xs [T, ..., E]`; with a key, with dropout."""
    stack_key, pool_key = (None, None) if key is None else jax.random.split(key)
    _, hs = gru_jax.gru_stack_unroll(
        model.stack, None, xs, mask=mask, input_dropout=rate, key=stack_key
    )
    counts = jnp.maximum(jnp.sum(mask, axis=0), 1)  # a sentence may have no word
    mean = jnp.sum(jnp.where(mask[..., None], xs, 0), axis=0) / counts[..., None]
    greatest = jnp.max(hs, axis=0, where=mask[..., None], initial=-1.0)  # states lie above −1
    pooled = jnp.concatenate([mean, greatest], axis=-1)
    return gru_jax.readout(model.head, dropout(pool_key, pooled, rate))


def logits_of(model: Model, tokens: jax.Array) -> jax.Array:
    """Logits `[B, C]` of sentences `[B, T, PIECES]`."""
    tokens = jnp.swapaxes(tokens, 0, 1)
    return classify(model, vectors_of(model, tokens), mask_of(tokens))


def loss_of(
    model: Model, batch: Batch, key: jax.Array, *, rate: float, piece_rate: float
) -> jax.Array:
    """The weighted mean loss in training, with dropout."""
    piece_key, key = jax.random.split(key)
    tokens = jnp.swapaxes(batch.tokens, 0, 1)
    xs = vectors_of(model, tokens, piece_rate, piece_key)
    logits = classify(model, xs, mask_of(tokens), rate, key)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(batch.labels))
    return jnp.sum(batch.weights * losses) / jnp.sum(batch.weights)


def log_p_of(model: Model, tokens: np.ndarray) -> jax.Array:
    """Log probabilities `[N, C]` of the classes of many sentences `[N, T, PIECES]`."""
    blocks = -(-len(tokens) // ROWS)  # in turn, because all at once would need much memory
    short = blocks * ROWS - len(tokens)
    padded = jnp.pad(tokens, [(0, short), (0, 0), (0, 0)], constant_values=UNKNOWN)
    blocks_of = padded.reshape(blocks, ROWS, *tokens.shape[1:])
    log_p: jax.Array = jax.lax.map(
        lambda part: jax.nn.log_softmax(logits_of(model, part)), blocks_of
    )
    return log_p.reshape(blocks * ROWS, -1)[: len(tokens)]


def accuracy_of(log_p: jax.Array, labels: np.ndarray) -> jax.Array:
    """The share of sentences in the right class; one without probabilities (NaN) is in none."""
    right = jnp.argmax(log_p, axis=-1) == labels
    return jnp.mean(right & ~jnp.any(jnp.isnan(log_p), axis=-1))


def word_attributions(
    model: Model, sentences: list[list[str]], data: Batch
) -> list[dict[str, Any]]:
    """Gradient × input of the chosen class's lead over the others' mean, for each word."""

    def lead(xs: jax.Array, mask: jax.Array) -> Any:
        logits = classify(model, xs, mask)
        chosen = jnp.argmax(logits)
        return logits[chosen] - (jnp.sum(logits) - logits[chosen]) / (len(logits) - 1), chosen

    weigh = jax.jit(jax.value_and_grad(lead, has_aux=True))
    found = []
    for words, tokens, label in zip(sentences, data.tokens, data.labels, strict=True):
        xs = vectors_of(model, tokens)
        (_, chosen), gradient = weigh(xs, mask_of(tokens))
        weights = np.asarray(jnp.sum(gradient * xs, axis=-1))[: len(words)]
        found.append(
            {
                "words": words[: len(weights)],
                "weights": weights.tolist(),
                "found": int(chosen),
                "right": int(label),
            }
        )
    return found
