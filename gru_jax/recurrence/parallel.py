"""The states of a GRU for all steps at once, by Newton's method."""

from functools import partial
from typing import Any, NamedTuple, SupportsFloat, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._checks import (
    as_array,
    check_bool,
    check_option,
    check_shape,
    check_size,
    is_symbolic,
    python_number,
)
from .._ops import at_least_float32
from .._scan import detached, outputs, prepare
from ..cells.gru import GRUParams, check_gru
from . import derivative, scan
from .gru import GRU
from .interface import Inputs, Products, Weights
from .jacobians import JACOBIANS, Jacobian, jacobians, solved
from .newton import OPTIONS, PRODUCTS, Recurrence, Static, is_far, newton, residuals
from .options import Constants
from .unroll import Flags, checked


class Solution(NamedTuple):
    """How far the states of `gru_unroll_parallel` are from the recurrence, a named tuple.

    Attributes:
      residual: of each row the largest |h_t − f(h_{t-1}, x_t)| `[...]`, in the dtype that was
        computed in: the state's, or float32 where that is narrower.
      iterations: int32 `[]`, the iterations of Newton's method.
      converged: bool `[...]`, whether a row was solved by them; others were finished by a loop.

    >>> import jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5)
    >>> gru_jax.gru_unroll_parallel(params, None, jnp.ones((7, 3)))[2]._fields
    ('residual', 'iterations', 'converged')
    """

    residual: jax.Array  # [...]
    iterations: jax.Array  # int32 []
    converged: jax.Array  # bool [...]


def gru_unroll_parallel(
    params: GRUParams,
    h0: ArrayLike | None,
    xs: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: ArrayLike | None = None,
    reverse: bool = False,
    jacobian: Jacobian = "full",
    tolerance: SupportsFloat | None = None,
    max_iterations: SupportsIndex = 100,
    guess: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array, Solution]:
    """Equivalent to `gru_unroll`, by a few iterations over all steps at once.

    The states solve h_t = f(h_{t-1}, x_t) for all t. From a guess, each iteration adds the δ of

        δ_t = J_t δ_{t-1} + f(h_{t-1}, x_t) − h_t,    δ_0 = 0,    J_t = ∂f/∂h (h_{t-1}, x_t)

    in an associative scan: Newton's method, which is quadratic close to the solution (DEER: Lim et
    al. 2024, "Parallelizing non-linear sequential models over the sequence length"). With the
    diagonals of J it is linear, and needs H times less memory (quasi-DEER: Gonzalez et al. 2024,
    "Towards scalable and stable parallelization of nonlinear RNNs").

    Each iteration makes at least one more state exact, and as h_t is between h_{t-1} and a
    candidate in (−1, 1), no state exceeds max(1, |h0|, |reset_state|), to which the iterates are
    clipped. A row has converged when no residual |h_t − f(h_{t-1}, x_t)| exceeds the tolerance. One
    that has not, or that has NaN, is computed by a loop from its first larger residual on: the
    states are right in any case.

    Everything is computed in the state's dtype, bfloat16 and float16 in float32, at the highest
    precision whatever `jax.default_matmul_precision` is: the method does not settle on products
    that round the state. Derivatives of every order are those at the solution, not of the
    iterations.

    On a CPU it is slower than `gru_unroll`: every iteration takes the arithmetic of the recurrence,
    about H times that with full Jacobians. It has not been timed on other devices.

    Args:
      params: the weights.
      h0: the first state `[..., H]`; see `gru_unroll`.
      xs: the inputs `[T, ..., I]`. T may be 0, but not a dimension variable of `jax.export`.
      mask: bool `[T, ...]`; see `unroll`.
      resets: bool `[T, ...]`; see `unroll`.
      reset_state: `[H]` or `[..., H]`; see `unroll`.
      reverse: run from the last step to the first; see `unroll`.
      jacobian: "full": the matrices J `[T, ..., H, H]` in memory; derivatives by an associative
        scan, too. "diagonal": their diagonals; derivatives by a loop.
      tolerance: a positive number. By default 16 times the machine epsilon of the dtype that is
        computed in; the iterations then go on to 4 times, as long as a row's residual falls.
      max_iterations: at least 0. With 0 everything is computed by the loop.
      guess: the states `[T, ..., H]` to begin with, zeros by default; such as those of the same
        sequences under the weights before an update. Nothing is differentiated with respect to it.

    Returns:
      `(h_last, hs, solution)`: as `gru_unroll`, and a `Solution`.

    Raises:
      ValueError: an argument of the wrong shape or dtype, or an option out of its range.

    >>> import jax, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5)
    >>> xs = jax.random.normal(jax.random.key(1), (100, 2, 3))  # [T, B, I]
    >>> h_last, hs, solution = gru_jax.gru_unroll_parallel(params, None, xs)
    >>> hs.shape, solution.converged.tolist(), bool(solution.residual.max() < 1e-5)
    ((100, 2, 5), [True, True], True)
    """
    params = check_gru(params)
    first = None if h0 is None else as_array("h0", h0)
    flags = Flags(mask, resets, reset_state, None, None)
    h, inputs, fresh = checked(params, first, xs, flags)
    length = inputs[0].shape[0]
    if is_symbolic(length):
        raise ValueError(f"xs has T = {length}, a dimension variable: use gru_unroll.")
    check_bool("reverse", reverse)
    check_option("jacobian", jacobian, JACOBIANS)
    limit = check_size("max_iterations", max_iterations, least=0)
    eps = float(jnp.finfo(at_least_float32(h.dtype)).eps)  # type: ignore[no-untyped-call]
    bound, goal = (16 * eps, 4 * eps) if tolerance is None else (_positive(tolerance),) * 2
    shape = length, *h.shape
    start = jnp.zeros(shape, h.dtype) if guess is None else as_array("guess", guess)
    check_shape("guess", start, shape, "(T, *batch, H)")
    if start.dtype != h.dtype:
        raise ValueError(f"guess is {start.dtype}, but must be {h.dtype} like h0.")
    weights = Weights(params, Constants(None, fresh))
    static = Static(jacobian, bound, goal, limit), bool(reverse)
    result: tuple[jax.Array, jax.Array, Solution] = _unroll(static, weights, h, inputs, start)
    return result


