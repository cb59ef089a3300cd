"""What control theory attains in the noisy cart-pole, from the observations alone.

A Kalman filter of the equations of motion, linearised about the upright pole, estimates the state;
the sign of a linear-quadratic regulator's force is the action. It knows the equations and the noise
and is not optimal (the actions are of two kinds, the pole can fall, and the filter is linear), so
that its return bounds the optimum from below.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import solve_discrete_are

from experiments.memory_rl.environments import (
    FORCE,
    POLE_LIMIT,
    cart_pole,
    motion_after,
)

COSTS, FORCE_COST = np.diag([1.0, 0.1, 10.0, 0.1]), np.eye(1)
DRIFT = 1e-6
"""Of the filter: the variance that a step adds to each part of the state."""
EPISODES = 1000


def controlled(noise: float) -> float:
    """The mean return of an episode."""
    transition, effect = jax.jacobian(motion_after, (0, 1))(jnp.zeros(4), jnp.zeros(()))
    a, b = np.array(transition, float), np.array(effect, float)[:, None]
    costs = solve_discrete_are(a, b, COSTS, FORCE_COST)
    feedback = np.linalg.solve(FORCE_COST + b.T @ costs @ b, b.T @ costs @ a)[0]
    gains = jnp.asarray(np.stack(filter_gains(a, noise)), jnp.float32)
    pole, towards = cart_pole(noise), jnp.asarray(-feedback, jnp.float32)

    def episode(key: jax.Array) -> jax.Array:
        def step(carry: Any, inputs: Any) -> Any:
            state, estimate, alive = carry
            gain, key = inputs
            estimate += gain @ (pole.observe(key, state) - estimate[::2])
            action = (estimate @ towards > 0).astype(int)
            state, reward, done = pole.step(key, state, action)
            estimate = motion_after(estimate, jnp.where(action == 1, FORCE, -FORCE))
            return (state, estimate, alive & ~done), jnp.where(alive, reward, 0.0)

        start = pole.reset(key), jnp.zeros(4), jnp.ones((), bool)
        keys = jax.random.split(key, POLE_LIMIT)
        return jnp.sum(jax.lax.scan(step, start, (gains, keys))[1])

    keys = jax.random.split(jax.random.key(0), EPISODES)
    return float(jnp.mean(jax.jit(jax.vmap(episode))(keys)))


def filter_gains(transition: np.ndarray, noise: float) -> list[np.ndarray]:
    """The Kalman gain `[4, 2]` of each step; they do not depend on what is observed."""
    seen = np.eye(4)[::2]
    covariance = np.eye(4) * 0.1**2 / 12  # of the uniform first states
    gains = []
    for _ in range(POLE_LIMIT):
        total = seen @ covariance @ seen.T + noise**2 * np.eye(2)
        gains.append(covariance @ seen.T @ np.linalg.inv(total))
        covariance = (np.eye(4) - gains[-1] @ seen) @ covariance
        covariance = transition @ covariance @ transition.T + DRIFT * np.eye(4)
    return gains
