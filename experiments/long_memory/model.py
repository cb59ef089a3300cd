"""The cells that are compared, of equal size, and the gradients that reach back in time."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import gru_jax
from experiments.harness.cells import CELLS, size_of
from experiments.long_memory.data import COPIED, SYMBOLS, Batch


class Model(NamedTuple):
    """The parameters: a cell and a linear read-out of its state."""

    cell: Any
    head: gru_jax.ReadoutParams


KEEPS: Mapping[str, tuple[int, ...]] = {"rnn": (0,), "lstm": (-1, 1, 0, 0), "gru": (-1, 0, 0)}
"""Per gate, whether to keep (1) or to overwrite (-1) the state."""


def init_model(key: jax.Array, cell: str, batch: Batch, gru_size: int) -> Model:
    """Draws the parameters for such batches.

    The gates' biases let the units keep their state for 1 to T steps at first (Tallec & Ollivier
    2018, "chrono initialization"); a tanh RNN has no gate for that.
    """
    steps, _, inputs = batch.xs.shape
    outputs = 1 if batch.targets.ndim == 1 else SYMBOLS
    size = size_of(cell, inputs, gru_size)
    cell_key, bias_key, head_key = jax.random.split(key, 3)
    params = CELLS[cell].init(cell_key, inputs, size)
    times = jax.random.uniform(bias_key, (size,), minval=1.0, maxval=steps - 1.0)
    b = jnp.concatenate([keep * jnp.log(times) for keep in KEEPS[cell]])
    return Model(dataclasses.replace(params, b=b), gru_jax.init_readout(head_key, size, outputs))


def answer_loss(head: gru_jax.ReadoutParams, hs: Any, targets: jax.Array) -> jax.Array:
    """Squared error of the sum, or nats per copied symbol, from all states `[T, B, H]`."""
    hs = jax.tree.leaves(hs)[0]  # of an LSTM's state the output
    if targets.ndim == 1:
        return jnp.mean((gru_jax.readout(head, hs[-1])[:, 0] - targets) ** 2)
    logits = gru_jax.readout(head, hs[-COPIED:])
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, targets))


def loss_of(cell: str, model: Model, batch: Batch) -> jax.Array:
    """The loss of a batch."""
    h0 = gru_jax.zero_state(model.cell, batch.xs.shape[1:2])
    _, hs = CELLS[cell].unroll(model.cell, h0, batch.xs)
    return answer_loss(model.head, hs, jnp.asarray(batch.targets))


def gradient_norms(cell: str, model: Model, batch: Batch) -> jax.Array:
    """The norm of the gradient of one sequence's loss with respect to its state, `[T]`, averaged.

    A zero is added to the state after every step; the gradient is the one with respect to that.
    """

    def moved(params: Any, h: Any, inputs: Any) -> Any:
        x, nothing = inputs
        return jax.tree.map(jnp.add, CELLS[cell].step(params, h, x), nothing)

    count = batch.xs.shape[1]
    h0 = gru_jax.zero_state(model.cell, (count,))
    nothing = jax.tree.map(lambda h: jnp.zeros((len(batch.xs), *h.shape)), h0)

    def loss(nothing: Any) -> jax.Array:
        _, hs = gru_jax.unroll(moved, model.cell, h0, (batch.xs, nothing))
        # of all sequences, so that each state has its own sequence's gradient
        return jnp.sum(count * answer_loss(model.head, hs, jnp.asarray(batch.targets)))

    leaves = jax.tree.leaves(jax.grad(loss)(nothing))
    squares = [jnp.sum(leaf**2, axis=-1) for leaf in leaves]
    return jnp.mean(jnp.sqrt(jnp.sum(jnp.stack(squares), axis=0)), axis=1)
