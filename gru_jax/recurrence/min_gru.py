"""minGRU in an associative scan."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._checks import as_array, check_bool, is_symbolic
from .._scan import detached, outputs, prepare, restart, select, unroll
from ..cells.min_gru import MinGRUParams, check_min_gru, gates, min_gru_step
from .unroll import Flags, checked


def min_gru_unroll(
    params: MinGRUParams,
    h0: ArrayLike | None,
    xs: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: ArrayLike | None = None,
    reverse: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Equivalent to `unroll(min_gru_step, ...)`, in log T parallel steps of an associative scan.

    h_t = a_t ∘ h_{t-1} + c_t with a = 1 − z and c = z ∘ n; two steps in a row are one with
    a = a₂ ∘ a₁ and c = a₂ ∘ c₁ + c₂. A reset at the second puts zeros in place of a₁ and c₁.

    Args:
      params: the weights.
      h0: the first state `[..., H]`; None for zeros.
      xs: the inputs `[T, ..., I]`. T may be 0. Where it is a dimension variable of `jax.export`
        the steps are taken one after the other.
      mask: bool `[T, ...]`; see `unroll`.
      resets: bool `[T, ...]`; see `unroll`.
      reset_state: `[H]` or `[..., H]`; see `unroll`.
      reverse: run from the last step to the first; see `unroll`.

    Returns:
      `(h_last, hs)` as from `unroll`.

    Raises:
      ValueError: an argument of the wrong shape or dtype.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_min_gru(jax.random.key(0), 3, 5)
    >>> h_last, hs = gru_jax.min_gru_unroll(params, gru_jax.zero_state(params), jnp.ones((7, 3)))
    >>> h_last.shape, hs.shape
    ((5,), (7, 5))
    """
    params, given = check_min_gru(params), None if h0 is None else as_array("h0", h0)
    state, (xs, mask, resets), fresh = checked(
        params, given, xs, Flags(mask, resets, reset_state, None, None)
    )
    check_bool("reverse", reverse)
    if is_symbolic(xs.shape[0]):
        flags = {"mask": mask, "resets": resets, "reset_state": fresh}
        return unroll(min_gru_step, params, state, xs, **flags, reverse=reverse)
    result: tuple[jax.Array, jax.Array] = _unroll(
        bool(reverse), params, state, (xs, mask, resets, fresh)
    )
    return result


@partial(jax.jit, static_argnums=0, inline=True)  # calls outside a jit compile once, too
def _unroll(
    reverse: bool, params: MinGRUParams, h0: jax.Array, inputs: Any
) -> tuple[jax.Array, jax.Array]:
    xs, mask, resets, reset_state = inputs
    masked_xs, mask, resets = prepare(xs, mask, resets)
    z, n = gates(params, masked_xs, h0.dtype)
    a, c = 1 - z, z * n
    if mask is not None:
        a, c = select(mask, (a, c), (jnp.ones_like(a), jnp.zeros_like(c)))
    if xs.shape[0] == 0:
        return detached(h0, h0, xs), c
    fresh = jnp.zeros_like(h0) if reset_state is None else reset_state
    first = -1 if reverse else 0
    flags = jnp.zeros(xs.shape[:-1], bool) if resets is None else resets
    # The state that a step starts from is added to its c, where it is known beforehand.
    start = restart(h0, flags[first], reset_state)
    c = c.at[first].add(a[first] * start)
    if resets is not None:
        later = resets.at[first].set(False)
        a_later = select(later, a, jnp.zeros_like(a))  # NaN elsewhere stays out of fresh's gradient
        c = select(later, a_later * fresh[None] + c, c)

    def combine(one: tuple[jax.Array, ...], then: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        (a1, c1, _), (a2, c2, reset) = one, then
        # Selected, not multiplied by zero: NaN and inf of one episode stay out of the next.
        a1, c1 = select(reset, (jnp.zeros_like(a1), jnp.zeros_like(c1)), (a1, c1))
        return a2 * a1, a2 * c1 + c2, one[2] | reset

    _, states, _ = jax.lax.associative_scan(combine, (a, c, flags), reverse=reverse)
    return states[0 if reverse else -1], outputs(states, mask)
