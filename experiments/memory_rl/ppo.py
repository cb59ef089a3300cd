"""Proximal policy optimisation (Schulman et al. 2017) of recurrent policies, in one jitted program.

The details are those of CleanRL and PureJaxRL: generalised advantages, a clipped objective for
policy and value, an entropy bonus, advantages normalised in each minibatch, a learning rate that
falls linearly to zero. A minibatch has whole rows of the rollout, with all their steps.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.memory_rl.config import Config
from experiments.memory_rl.environments import Environment
from experiments.memory_rl.model import Agent

DISCOUNT, TRACE = 0.99, 0.95  # γ and λ
CLIP, VALUE_WEIGHT, MAX_NORM = 0.2, 0.5, 0.5
EPOCHS, MINIBATCHES = 4, 4  # passes over a rollout, and parts of it


class Problem(NamedTuple):
    """Who learns what."""

    config: Config
    environment: Environment
    agent: Agent
    dones_as_resets: bool = False  # a mistake: the learner's resets are one step early


class Carry(NamedTuple):
    """What one rollout hands over to the next, for B environments."""

    environments: Any
    x: jax.Array  # [B, O], observations not acted upon yet
    begins: jax.Array  # [B], whether they are the first of an episode
    h: jax.Array  # [B, H], the agent's states before them
    returns: jax.Array  # [B], of the episodes so far


class Rollout(NamedTuple):
    """T steps of B environments, time-major."""

    xs: jax.Array
    resets: jax.Array  # the observation is the first of an episode: the done of the step before
    actions: jax.Array
    log_probs: jax.Array
    values: jax.Array
    rewards: jax.Array
    dones: jax.Array
    returns: jax.Array  # of the episode up to this step


class State(NamedTuple):
    """Training under way."""

    params: Any
    optimiser: Any
    carry: Carry


class Batch(NamedTuple):
    """What the loss needs of some rows of a rollout."""

    rollout: Rollout
    advantages: jax.Array  # [T, B]
    h0: jax.Array  # [1, B, H], the states before the first step


def optimiser_of(config: Config) -> optax.GradientTransformation:
    """Adam on gradients of limited norm."""
    updates = config.updates * EPOCHS * MINIBATCHES
    rate = optax.linear_schedule(config.learning_rate, 0.0, updates)
    return optax.chain(optax.clip_by_global_norm(MAX_NORM), optax.adam(rate, eps=1e-5))


def begin(problem: Problem, key: jax.Array) -> State:
    """The state before the first update."""
    params_key, carry_key = jax.random.split(key)
    params = problem.agent.init(params_key)
    carry = begin_episodes(problem, carry_key, problem.config.environments)
    return State(params, optimiser_of(problem.config).init(params), carry)


def begin_all(problem: Problem, keys: jax.Array) -> State:
    """The states of all seeds before the first update, for their keys `[S]`.

    One after the other: on CPU XLA may hang where it draws two batches of orthogonal weights at a
    time (`gru_jax._initializers.orthogonal`).
    """
    state: State = jax.jit(partial(jax.lax.map, partial(begin, problem)))(keys)
    return state


def begin_episodes(problem: Problem, key: jax.Array, rows: int) -> Carry:
    """So many environments at the beginning of an episode."""
    reset_keys, observe_keys = jax.random.split(key, (2, rows))
    environments = jax.vmap(problem.environment.reset)(reset_keys)
    x = jax.vmap(problem.environment.observe)(observe_keys, environments)
    h, zeros = problem.agent.zero_state(rows), jnp.zeros(rows)
    return Carry(environments, x, jnp.ones(rows, bool), h, zeros)


def rolled_out(
    problem: Problem, key: jax.Array, params: Any, carry: Carry, steps: int
) -> tuple[Carry, Rollout]:
    """Acts for so many steps; an episode that ends is followed by another one."""

    def advance(key: jax.Array, state: Any, action: jax.Array) -> Any:
        step_key, reset_key, observe_key = jax.random.split(key, 3)
        after, reward, done = problem.environment.step(step_key, state, action)
        fresh = problem.environment.reset(reset_key)
        state = jax.tree.map(lambda new, old: jnp.where(done, new, old), fresh, after)
        return state, problem.environment.observe(observe_key, state), reward, done

    def step(carry: Carry, key: jax.Array) -> tuple[Carry, Rollout]:
        act_key, environment_key = jax.random.split(key)
        h, (logits, values) = problem.agent.act(params, carry.h, carry.x, carry.begins)
        actions = jax.random.categorical(act_key, logits)
        keys = jax.random.split(environment_key, len(actions))
        environments, x, rewards, dones = jax.vmap(advance)(keys, carry.environments, actions)
        returns = carry.returns + rewards
        log_probs = log_prob(jax.nn.log_softmax(logits), actions)
        done = Rollout(
            xs=carry.x,
            resets=carry.begins,
            actions=actions,
            log_probs=log_probs,
            values=values,
            rewards=rewards,
            dones=dones,
            returns=returns,
        )
        return Carry(environments, x, dones, h, jnp.where(dones, 0.0, returns)), done

    return jax.lax.scan(step, carry, jax.random.split(key, steps))


def log_prob(log_probs: jax.Array, actions: jax.Array) -> jax.Array:
    """Those of the actions `[...]`, of all log-probabilities `[..., A]`."""
    return jnp.take_along_axis(log_probs, actions[..., None], axis=-1)[..., 0]


def advantages_of(rollout: Rollout, last_value: jax.Array) -> jax.Array:
    """Generalised advantage estimates `[T, B]` (Schulman et al. 2016)."""
    keeps = 1.0 - rollout.dones
    next_values = jnp.concatenate([rollout.values[1:], last_value[None]])
    errors = rollout.rewards + DISCOUNT * keeps * next_values - rollout.values

    def step(later: jax.Array, inputs: Any) -> Any:
        error, keep = inputs
        advantage = error + DISCOUNT * TRACE * keep * later
        return advantage, advantage

    start = jnp.zeros_like(last_value)
    advantages: jax.Array
    _, advantages = jax.lax.scan(step, start, (errors, keeps), reverse=True, unroll=8)
    return advantages


def loss(problem: Problem, params: Any, batch: Batch) -> jax.Array:
    """The clipped objective, from the rollout's first states through all its steps."""
    rollout, advantages = batch.rollout, batch.advantages
    resets = rollout.dones if problem.dones_as_resets else rollout.resets
    logits, values = problem.agent.unroll(params, batch.h0[0], rollout.xs, resets)
    log_probs = jax.nn.log_softmax(logits)
    targets = advantages + rollout.values
    moved = jnp.clip(values - rollout.values, -CLIP, CLIP)
    errors = jnp.maximum((values - targets) ** 2, (rollout.values + moved - targets) ** 2)
    scaled = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    ratio = jnp.exp(log_prob(log_probs, rollout.actions) - rollout.log_probs)
    gain = jnp.minimum(ratio * scaled, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * scaled)
    entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
    bonus = problem.config.entropy * jnp.mean(entropy)
    return VALUE_WEIGHT * 0.5 * jnp.mean(errors) - jnp.mean(gain) - bonus


