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
from experiments.harness import checkpoints
from experiments.harness.files import as_json
from experiments.harness.progress import Clock, progress
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
    """Fits all subjects from all keys: `train` mapped, in pieces, with checkpoints in between."""
    config: Config = run.config
    steps, every = config.steps, config.evaluate_every
    keys, data = keys_of(config), of_all_fits(config, (training, validation))
    mapped = jax.jit(jax.vmap(partial(advance, config, family)))
    state = jax.jit(jax.vmap(partial(begin, config, family)))(keys)
    folder = run.checkpoints / name.replace(", ", "-").replace(" ", "-")
    with checkpoints.open_manager(folder) as manager:
        state, history = checkpoints.restore(manager, state)
        clock, start = Clock(history), history[-1]["step"] if history else 0
        with progress(steps, start) as show:
            for step in range(start + every, steps + 1, every):
                state = mapped(state, *data)
                loss = np.asarray(state.best_loss).reshape(config.subjects, config.restarts)
                if not np.any(np.isfinite(loss)):
                    raise FloatingPointError(f"No fit of {name} is finite: lower --learning-rate.")
                chosen = float(np.mean(loss.min(axis=1)))
                entry = {"step": step, "validation_loss": chosen, **clock.read()}
                history.append(as_json(entry))
                checkpoints.save(manager, state, history)
                rate = len(keys) * step / steps / entry["seconds"]
                show(step, {"validation": f"{chosen:.4f}", "fits/s": f"{rate:.2f}"})
    losses = np.asarray(state.best_loss).reshape(config.subjects, config.restarts)
    if lost := np.count_nonzero(~np.isfinite(losses)):
        run.warnings.append(f"{name}: {lost} of {losses.size} fits were never finite")
    rows = config.restarts * np.arange(config.subjects) + losses.argmin(axis=1)
    params = jax.tree.map(lambda leaf: leaf[rows], state.best_params)
    return Fits(params, losses, history)
