"""The linear recurrence of the GRU's tangents in an associative scan, from its Jacobians.

With rows as states, ḣ_t = ḣ_{t-1} J_t + g_t. In the notation of `recurrence.gru`, without scales:

    J = keep + W_hz C_z + W_hr C_r + W_hn (C_n r)                             reset="after"
    J = keep + W_hz C_z + (r W_hn + W_hr E W_hn) C_n                          reset="before"

where keep, C_z, C_r, C_n, r and E stand for the diagonal matrices of these vectors. Where a step is
masked J is the identity.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from .._ops import scaled
from .._scan import restart, select
from .gru import Factors

Jacobian = Literal["full", "diagonal"]
JACOBIANS: tuple[Jacobian, ...] = ("full", "diagonal")


def jacobians(kind: Jacobian, w_h: list[jax.Array], factors: Factors) -> jax.Array:
    """J of all steps, `[T, ..., H, H]`, or their diagonals, `[T, ..., H]`.

    Args:
      kind: which.
      w_h: the recurrent weights, whole; or those of z and r, and of n, with reset="before".
      factors: those of the linear recurrence, an array for each gate.
    """
    keep, to_gates = factors
    w_z, w_r, w_n = jnp.split(jnp.concatenate(w_h, axis=1).astype(keep.dtype), 3, axis=1)
    full = kind == "full"

    def right(w: jax.Array, factor: jax.Array) -> jax.Array:
        """W times a diagonal matrix."""
        return scaled(factor[..., None, :], w) if full else scaled(factor, jnp.diagonal(w))

    j = right(jnp.eye(keep.shape[-1], dtype=keep.dtype), keep)
    if len(w_h) == 1:
        to_z, to_r, to_u = to_gates
        return j + right(w_z, to_z) + right(w_r, to_r) + right(w_n, to_u)
    to_z, to_n, to_m, r = to_gates
    if full:
        left = scaled(r[..., :, None], w_n)
        result = (left + jnp.matmul(right(w_r, to_m), w_n)) * to_n[..., None, :]
    else:
        result = (right(w_n, r) + jnp.matmul(to_m, w_r.T * w_n)) * to_n
    return jnp.add(j + right(w_z, to_z), result)


def solved(
    j: jax.Array,
    h0: jax.Array,
    g: jax.Array,
    resets: jax.Array | None,
    reset_state: jax.Array | None,
) -> jax.Array:
    """The states h_t = h_{t-1} J_t + g_t of all steps, `[T, ..., H]`.

    Two steps in a row are one with J = J₁ J₂ and g = g₁ J₂ + g₂.

    Args:
      j: J, or its diagonals.
      h0: the first state.
      g: what is added.
      resets: bool `[T, ...]`, where h_{t-1} is replaced.
      reset_state: what it is replaced with; None for zeros.
    """
    full = j.ndim > g.ndim
    flags = jnp.zeros(g.shape[:-1], bool) if resets is None else resets

    def times(h: jax.Array, j: jax.Array) -> jax.Array:
        return jnp.matmul(h[..., None, :], j)[..., 0, :] if full else h * j

    def both(one: tuple[jax.Array, ...], then: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        (j_1, g_1, before), (j_2, g_2, reset) = one, then
        # Selected, not multiplied by zero: NaN and inf of one episode stay out of the next.
        j_1, g_1 = restart((j_1, g_1), reset, None)
        j = jnp.matmul(j_1, j_2) if full else j_1 * j_2
        return j, times(g_1, j_2) + g_2, before | reset

    g = g.at[0].add(times(restart(h0, flags[0], None), j[0]))
    if reset_state is not None:
        # NaN elsewhere, in J or in a cotangent, stays out of its gradient.
        j_fresh = select(flags, j, jnp.zeros_like(j))
        g = select(flags, g + times(jnp.broadcast_to(reset_state, g.shape), j_fresh), g)
    _, states, _ = jax.lax.associative_scan(both, (j, g, flags))
    result: jax.Array = states
    return result
