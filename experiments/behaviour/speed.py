"""How long the fits take, beside the same fits with Haiku's GRU."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from experiments.behaviour.config import Config
from experiments.behaviour.data import EVENTS, Sessions
from experiments.behaviour.fitting import keys_of, of_all_fits, train
from experiments.behaviour.model import Family, gru, name_of
from experiments.benchmark.timing import Mode, Ready, Shape, ready, timed


def haiku_gru(units: int) -> Family:
    """`hk.dynamic_unroll(hk.GRU)` and `hk.Linear`, in place of `model.gru`."""
    import haiku as hk

    def network(xs: jax.Array) -> jax.Array:
        h0 = jnp.zeros((*xs.shape[1:-1], units))
        hs, _ = hk.dynamic_unroll(hk.GRU(units), xs, h0)
        logits: jax.Array = hk.Linear(1)(hs)[..., 0]
        return logits

    made = hk.without_apply_rng(hk.transform(network))
    return Family(lambda key: made.init(key, jnp.zeros((2, 1, EVENTS))), made.apply)


def timed_fits(config: Config, training: Sessions, validation: Sessions) -> dict[str, Any]:
    """By number of units and library: how long all fits at once take, in turns."""

    def fits(make: Any, shape: Shape, mode: Mode) -> Ready:
        program = jax.vmap(partial(train, config, make(shape.hidden)))
        return ready(program, keys_of(config), *of_all_fits(config, (training, validation)))

    libraries = {"gru_jax": partial(fits, gru), "Haiku": partial(fits, haiku_gru)}
    found: dict[str, Any] = {}
    for units in config.units:
        shape = Shape(config.trials, config.training_sessions, EVENTS, units)
        entries = timed(name_of(units), shape, "train", libraries, config.rounds)
        found[str(units)] = {name: entry._asdict() for name, entry in entries.items()}
    return found
