"""An encoder, a decoder, and attention between them."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import gru_jax
from experiments.harness.dropout import dropout
from experiments.translation.data import END, PAD, START, UNKNOWN, Batch

BLOCK = 256  # sequences that are evaluated at once


class Model(NamedTuple):
    """The parameters; with encoder states of H in each direction and decoder states of D."""

    source_embedding: jax.Array  # [V, E]
    encoder: gru_jax.GRUStack  # bidirectional
    bridge: gru_jax.ReadoutParams  # [2H, D], from the encoder's last states to the decoder's first
    target_embedding: jax.Array  # [W, E]
    lower: gru_jax.GRUParams  # reads the target's tokens; its states are the queries
    query: jax.Array  # [D, 2H]
    upper: gru_jax.GRUParams  # reads the lower layer's states and their contexts
    head: gru_jax.ReadoutParams  # [D, W]


class Memory(NamedTuple):
    """The encoder's outputs."""

    outputs: jax.Array  # [B, T, 2H]
    mask: jax.Array  # [B, T]


def init_model(
    key: jax.Array, sources: int, targets: int, embedding: int, hidden: int, layers: int
) -> Model:
    """Draws the parameters.

    Args:
      key: the key is consumed.
      sources: V, the size of the source's vocabulary.
      targets: W, the size of the target's.
      embedding: E.
      hidden: both H and D.
      layers: of the encoder.
    """
    keys = jax.random.split(key, 8)
    return Model(
        source_embedding=0.1 * jax.random.normal(keys[0], (sources, embedding)),
        encoder=gru_jax.init_gru_stack(keys[1], embedding, (hidden,) * layers, bidirectional=True),
        bridge=gru_jax.init_readout(keys[2], 2 * hidden, hidden),
        target_embedding=0.1 * jax.random.normal(keys[3], (targets, embedding)),
        lower=gru_jax.init_gru(keys[4], embedding, hidden),
        query=jax.nn.initializers.lecun_normal()(keys[5], (hidden, 2 * hidden)),
        upper=gru_jax.init_gru(keys[6], 3 * hidden, hidden),
        head=gru_jax.init_readout(keys[7], hidden, targets),
    )


def encode(
    model: Model, sources: jax.Array, rate: float = 0.0, key: jax.Array | None = None
) -> tuple[Memory, jax.Array]:
    """Encodes sources `[B, T]`: the memory, and the decoder's first state `[B, D]`."""
    mask = sources != PAD
    h_lasts, hs = gru_jax.gru_stack_unroll(
        model.encoder,
        None,
        model.source_embedding[sources.T],
        mask=mask.T,
        input_dropout=rate,
        key=key,
    )
    h0 = jnp.tanh(gru_jax.readout(model.bridge, jnp.concatenate(h_lasts[-1], axis=-1)))
    return Memory(jnp.swapaxes(hs, 0, 1), mask), h0


def attend(model: Model, memory: Memory, hs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Contexts `[B, ..., 2H]` for states `[B, ..., D]`, and the weights `[B, ..., T]`.

    The score of a state h and an output m is h W m (Luong et al. 2015, "general").
    """
    scores = jnp.einsum("b...d,dm,btm->b...t", hs, model.query, memory.outputs)
    mask = jnp.expand_dims(memory.mask, tuple(range(1, hs.ndim - 1)))
    weights = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf))
    return jnp.einsum("b...t,btm->b...m", weights, memory.outputs), weights


def decode(
    model: Model,
    memory: Memory,
    h0: jax.Array,
    targets: jax.Array,
    rate: float = 0.0,
    key: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Logits `[S, B, W]` of targets `[B, S]` given the tokens before each, and the weights.

    No state of the lower layer depends on a context (as in Wu et al. 2016), so that each layer
    runs over the whole target at once, and all attention is a few large products.
    """
    lower_key, upper_key, head_key = (None,) * 3 if key is None else jax.random.split(key, 3)
    before = jnp.pad(targets[:, :-1], [(0, 0), (1, 0)], constant_values=START)
    run = partial(gru_jax.gru_stack_unroll, input_dropout=rate)
    xs = model.target_embedding[before.T]
    _, hs = run(gru_jax.GRUStack((model.lower,)), (h0,), xs, key=lower_key)
    contexts, weights = attend(model, memory, jnp.swapaxes(hs, 0, 1))
    xs = jnp.concatenate([hs, jnp.swapaxes(contexts, 0, 1)], axis=-1)
    _, hs = run(gru_jax.GRUStack((model.upper,)), None, xs, key=upper_key)
    hs = dropout(head_key, hs, rate, broadcast_dims=(0,))
    return gru_jax.readout(model.head, hs), weights


def step(model: Model, memory: Memory, state: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
    """The next states `[B, ..., D]` of both layers, and logits; one token of `decode`."""
    lower = gru_jax.gru_step(model.lower, state[0], model.target_embedding[tokens])
    context, _ = attend(model, memory, lower)
    upper = gru_jax.gru_step(model.upper, state[1], jnp.concatenate([lower, context], axis=-1))
    logits = gru_jax.readout(model.head, upper)
    return (lower, upper), logits.at[..., jnp.array([PAD, START, UNKNOWN])].set(-jnp.inf)


def token_losses(logits: jax.Array, targets: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross entropy `[S, B]` with targets `[B, S]`, partly with all tokens alike; 0 at PAD."""
    log_p = jax.nn.log_softmax(logits)
    right = jnp.take_along_axis(log_p, targets.T[..., None], axis=-1)[..., 0]
    alike = smoothing * jnp.mean(log_p, axis=-1)
    # without smoothing an impossible token, of −∞, does not count: 0 times it would be NaN
    losses = -(1 - smoothing) * right - jnp.where(smoothing > 0, alike, 0.0)
    return jnp.where(targets.T == PAD, 0.0, losses)


def loss_of(
    model: Model, batch: Batch, key: jax.Array, *, rate: float, smoothing: float
) -> jax.Array:
    """The mean loss per token in training."""
    encoder_key, decoder_key = jax.random.split(key)
    memory, h0 = encode(model, batch.sources, rate, encoder_key)
    logits, _ = decode(model, memory, h0, batch.targets, rate, decoder_key)
    losses = token_losses(logits, batch.targets, smoothing)
    return jnp.sum(losses) / jnp.sum(batch.targets != PAD)


def nats_per_token(model: Model, batch: Batch) -> jax.Array:
    """The mean loss per token, END included, without smoothing."""
    blocks = -(-len(batch.sources) // BLOCK)  # in turn, because all at once would need much memory
    short = blocks * BLOCK - len(batch.sources)
    sources = np.pad(batch.sources, [(0, short), (0, 0)], constant_values=END)
    targets = np.pad(batch.targets, [(0, short), (0, 0)], constant_values=PAD)

    def total(block: tuple[jax.Array, jax.Array]) -> jax.Array:
        logits, _ = decode(model, *encode(model, block[0]), block[1])
        return jnp.sum(token_losses(logits, block[1]))

    both = sources.reshape(blocks, BLOCK, -1), targets.reshape(blocks, BLOCK, -1)
    return jnp.sum(jax.lax.map(total, both)) / jnp.sum(targets != PAD)
