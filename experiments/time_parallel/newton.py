"""Newton's method for h_t = f(h_{t-1}, x_t) iteration by iteration, and the Lyapunov exponent.

Written once more from `gru_step` and JAX's own derivatives, so that the residual of every iteration
can be seen, with the safeguards of `gru_unroll_parallel` and as published without.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import gru_jax
from experiments.time_parallel.data import Problem


@partial(jax.jit, static_argnames=("full", "safeguarded", "iterations"))
def residual_curve(
    problem: Problem, *, full: bool, safeguarded: bool, iterations: int
) -> jax.Array:
    """The largest |h_t − f(h_{t-1}, x_t)| before each iteration, `[iterations]`, from zeros.

    Args:
      problem: what is solved.
      full: the matrices ∂f/∂h (DEER), or else their diagonals (quasi-DEER).
      safeguarded: the iterates are clipped to [−1, 1], which no state leaves, and where one is not
        finite f takes its place.
      iterations: how many.
    """
    step = partial(gru_jax.gru_step, problem.params)

    def improved(states: jax.Array, _: Any) -> tuple[jax.Array, jax.Array]:
        before = jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]])
        after = jax.vmap(step)(before, problem.xs)
        j = jax.vmap(jax.jacfwd(step))(before, problem.xs)
        residual = after - states
        better = states + linear(j if full else jnp.diagonal(j, axis1=1, axis2=2), residual)
        if safeguarded:
            better = jnp.where(jnp.isfinite(better), jnp.clip(better, -1, 1), after)
        return better, jnp.max(jnp.abs(residual))

    hidden = problem.params.w_h.shape[0]
    zeros = jnp.zeros((len(problem.xs), hidden))
    return jax.lax.scan(improved, zeros, length=iterations)[1]


def linear(j: jax.Array, g: jax.Array) -> jax.Array:
    """The δ_t = J_t δ_{t-1} + g_t of all steps, `[T, H]`; J `[T, H, H]`, or diagonals `[T, H]`."""
    full = j.ndim > g.ndim
    times = jnp.matmul if full else jnp.multiply

    def both(one: Any, then: Any) -> Any:
        (j_1, g_1), (j_2, g_2) = one, then
        return times(j_2, j_1), times(j_2, g_1) + g_2

    _, deltas = jax.lax.associative_scan(both, (j, g[..., None] if full else g))
    return deltas[..., 0] if full else deltas  # type: ignore[no-any-return]


@jax.jit
def lyapunov_exponent(problem: Problem) -> jax.Array:
    """The largest Lyapunov exponent along the states: log growth per step of a small difference."""
    hidden = problem.params.w_h.shape[0]
    direction = jnp.full(hidden, hidden**-0.5)

    def body(carry: tuple[jax.Array, jax.Array], x: jax.Array) -> Any:
        step = partial(gru_jax.gru_step, problem.params, x=x)
        h, moved = jax.jvp(step, carry[:1], carry[1:])
        growth = jnp.linalg.norm(moved)
        return (h, moved / growth), jnp.log(growth)

    _, growths = jax.lax.scan(body, (jnp.zeros(hidden), direction), problem.xs)
    return jnp.mean(growths)


@jax.jit
def scan_residual(problem: Problem) -> jax.Array:
    """The largest |h_t − f(h_{t-1}, x_t)| of the states that `gru_unroll` computes."""
    _, hs = gru_jax.gru_unroll(problem.params, None, problem.xs)
    before = jnp.concatenate([jnp.zeros_like(hs[:1]), hs[:-1]])
    return jnp.max(jnp.abs(gru_jax.gru_step(problem.params, before, problem.xs) - hs))