def update(problem: Problem, state: State, key: jax.Array) -> tuple[State, Any]:
    """A rollout, and what is learned from it.

    Returns:
      The next state; the sum of the returns of the episodes that ended, and their number.
    """
    config, optimiser = problem.config, optimiser_of(problem.config)
    rollout_key, rows_key = jax.random.split(key)
    before = state.carry
    carry, rollout = rolled_out(problem, rollout_key, state.params, before, config.steps)
    _, (_, last_value) = problem.agent.act(state.params, carry.h, carry.x, carry.begins)
    batch = Batch(rollout, advantages_of(rollout, last_value), before.h[None])

    def learn(carry: tuple[Any, Any], rows: jax.Array) -> tuple[tuple[Any, Any], None]:
        params, moments = carry
        part = jax.tree.map(lambda leaf: leaf[:, rows], batch)
        gradients = jax.grad(lambda params: loss(problem, params, part))(params)
        changes, moments = optimiser.update(gradients, moments)
        return (optax.apply_updates(params, changes), moments), None

    def shuffled(key: jax.Array) -> jax.Array:
        rows = jax.random.permutation(key, config.environments)
        return rows.reshape(MINIBATCHES, -1)

    rows = jax.vmap(shuffled)(jax.random.split(rows_key, EPOCHS))
    minibatches = rows.reshape(EPOCHS * MINIBATCHES, -1)
    (params, moments), _ = jax.lax.scan(learn, (state.params, state.optimiser), minibatches)
    ended = jnp.sum(jnp.where(rollout.dones, rollout.returns, 0.0)), jnp.sum(rollout.dones)
    return State(params, moments, carry), ended


def train(
    problem: Problem, state: State, key: jax.Array, first: jax.Array, updates: int
) -> tuple[State, jax.Array]:
    """So many updates, from the one numbered `first`; and the mean return of an episode."""

    def body(state: State, number: jax.Array) -> tuple[State, Any]:
        return update(problem, state, jax.random.fold_in(key, number))

    state, (returns, ended) = jax.lax.scan(body, state, first + jnp.arange(updates))
    return state, jnp.sum(returns) / jnp.sum(ended)  # NaN where no episode ended


def evaluate(problem: Problem, params: Any, key: jax.Array, episodes: int) -> jax.Array:
    """The mean return of the first episode of so many environments.

    One that has not ended within the horizon counts with what it has got.
    """
    begin_key, key = jax.random.split(key)
    carry = begin_episodes(problem, begin_key, episodes)
    _, rollout = rolled_out(problem, key, params, carry, problem.environment.horizon)
    before = jnp.cumsum(rollout.dones, axis=0) - rollout.dones  # episodes that have ended
    return jnp.mean(jnp.sum(jnp.where(before == 0, rollout.rewards, 0.0), axis=0))
