"""A GRU reads the pixels of an image one by one, and a linear head classifies its last state.

Arrays are time-major: T steps of B images.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

import gru_jax
from experiments.pixels.config import Config
from experiments.pixels.data import DEVIATION, DIGITS, MEAN, PIXELS, ROW, Batch


class Model(NamedTuple):
    """The parameters."""

    cell: gru_jax.GRUParams
    head: gru_jax.ReadoutParams  # [H, 10]


def init_model(key: jax.Array, config: Config) -> Model:
    """Draws the parameters.

    The update gate's biases let the units keep their state for 1 to T steps at first (Tallec &
    Ollivier 2018, "chrono initialization"), here as many for 1 to 28 steps as for 28 to 784.
    """
    cell_key, bias_key, head_key = jax.random.split(key, 3)
    size, steps = config.hidden_size, PIXELS // config.pixels_per_step
    cell = gru_jax.init_gru(cell_key, config.pixels_per_step, size)
    keeps = jax.random.uniform(bias_key, (size,), maxval=math.log(steps))  # log of steps
    b = jnp.concatenate([-keeps, jnp.zeros(2 * size)])
    head = gru_jax.init_readout(head_key, size, DIGITS)
    return Model(dataclasses.replace(cell, b=b), head)


def states_of(model: Model, xs: jax.Array) -> jax.Array:
    """The states `[T, B, H]` after each step of sequences `[T, B, P]` of bytes."""
    scaled = (jnp.asarray(xs, jnp.float32) / 255 - MEAN) / DEVIATION
    _, hs = gru_jax.gru_unroll(model.cell, None, scaled)
    return hs


def after_rows(hs: jax.Array) -> jax.Array:
    """The states `[28, B, H]` after 28, 56, ... 784 pixels."""
    steps = len(hs) // ROW
    return hs[steps - 1 :: steps]


def loss_of(config: Config, model: Model, batch: Batch) -> jax.Array:
    """Nats per image after its last pixel, and weighted those after each row."""
    logits = gru_jax.readout(model.head, after_rows(states_of(model, batch.xs)))
    digits = jnp.broadcast_to(batch.digits, logits.shape[:2])
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, digits)
    return jnp.mean(nats[-1]) + config.row_weight * jnp.mean(nats)


def accuracies(model: Model, blocks: Batch) -> jax.Array:
    """The share of images whose digit is the likeliest after 28, 56, ... 784 pixels, `[28]`.

    Args:
      model: the parameters.
      blocks: of images, `[K, T, B, P]` and `[K, B]`, read one after the other.
    """

    def right(batch: Batch) -> jax.Array:
        logits = gru_jax.readout(model.head, after_rows(states_of(model, batch.xs)))
        return jnp.mean(jnp.argmax(logits, axis=-1) == batch.digits[None], axis=1)

    return jnp.mean(jax.lax.map(right, blocks), axis=0)


def beliefs(model: Model, xs: jax.Array) -> jax.Array:
    """The probability of each digit after 28, 56, ... 784 pixels, `[28, B, 10]`."""
    logits = gru_jax.readout(model.head, after_rows(states_of(model, xs)))
    return jax.nn.softmax(logits, axis=-1)
