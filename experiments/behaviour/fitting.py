"""Many fits at once: the whole training function, mapped over subjects and restarts."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.behaviour.config import Config
from experiments.behaviour.data import Sessions
from experiments.behaviour.model import Family, nats
from experiments.harness.layouts import Layout
from experiments.harness.pieces import in_pieces
from experiments.harness.runs import OpenRun
from experiments.harness.training import adam


class State(NamedTuple):
    """A fit under way."""

    params: Any
    optimiser: Any
    best_params: Any  # at the evaluation with the lowest validation loss
    best_loss: jax.Array


class Fits(NamedTuple):
    """Finished fits."""

    params: Any  # of the restart that is best in validation; each leaf [N, ...]
    validation: np.ndarray  # [N, restarts]
    history: list[dict[str, Any]]


def begin(config: Config, family: Family, key: jax.Array) -> State:
    """The state before the first update."""
    params = family.init(key)
    return State(params, optimiser_of(config).init(params), params, jnp.array(jnp.inf))


def advance(
    config: Config, family: Family, state: State, training: Sessions, validation: Sessions
) -> State:
    """So many updates on all of a subject's training sessions, then an evaluation."""
    optimiser = optimiser_of(config)

    def loss(params: Any, part: Sessions) -> jax.Array:
        return nats(family.logits(params, part.xs), part.choices)

    def update(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
        params, before = carry
        updates, after = optimiser.update(jax.grad(loss)(params, training), before, params)
        return (optax.apply_updates(params, updates), after), None

    carry = state.params, state.optimiser
    (params, moments), _ = jax.lax.scan(update, carry, length=config.evaluate_every)
    value = loss(params, validation)
    new, old = (params, value), (state.best_params, state.best_loss)
    best = jax.tree.map(partial(jnp.where, value < state.best_loss), new, old)
    return State(params, moments, *best)


def train(
    config: Config, family: Family, key: jax.Array, training: Sessions, validation: Sessions
) -> State:
    """The whole training function of one fit, from its key to its parameters."""

    def body(state: State, _: None) -> tuple[State, None]:
        return advance(config, family, state, training, validation), None

    state = begin(config, family, key)
    return jax.lax.scan(body, state, length=config.evaluations)[0]


def optimiser_of(config: Config) -> optax.GradientTransformation:
    """Adam, as all experiments have it."""
    return adam(config.learning_rate, config.steps)


def keys_of(config: Config) -> jax.Array:
    """A key of each fit: of the first subject's restarts, of the second's, and so on."""
    return jax.random.split(jax.random.key(0), config.subjects * config.restarts)


def of_all_fits(config: Config, data: Any) -> Any:
    """Each subject's data for each of its restarts."""
    return jax.tree.map(lambda leaf: jnp.repeat(jnp.asarray(leaf), config.restarts, axis=0), data)


def fit(run: OpenRun, name: str, family: Family, training: Sessions, validation: Sessions) -> Fits:
    """Fits all subjects from all keys: `train` mapped, in pieces, the fits spread over devices."""
    config: Config = run.config
    layout, keys = Layout(run.mesh), keys_of(config)
    data = layout.put(of_all_fits(config, (training, validation)), 0)
    first_state = layout.put(jax.jit(jax.vmap(partial(begin, config, family)))(keys), 0)

    @partial(jax.jit, donate_argnums=0)
    def mapped(state: State, data: Any) -> State:
        kept: State = layout.keep(jax.vmap(partial(advance, config, family))(state, *data), 0)
        return kept

    def losses_of(state: State) -> np.ndarray:
        return np.asarray(layout.whole(state.best_loss)).reshape(config.subjects, config.restarts)

    def piece(state: State, first: int) -> tuple[State, dict[str, float]]:
        state = mapped(state, data)
        losses = losses_of(state)
        if not np.any(np.isfinite(losses)):
            raise FloatingPointError(f"No fit of {name} is finite: lower --learning-rate.")
        return state, {"validation_loss": float(np.mean(losses.min(axis=1)))}

    def shown(entry: dict[str, Any]) -> dict[str, str]:
        rate = len(keys) * entry["step"] / config.steps / entry["seconds"]
        return {"validation": f"{entry['validation_loss']:.4f}", "fits/s": f"{rate:.2f}"}

    state, history = in_pieces(
        run.checkpoints / name.replace(", ", "-").replace(" ", "-"),
        first_state,
        piece,
        shown,
        updates=config.steps,
        every=config.evaluate_every,
    )
    losses = losses_of(state)
    if lost := np.count_nonzero(~np.isfinite(losses)):
        run.warnings.append(f"{name}: {lost} of {losses.size} fits were never finite")
    rows = config.restarts * np.arange(config.subjects) + losses.argmin(axis=1)
    params = jax.tree.map(lambda leaf: leaf[rows], layout.whole(state.best_params))
    return Fits(params, losses, history)
