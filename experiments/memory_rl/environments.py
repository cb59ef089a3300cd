"""Three environments that reward memory, as pure functions of one environment.

The T-maze of Bakker 2002, "Reinforcement Learning with Long Short-Term Memory", and two tasks in
the style of POPGym (Morad et al. 2023, "POPGym: Benchmarking Partially Observable Reinforcement
Learning"): repeat previous and noisy position-only cart-pole. `jax.vmap` runs many of them.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Environment(NamedTuple):
    """An environment; its functions are of a single one, and its state a pytree of arrays."""

    reset: Callable[[jax.Array], Any]  # key -> state
    step: Callable[[jax.Array, Any, jax.Array], tuple[Any, jax.Array, jax.Array]]
    """`(key, state, action) -> (state, reward, done)`."""
    observe: Callable[[jax.Array, Any], jax.Array]  # (key, state) -> [observation_size]
    observation_size: int
    actions: int
    horizon: int  # so many steps an evaluation gives an episode
    optimum: float  # the return of an episode, undiscounted, that no policy can exceed
    memoryless: float | None  # that of policies that see the current observation alone, if known


class MazeState(NamedTuple):
    """Where the agent stands, and where the goal is."""

    position: jax.Array  # 0 at the sign, N at the junction
    south: jax.Array  # bool, whether the goal is in the south


NORTH, EAST, SOUTH, WEST = range(4)
SIGNS = np.array([[0, 1, 1], [1, 1, 0]], np.float32)  # the goal is in the north, in the south
CORRIDOR, JUNCTION = np.array([[1, 0, 1], [0, 1, 0]], np.float32)


def t_maze(length: int) -> Environment:
    """A corridor of N steps from a sign to a T-junction, where the sign says which way to turn.

    The reward is 4 for the right turn and −0.1 for the wrong one, both of which end the episode,
    −0.1 for an action that does not move, and 0 else. The best return is that of N steps east and
    the right turn, 4. Without memory both turns are equally often right, 4/2 − 0.1/2 on average.
    """

    def reset(key: jax.Array) -> MazeState:
        return MazeState(jnp.zeros((), jnp.int32), jax.random.bernoulli(key))

    def step(key: jax.Array, state: MazeState, action: jax.Array) -> Any:
        del key
        turns = (action == NORTH) | (action == SOUTH)
        done = turns & (state.position == length)
        right = done & ((action == SOUTH) == state.south)
        moved = jnp.where(action == EAST, 1, 0) - jnp.where(action == WEST, 1, 0)
        position = jnp.clip(state.position + moved, 0, length)
        reward = jnp.where(right, 4.0, jnp.where(position == state.position, -0.1, 0.0))
        return state._replace(position=position), reward, done

    def observe(key: jax.Array, state: MazeState) -> jax.Array:
        del key
        sign = jnp.where(state.south, SIGNS[1], SIGNS[0])
        between = jnp.where(state.position == length, JUNCTION, CORRIDOR)
        return jnp.where(state.position == 0, sign, between)

    return Environment(
        reset,
        step,
        observe,
        observation_size=3,
        actions=4,
        horizon=4 * (length + 1),
        optimum=4.0,
        memoryless=1.95,
    )


class CardState(NamedTuple):
    """The suits seen, and how many."""

    suits: jax.Array  # [k], the newest first
    seen: jax.Array


SUITS, CARDS = 4, 52


def repeat_previous(k: int) -> Environment:
    """Each step shows a card's suit; the action names the k-th last one shown, k ≥ 2.

    An episode has 52 cards. From the k-th on each answer is worth the same, together 1 if all are
    right and −1 if none is. Suits are independent and uniform (POPGym deals a shuffled deck), so
    that a policy without memory is right in a quarter of the answers, 1/4 − 3/4 on average.
    """
    answers = CARDS - k

    def reset(key: jax.Array) -> CardState:
        suits = jnp.zeros(k, jnp.int32).at[0].set(jax.random.randint(key, (), 0, SUITS))
        return CardState(suits, jnp.ones((), jnp.int32))

    def step(key: jax.Array, state: CardState, action: jax.Array) -> Any:
        right = jnp.where(action == state.suits[-1], 1.0, -1.0)
        reward = jnp.where(state.seen >= k, right / answers, 0.0)
        suit = jax.random.randint(key, (1,), 0, SUITS)
        after = CardState(jnp.concatenate([suit, state.suits[:-1]]), state.seen + 1)
        return after, reward, state.seen == CARDS - 1

    def observe(key: jax.Array, state: CardState) -> jax.Array:
        del key
        return jax.nn.one_hot(state.suits[0], SUITS)

    return Environment(
        reset,
        step,
        observe,
        observation_size=SUITS,
        actions=SUITS,
        horizon=CARDS,
        optimum=1.0,
        memoryless=-0.5,
    )


class PoleState(NamedTuple):
    """The state of the cart and the pole."""

    motion: jax.Array  # [4]: position, velocity, angle, angular velocity
    steps: jax.Array


POLE_LIMIT = 200
POSITION, ANGLE = 2.4, math.radians(12)  # beyond which an episode ends
TAU, FORCE = 0.02, 10.0  # seconds, newtons


def motion_after(motion: jax.Array, force: jax.Array) -> jax.Array:
    """An Euler step of Barto, Sutton & Anderson 1983, without friction, as in Gymnasium."""
    gravity, mass, pole_mass, half_length = 9.8, 1.1, 0.1, 0.5
    _, velocity, angle, spin = motion
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    thrust = (force + pole_mass * half_length * spin**2 * sine) / mass
    inertia = half_length * (4 / 3 - pole_mass * cosine**2 / mass)
    turning = (gravity * sine - cosine * thrust) / inertia
    acceleration = thrust - pole_mass * half_length * turning * cosine / mass
    return motion + TAU * jnp.stack([velocity, acceleration, spin, turning])


def cart_pole(noise: float) -> Environment:
    """Gymnasium's CartPole with POPGym's observations: position and angle, with normal noise.

    Every step is worth 1/200, and an episode ends after 200 steps or when the pole falls or the
    cart leaves the track. So 1 is a bound; what the best policy attains is not known, but at least
    what the filter and the controller of `control.py` do.
    """

    def reset(key: jax.Array) -> PoleState:
        motion = jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)
        return PoleState(motion, jnp.zeros((), jnp.int32))

    def step(key: jax.Array, state: PoleState, action: jax.Array) -> Any:
        del key
        force = jnp.where(action == 1, FORCE, -FORCE)
        after = PoleState(motion_after(state.motion, force), state.steps + 1)
        lost = (jnp.abs(after.motion[0]) > POSITION) | (jnp.abs(after.motion[2]) > ANGLE)
        return after, jnp.float32(1 / POLE_LIMIT), lost | (after.steps == POLE_LIMIT)

    def observe(key: jax.Array, state: PoleState) -> jax.Array:
        seen = state.motion[::2] + noise * jax.random.normal(key, (2,))
        bound = jnp.array([2 * POSITION, 2 * ANGLE])
        return jnp.clip(seen, -bound, bound)

    return Environment(
        reset,
        step,
        observe,
        observation_size=2,
        actions=2,
        horizon=POLE_LIMIT,
        optimum=1.0,
        memoryless=None,
    )


KINDS: dict[str, Callable[[Any], Environment]] = {
    "t-maze": lambda number: t_maze(int(number)),
    "repeat": lambda number: repeat_previous(int(number)),
    "cart-pole": lambda number: cart_pole(float(number)),
}


def environment_of(name: str) -> Environment:
    """The environment of a task's name: t-maze-N, repeat-k or cart-pole-σ."""
    kind, _, number = name.rpartition("-")
    return KINDS[kind](number)
