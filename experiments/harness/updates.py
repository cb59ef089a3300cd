"""The updates of the training loop that every experiment shares, jitted."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class State(NamedTuple):
    """What updates change, and what is kept of it."""

    params: Any
    optimiser: Any
    carry: Any
    best_params: Any
    best_loss: Any


class Jitted(NamedTuple):
    """The parts of `training.fit`; with a key `[S]` all of them are mapped over S seeds."""

    train: Callable[[State, jax.Array, Any], tuple[State, jax.Array]]
    """`(state, step, batches) -> (state, loss)`, from the number of the first step and the batches
    of all steps, stacked, to the mean loss. It writes over the state."""
    evaluate: Callable[[Any], jax.Array]
    """`params -> loss`."""
    keep_best: Callable[[State, jax.Array], State]
    """`(state, loss) -> state`, with its parameters if they are the best. It writes over it."""
    new_state: Callable[[Any, Any], State]
    """`(params, carry) -> state`, not jitted."""


def jitted(
    optimiser: optax.GradientTransformation,
    key: jax.Array,
    loss: Callable[..., Any],
    evaluate: Callable[..., Any],
    keep: Callable[[State], State],
) -> Jitted:
    """The parts of `training.fit`, from its arguments of these names.

    `keep` lays the state out on the devices after each update.
    """

    def update(state: State, key: jax.Array, batch: Any, step: jax.Array) -> Any:
        gradient = jax.value_and_grad(loss, has_aux=True)
        step_key = jax.random.fold_in(key, step)
        (value, carry), gradients = gradient(state.params, state.carry, batch, step_key)
        updates, optimiser_state = optimiser.update(gradients, state.optimiser, state.params)
        params = optax.apply_updates(state.params, updates)
        return state._replace(params=params, optimiser=optimiser_state, carry=carry), value

    def keep_best(state: State, value: jax.Array) -> State:
        new, old = (state.params, value), (state.best_params, state.best_loss)
        best_params, best_loss = jax.tree.map(partial(jnp.where, value < state.best_loss), new, old)
        return state._replace(best_params=best_params, best_loss=best_loss)

    init = optimiser.init
    if key.ndim:
        update = jax.vmap(update, in_axes=(0, 0, None, None))
        evaluate, keep_best, init = map(jax.vmap, (evaluate, keep_best, init))

    @partial(jax.jit, donate_argnums=0)
    def train(state: State, first: jax.Array, batches: Any) -> tuple[State, jax.Array]:
        def body(state: State, inputs: tuple[Any, jax.Array]) -> Any:
            batch, step = inputs
            state, value = update(state, key, batch, step)
            return keep(state), value

        count = len(jax.tree.leaves(batches)[0])
        state, losses = jax.lax.scan(body, state, (batches, first + jnp.arange(count)))
        return state, losses.mean(axis=0)

    def new_state(params: Any, carry: Any) -> State:
        worst = jnp.full(key.shape, jnp.inf, jnp.float32)
        return State(params, init(params), carry, params, worst)

    keep_best = jax.jit(keep_best, donate_argnums=0)
    return Jitted(train, jax.jit(evaluate), keep_best, new_state)
