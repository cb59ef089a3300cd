"""Actor and critic on a GRU's state, and their feed-forward twin."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn.initializers import orthogonal

import gru_jax

Heads = tuple[jax.Array, jax.Array]
"""Logits `[..., A]` and values `[...]`."""


class Agent(NamedTuple):
    """A policy with a value function, the one thing that PPO asks of a network."""

    init: Callable[[jax.Array], Any]  # key -> parameters
    zero_state: Callable[[int], jax.Array]  # rows -> h [B, H]
    act: Callable[[Any, jax.Array, jax.Array, jax.Array], tuple[jax.Array, Heads]]
    """`(params, h [B, H], x [B, O], resets [B]) -> (h, heads)`, one step."""
    unroll: Callable[[Any, jax.Array, jax.Array, jax.Array], Heads]
    """`(params, h0 [B, H], xs [T, B, O], resets [T, B]) -> heads`, a rollout once more."""


class Model(NamedTuple):
    """The parameters."""

    encoder: gru_jax.ReadoutParams
    core: Any  # a GRU, or a layer without memory
    actor: gru_jax.ReadoutParams
    critic: gru_jax.ReadoutParams
    reset_state: jax.Array | None  # [H], which an episode begins with; None for zeros


def dense(key: jax.Array, inputs: int, outputs: int, scale: float) -> gru_jax.ReadoutParams:
    """A linear layer, orthogonal as in PPO's implementations."""
    return gru_jax.init_readout(key, inputs, outputs, w_init=orthogonal(scale))


def init_model(key: jax.Array, sizes: tuple[int, int, int], core: Any, reset: Any) -> Model:
    """The layers around a core, for sizes (observation, hidden, actions)."""
    observation, hidden, actions = sizes
    encoder_key, actor_key, critic_key = jax.random.split(key, 3)
    return Model(
        dense(encoder_key, observation, hidden, 2**0.5),
        core,
        dense(actor_key, hidden, actions, 0.01),
        dense(critic_key, hidden, 1, 1.0),
        reset,
    )


def encode(model: Model, x: jax.Array) -> jax.Array:
    """Features `[..., H]` of observations."""
    return jax.nn.relu(gru_jax.readout(model.encoder, x))


def heads(model: Model, hs: jax.Array) -> Heads:
    """What actor and critic say of states `[..., H]`."""
    return gru_jax.readout(model.actor, hs), gru_jax.readout(model.critic, hs)[..., 0]


def gru(sizes: tuple[int, int, int], *, learned_reset: bool) -> Agent:
    """A GRU between the layers; the state that episodes begin with is learned, or zero."""
    hidden = sizes[1]

    def init(key: jax.Array) -> Model:
        gru_key, key = jax.random.split(key)
        core = gru_jax.init_gru(gru_key, hidden, hidden, reset="after", w_x_init=orthogonal())
        return init_model(key, sizes, core, jnp.zeros(hidden) if learned_reset else None)

    def act(model: Model, h: jax.Array, x: jax.Array, resets: jax.Array) -> Any:
        reset_state, x = model.reset_state, encode(model, x)
        h = gru_jax.gru_step(model.core, h, x, resets=resets, reset_state=reset_state)
        return h, heads(model, h)

    def unroll(model: Model, h0: jax.Array, xs: jax.Array, resets: jax.Array) -> Heads:
        reset_state, xs = model.reset_state, encode(model, xs)
        _, hs = gru_jax.gru_unroll(model.core, h0, xs, resets=resets, reset_state=reset_state)
        return heads(model, hs)

    return Agent(init, lambda rows: jnp.zeros((rows, hidden)), act, unroll)


def feed_forward(sizes: tuple[int, int, int]) -> Agent:
    """A layer of as many units in place of the GRU."""
    hidden = sizes[1]

    def init(key: jax.Array) -> Model:
        core_key, key = jax.random.split(key)
        return init_model(key, sizes, dense(core_key, hidden, hidden, 2**0.5), None)

    def unroll(model: Model, h0: jax.Array, xs: jax.Array, resets: jax.Array) -> Heads:
        del h0, resets
        return heads(model, jax.nn.relu(gru_jax.readout(model.core, encode(model, xs))))

    def act(model: Model, h: jax.Array, x: jax.Array, resets: jax.Array) -> Any:
        return h, unroll(model, h, x, resets)

    return Agent(init, lambda rows: jnp.zeros((rows, 1)), act, unroll)
