"""A cell reads a piano roll frame by frame, and a linear head predicts the next frame.

The 88 notes of a frame are independent of each other, given the frames before: the loss is the
sum of their binary cross entropies. Arrays are time-major: T frames of B pieces.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gru_jax
from experiments.harness.cells import CELLS, size_of
from experiments.harness.dropout import dropout
from experiments.music.config import Config
from experiments.music.data import NOTES, Batch


class Model(NamedTuple):
    """The parameters."""

    cell: Any
    head: gru_jax.ReadoutParams  # [H, 88]


def init_model(key: jax.Array, cell: str, gru_size: int, frequencies: np.ndarray) -> Model:
    """Draws the parameters; the head begins with the notes' frequencies `[88]`."""
    cell_key, head_key = jax.random.split(key)
    size = size_of(cell, NOTES, gru_size)
    head = gru_jax.init_readout(head_key, size, NOTES)
    b = jnp.asarray(np.log(frequencies / (1 - frequencies)), jnp.float32)
    return Model(CELLS[cell].init(cell_key, NOTES, size), dataclasses.replace(head, b=b))


def losses_of(
    config: Config, cell: str, model: Model, batch: Batch, key: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """The sum of the nats of all predicted frames, and their number.

    With a key, for training, there is dropout.
    """
    weight_key, input_key, output_key = (None,) * 3 if key is None else jax.random.split(key, 3)
    rolls = jnp.asarray(batch.rolls, jnp.float32)
    xs, targets = rolls[:-1], rolls[1:]
    mask = gru_jax.sequence_mask(batch.lengths - 1, len(xs))
    w_h = dropout(weight_key, model.cell.w_h, config.weight_dropout)
    _, hs = CELLS[cell].unroll(
        dataclasses.replace(model.cell, w_h=w_h),
        None,
        dropout(input_key, xs, config.input_dropout),
        mask=mask,
    )
    ys = dropout(output_key, jax.tree.leaves(hs)[0], config.output_dropout)  # of an LSTM's state h
    nats = optax.sigmoid_binary_cross_entropy(gru_jax.readout(model.head, ys), targets)
    return jnp.sum(nats, where=mask[..., None]), jnp.sum(mask)


def loss_of(
    config: Config, cell: str, model: Model, batch: Batch, key: jax.Array | None = None
) -> jax.Array:
    """Nats per predicted frame of a batch."""
    nats, frames = losses_of(config, cell, model, batch, key)
    return nats / frames


def evaluate(config: Config, cell: str, model: Model, blocks: Sequence[Batch]) -> jax.Array:
    """Nats per predicted frame of all pieces, each read whole and from a zero state."""
    # else XLA, which knows the rolls, would compute with them while it compiles
    blocks = jax.lax.optimization_barrier(jax.tree.map(jnp.asarray, list(blocks)))
    nats, frames = zip(*(losses_of(config, cell, model, block) for block in blocks), strict=True)
    return jnp.sum(jnp.stack(nats)) / jnp.sum(jnp.stack(frames))


def continued(
    key: jax.Array,
    model: Model,
    opening: np.ndarray,
    length: int,
    *,
    voices: int,
    temperature: float,
) -> jax.Array:
    """`length` frames that a GRU goes on with after an opening `[P, 88]`.

    Each frame is drawn from what `generate_step` returns, and read next.

    Args:
      key: the key is consumed.
      model: of a GRU.
      opening: at least one frame.
      length: a number of frames.
      voices: how many notes are drawn for a frame, one after the other, in proportion to their
        odds; with 0 every note is drawn by itself, with its probability.
      temperature: divides the logits. With 0 the most probable notes are taken; without voices,
        those that are more probable than not.
    """

    def draw(key: jax.Array, logits: jax.Array) -> jax.Array:
        if temperature > 0:
            logits = logits / temperature
            # logistic noise draws each note by itself, Gumbel noise one note before the other
            noise = jax.random.gumbel if voices else jax.random.logistic
            logits = logits + noise(key, logits.shape)
        least = jax.lax.top_k(logits, voices)[0][-1] if voices else 0.0
        return jnp.asarray(logits >= least, logits.dtype)

    def step(carry: tuple[jax.Array, jax.Array], key: jax.Array) -> Any:
        h, x = carry
        h, logits = gru_jax.generate_step(model.cell, model.head, h, x, activation=lambda y: y)
        x = draw(key, logits)
        return (h, x), x

    xs = jnp.asarray(opening, jnp.float32)
    h, _ = gru_jax.gru_unroll(model.cell, None, xs[:-1])
    frames: jax.Array = jax.lax.scan(step, (h, xs[-1]), jax.random.split(key, length))[1]
    return frames
