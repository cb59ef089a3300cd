"""Networks that turn a recording into a digit, or each of its frames into a digit or a blank."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gru_jax
from experiments.speech.config import Task
from experiments.speech.data import COEFFICIENTS, DIGITS, Batch
from experiments.speech.decode import BLANK


class Model(NamedTuple):
    """The parameters: a stack of GRUs and a linear head on its states."""

    stack: gru_jax.GRUStack
    head: gru_jax.ReadoutParams


def init_model(key: jax.Array, task: Task, sizes: Sequence[int]) -> Model:
    """Draws the parameters: of both directions for isolated digits, of one for connected ones."""
    stack_key, head_key = jax.random.split(key)
    isolated = task == "isolated"
    stack = gru_jax.init_gru_stack(stack_key, COEFFICIENTS, sizes, bidirectional=isolated)
    features, classes = (2 * sizes[-1], DIGITS) if isolated else (sizes[-1], DIGITS + 1)
    return Model(stack, gru_jax.init_readout(head_key, features, classes))


def mask_of(batch: Batch) -> jax.Array:
    """True in the frames that there are, `[T, B]`."""
    return gru_jax.sequence_mask(batch.lengths, len(batch.xs))


def states_of(
    model: Model, batch: Batch, rate: float = 0.0, key: jax.Array | None = None
) -> jax.Array:
    """The last layer's states `[T, B, H]`; with a key, with dropout between the layers."""
    _, hs = gru_jax.gru_stack_unroll(
        model.stack, None, batch.xs, mask=mask_of(batch), dropout=rate, key=key
    )
    return hs


def isolated_logits(model: Model, batch: Batch, *dropout: Any) -> jax.Array:
    """One of ten digits for each recording, `[B, 10]`, from its mean state."""
    hs = states_of(model, batch, *dropout)  # zero after the end
    return gru_jax.readout(model.head, jnp.sum(hs, axis=0) / batch.lengths[:, None])


def connected_logits(model: Model, batch: Batch, *dropout: Any) -> jax.Array:
    """The blank or one of ten digits for each frame, `[T, B, 11]`."""
    return gru_jax.readout(model.head, states_of(model, batch, *dropout))


def loss_of(task: Task, model: Model, batch: Batch, *dropout: Any) -> jax.Array:
    """Nats for each spoken digit."""
    labels = jnp.asarray(batch.labels)
    if task == "isolated":
        logits = isolated_logits(model, batch, *dropout)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels[:, 0] - 1)
        return jnp.mean(losses)
    logits = jnp.swapaxes(connected_logits(model, batch, *dropout), 0, 1)  # optax: batch first
    padding, silent = 1.0 - mask_of(batch).T, labels == BLANK
    losses = optax.ctc_loss(logits, padding, labels, silent.astype(jnp.float32), blank_id=BLANK)
    return jnp.sum(losses) / jnp.sum(~silent)


@jax.jit
def listen(model: Model, hs: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    """Takes in one frame `[13]`: the next states, and logits `[11]`."""
    hs, h = gru_jax.gru_stack_step(model.stack, hs, x)
    return hs, gru_jax.readout(model.head, h)


def heard(model: Model, frames: np.ndarray) -> Iterator[tuple[int, int]]:
    """Digits as soon as they are recognised in a stream of frames: each one's frame and itself."""
    hs, before = gru_jax.zero_state(model.stack), BLANK
    for t, x in enumerate(frames):
        hs, logits = listen(model, hs, x)
        best = int(jnp.argmax(logits))
        if best not in (BLANK, before):
            yield t, best - 1
        before = best
