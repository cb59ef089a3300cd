"""The GRU over time, with the input products of all steps taken at once."""

from functools import partial

import jax
from jax.typing import ArrayLike

from ._cell import input_projection, recurrence
from ._checks import as_array, check_flags, check_input, check_params, check_state
from ._params import GRUParams
from ._scan import hide_masked, scan_time


def gru_unroll(
    params: GRUParams,
    h0: ArrayLike,
    xs: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
    unroll: int = 1,
) -> tuple[jax.Array, jax.Array]:
    """Runs the GRU over a sequence: the same numbers as `unroll(gru_step, ...)`, sooner.

    x W_x + b does not depend on the state, so it is formed for all steps at once, in large
    products, and the loop is left with the recurrent product only. Derivatives of every order, in
    forward and in reverse mode, are JAX's own.

    Args:
      params: the weights.
      h0: the first state `[..., H]`, in the parameters' dtype or a wider one, which is carried.
      xs: the inputs `[T, ..., I]`, in the parameters' dtype. T may be 0.
      mask: bool `[T, ...]`; see `unroll`.
      resets: bool `[T, ...]`; see `unroll`.
      reverse: travel from the last step to the first; see `unroll`.
      unroll: the number of steps per iteration of the compiled loop, as in `jax.lax.scan`.

    Returns:
      `(h_last, hs)`: the state after the last unmasked step in the direction of travel
      `[..., H]`, and the state after every step `[T, ..., H]`, zero where masked.

    Raises:
      ValueError: an argument of the wrong shape or dtype, `unroll` below 1.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5)
    >>> xs = jax.random.normal(jax.random.key(1), (7, 2, 3))  # [T, B, I]
    >>> h0 = gru_jax.zero_state(params, (2,))
    >>> mask = gru_jax.sequence_mask(jnp.array([7, 4]), 7)
    >>> h_last, hs = gru_jax.gru_unroll(params, h0, xs, mask=mask)
    >>> h_last.shape, hs.shape
    ((2, 5), (7, 2, 5))
    """
    h0, xs = as_array("h0", h0), as_array("xs", xs)
    params = check_params(params)
    check_input("xs", params, xs, time_axes=1)
    check_state("h0", params, h0, xs.shape[1:-1])
    mask = check_flags("mask", mask, {xs.shape[:-1]})
    resets = check_flags("resets", resets, {xs.shape[:-1]})
    projections = input_projection(params, hide_masked(xs, mask), h0.dtype)
    return scan_time(partial(recurrence, params), h0, projections, mask, resets, reverse, unroll)