def _positive(tolerance: SupportsFloat) -> float:
    value = python_number(tolerance)
    if value is None or not 0 < value < np.inf:
        raise ValueError(f"tolerance is {tolerance}, but must be a positive number.")
    return value


@partial(jax.jit, static_argnums=0)
def _unroll(
    static: tuple[Static, bool], weights: Weights, h0: jax.Array, inputs: Any, guess: jax.Array
) -> tuple[jax.Array, jax.Array, Solution]:
    options, reverse = static
    dtype, wide = h0.dtype, at_least_float32(h0.dtype)
    weights, h0, xs, guess = jax.tree.map(
        lambda leaf: leaf.astype(wide), (weights, h0, inputs[0], guess)
    )
    _, mask, resets = inputs

    def turned(tree: Any) -> Any:
        return jax.tree.map(lambda x: x[::-1], tree) if reverse else tree

    if guess.shape[0] == 0:
        rows = h0.shape[:-1]
        solution = Solution(
            jnp.zeros(rows, h0.dtype), jnp.zeros((), jnp.int32), jnp.ones(rows, bool)
        )
        return detached(h0, h0, xs).astype(dtype), guess.astype(dtype), solution
    steps = turned(Inputs(*prepare(xs, mask, resets)))
    constant = jax.tree.map(jax.lax.stop_gradient, (weights, h0, steps, turned(guess)))
    states, solution = _solve(options, *constant)
    h_last, states = _known(options, weights, h0, steps, states)
    return h_last.astype(dtype), outputs(turned(states), mask).astype(dtype), solution


def _solve(
    static: Static, weights: Weights, h0: jax.Array, inputs: Inputs, guess: jax.Array
) -> tuple[jax.Array, Solution]:
    """All states, not to be differentiated."""
    with jax.default_matmul_precision("highest"):
        projection = GRU.project(PRODUCTS, weights.params, inputs.xs, h0.dtype)
        recurrence = Recurrence(weights, h0, inputs, projection)
        count, iterate = newton(static, recurrence, guess)
        far = is_far(residuals(iterate), static.tolerance)
        converged = ~jnp.any(far, axis=0)
        begin = jnp.where(converged, guess.shape[0], jnp.argmax(far, axis=0))
        states = recurrence.finished(iterate.states, begin)
        residual = jnp.max(residuals(recurrence.at(states)), axis=0)
    return states, Solution(residual, count, converged)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _known(
    static: Static, weights: Weights, h0: jax.Array, inputs: Inputs, states: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The last state and all states, given as `states`, with their derivative at the solution."""
    return states[-1], states


@partial(_known.defjvp, symbolic_zeros=True)
def _known_jvp(static: Static, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
    result = _, states = _known(static, *primals)
    weights, h0, inputs = primals[:3]
    dots = weights_dot, h0_dot, xs_dot = derivative.nonzero(primals[:3], tangents[:3])
    if static.jacobian == "full":
        both = weights, weights_dot
        stretch = scan.tangents(PRODUCTS, GRU, OPTIONS, both, loop=_in_parallel)
        (_, h_last_dot), states_dot = stretch((h0, h0_dot), (states, None, inputs, xs_dot))
    else:
        known = states, None
        h_last_dot, states_dot = derivative.state_tangents(GRU, OPTIONS, primals[:3], dots, known)
    return result, (h_last_dot, states_dot)


def _in_parallel(products: Products, *args: Any) -> tuple[Any, Any]:
    """As `scan.linear`."""
    _, _, (w_h, constants), h_dot, (resets, factors, (g, m_dot)) = args
    with jax.default_matmul_precision("highest"):
        if m_dot is not None:
            through_m = factors.to_gates[1] * products.tangent(m_dot, w_h[1], h_dot.dtype)
            g = through_m if g is None else g + through_m
        if g is None:
            g = jnp.zeros_like(factors.keep)
        j = jacobians("full", w_h, factors)
        states = solved(j, h_dot, g, resets, constants.reset_state)
    return states[-1], states
