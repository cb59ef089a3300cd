"""What is fitted to behaviour: GRUs of a few units, and learners; each predicts the next choice."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

import gru_jax
from experiments.behaviour.data import EVENTS, Learner

RATES = ("learning", "forgetting", "tracing")
"""The parameters of a learner that lie between 0 and 1."""


class Family(NamedTuple):
    """A kind of model."""

    init: Callable[[jax.Array], Any]  # key -> parameters
    logits: Callable[[Any, ArrayLike], jax.Array]  # parameters, xs [T, B, EVENTS] -> [T, B]


class Model(NamedTuple):
    """A GRU, and the read-out of its state that chooses arm 1."""

    gru: gru_jax.GRUParams
    head: gru_jax.ReadoutParams


def name_of(units: int) -> str:
    """What a GRU of so many units is called."""
    return f"GRU, {units} unit{'s' * (units > 1)}"


def gru(units: int) -> Family:
    """GRUs of some units."""

    def init(key: jax.Array) -> Model:
        gru_key, head_key = jax.random.split(key)
        return Model(
            gru_jax.init_gru(gru_key, EVENTS, units), gru_jax.init_readout(head_key, units, 1)
        )

    def logits(model: Model, xs: ArrayLike) -> jax.Array:
        _, hs = gru_jax.gru_unroll(model.gru, None, xs)
        return gru_jax.readout(model.head, hs)[..., 0]

    return Family(init, logits)


def learner_step(params: Learner, state: Any, x: jax.Array) -> Any:
    """A step of the learner of data.py: (Q, C) `[B, 2]` each, from the event x `[B, EVENTS]`."""
    q, trace = state
    chosen = x[..., ::2] + x[..., 1::2]  # of no arm before the first trial
    rewards = x[..., 1::2]
    q = q + params.learning * (rewards - chosen * q) - params.forgetting * (1 - chosen) * q
    return q, trace + params.tracing * (chosen - trace)


def learner(*, plain: bool) -> Family:
    """Learners of data.py; plain ones learn values alone, and neither forget nor persevere."""
    names = ("learning", "value") if plain else Learner._fields

    def init(key: jax.Array) -> dict[str, jax.Array]:
        return dict(zip(names, jax.random.normal(key, (len(names),)), strict=True))

    def logits(params: dict[str, jax.Array], xs: ArrayLike) -> jax.Array:
        full = {name: params.get(name, jnp.array(-jnp.inf)) for name in RATES}
        rates = {name: jax.nn.sigmoid(raw) for name, raw in full.items()}  # of -∞: zero
        value = jnp.exp(params["value"])
        perseveration = params.get("perseveration", jnp.zeros(()))
        whole: Any = Learner(value=value, perseveration=perseveration, **rates)  # type: ignore[arg-type]
        zeros = jnp.zeros((*jnp.shape(xs)[1:-1], 2))
        _, (q, trace) = gru_jax.unroll(learner_step, whole, (zeros, zeros), xs)
        both: jax.Array = whole.value * q + whole.perseveration * trace
        return both[..., 1] - both[..., 0]

    return Family(init, logits)


def nats(logits: jax.Array, choices: ArrayLike) -> jax.Array:
    """The mean negative log-likelihood of a trial."""
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, jnp.asarray(choices, logits.dtype)))
