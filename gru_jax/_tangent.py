"""The derivative of the GRU over time: one linear recurrence, and large products around it.

With a dot for a tangent, h for the state before step t, and z, r, n, u as in `gru_step`
(u = h W_hn + b_hn), the tangents of the states obey

    ḣ_t = (1 − z) ∘ ḣ + C_z ∘ (ḣ W_hz) + C_r ∘ (ḣ W_hr) + C_n ∘ r ∘ (ḣ W_hn) + g_t
    g_t = C_z ∘ c_z + C_r ∘ c_r + C_n ∘ c_n + C_n ∘ r ∘ c_u                      reset="after"

    ṁ_t = r ∘ ḣ + E ∘ (ḣ W_hr) + E ∘ c_r                                    (m = r ∘ h)
    ḣ_t = (1 − z) ∘ ḣ + C_z ∘ (ḣ W_hz) + C_n ∘ (ṁ_t W_hn) + g_t
    g_t = C_z ∘ c_z + C_n ∘ c_n                                                 reset="before"

    C_z = (n − h) ∘ z ∘ (1 − z)        C_n = z ∘ (1 − n²)
    C_r = C_n ∘ u ∘ r ∘ (1 − r)        E = h ∘ r ∘ (1 − r)

where c_z, c_r, c_n, c_u are what the tangents of inputs, weights and biases add to the arguments
of the gates and to u: c_z = ẋ W_xz + x Ẇ_xz + h Ẇ_hz + ḃ_z, and so on. All but ḣ is known for all
steps before the loop. JAX's transpose of this loop is backpropagation through time, with one
product per step (two for "before"); the transpose of x Ẇ and h Ẇ is the gradient of the weights,
one product over all steps for each matrix. Where the state is scaled before it enters the products,
so are h and ḣ next to W and Ẇ, in m, ṁ and E; not in (1 − z) ∘ ḣ and C_z.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ._cell import Gates, input_projection
from ._ops import biased, in_halves, scaled
from ._options import Options
from ._params import GRUParams
from ._scan import restart


class WeightTangents(NamedTuple):
    """The tangents of the parameters, split by gate, matrices transposed."""

    w_x: list[jax.Array]  # [H, I] each
    w_h: list[jax.Array]  # [H, H] each
    b: Sequence[jax.Array | None]  # [H] each
    b_hn: jax.Array | None  # [H]


def weight_tangents(params_dot: GRUParams) -> WeightTangents:
    """Splits the tangents of the parameters by gate.

    Transposed, because backwards that is a^T x, the rows of x as they lie in memory. XLA on CPU
    forms x^T a at half the speed.
    """
    return WeightTangents(
        w_x=[transposed(w) for w in jnp.split(params_dot.w_x, 3, axis=1)],
        w_h=[transposed(w) for w in jnp.split(params_dot.w_h, 3, axis=1)],
        b=[None] * 3 if params_dot.b is None else jnp.split(params_dot.b, 3),
        b_hn=params_dot.b_hn,
    )


def recurrent_weights(params: GRUParams) -> list[jax.Array]:
    """W_h as the loop wants it, transposed: whole, or [W_hz, W_hr] and W_hn.

    Backwards these are rows times a matrix as it lies in memory. The other way round XLA on CPU
    takes twice as long where the rows are few.
    """
    if params.reset == "after":
        return [transposed(params.w_h)]
    return [transposed(w) for w in jnp.split(params.w_h, [2 * params.hidden_size], axis=1)]


def transposed(w: jax.Array) -> jax.Array:
    """The transpose, behind a barrier: XLA would move it into the products with the matrix."""
    return jax.lax.optimization_barrier(w.T)  # type: ignore[no-untyped-call, no-any-return]


class Point(NamedTuple):
    """Where the derivative is taken: what a stretch of steps has computed."""

    h: jax.Array  # the states before each step, after the reset [T, ..., H]
    gates: Gates  # of each step; z zero where masked
    xs: jax.Array  # the inputs [T, ..., I]
    resets: jax.Array | None  # bool [T, ...]
    scale: jax.Array | None  # multiplies the state where it enters the products [..., H]


def state_tangents(
    params: GRUParams,
    w_h: list[jax.Array],
    at: Point,
    along: tuple[WeightTangents, jax.Array | None, jax.Array, jax.Array],
    options: Options,
) -> tuple[jax.Array, jax.Array]:
    """The tangents of the last state and of all states.

    Args:
      params: the weights.
      w_h: `recurrent_weights` of them.
      at: where the derivative is taken.
      along: the tangents of the weights, of the state at a reset `[..., H]`, of the first state
        `[..., H]`, and of the inputs `[T, ..., I]`.
      options: as in `gru_unroll`.
    """
    h, (z, r, n, u), xs, resets, scale = at
    dots, reset_dot, h_dot, xs_dot = along
    dtype = h.dtype
    keep = 1 - z
    to_z = (n - h) * z * keep
    h = scaled(h, scale)  # as it enters the products, from here on
    x_z, x_r, x_n = input_projection(params, xs_dot, dtype)
    c_z = biased(x_z + _times(xs, dots.w_x[0], dtype) + _times(h, dots.w_h[0], dtype), dots.b[0])
    c_r = biased(x_r + _times(xs, dots.w_x[1], dtype) + _times(h, dots.w_h[1], dtype), dots.b[1])
    c_n = biased(x_n + _times(xs, dots.w_x[2], dtype), dots.b[2])
    to_n = z * (1 - n * n)

    # No transcendental function is left for the loops, which are a product and a few fused passes.
    steps: tuple[jax.Array | None, ...]
    if u is None:  # reset="before"
        to_m = h * r * (1 - r)
        c_n = c_n + _times(r * h, dots.w_h[2], dtype)
        steps = keep, to_z, to_n, to_m, r, to_z * c_z + to_n * c_n, to_m * c_r, resets

        def body(h_dot: jax.Array, step: Any) -> tuple[jax.Array, jax.Array]:
            keep, to_z, to_n, to_m, r, g, m_dot, resets_here = step
            h_dot = restart(h_dot, resets_here, reset_dot)
            in_dot = scaled(h_dot, scale)
            u_z, u_r = jnp.split(_times(in_dot, w_h[0], dtype), 2, axis=-1)
            m_dot = r * in_dot + to_m * u_r + m_dot
            h_dot = keep * h_dot + to_z * u_z + to_n * _times(m_dot, w_h[1], dtype) + g
            return h_dot, h_dot

    else:
        to_r = to_n * u * r * (1 - r)
        to_u = to_n * r
        c_u = biased(_times(h, dots.w_h[2], dtype), dots.b_hn)
        # Stacked, they take one pass of the backward loop instead of four.
        to_gates = jnp.stack([to_z, to_r, to_u], axis=-2)  # [T, ..., 3, H]
        steps = keep, to_gates, to_z * c_z + to_r * c_r + to_n * c_n + to_u * c_u, resets

        def body(h_dot: jax.Array, step: Any) -> tuple[jax.Array, jax.Array]:
            keep, to_gates, g, resets_here = step
            h_dot = restart(h_dot, resets_here, reset_dot)
            u_dot = _times(scaled(h_dot, scale), w_h[0], dtype).reshape(to_gates.shape)
            h_dot = keep * h_dot + jnp.sum(to_gates * u_dot, axis=-2) + g
            return h_dot, h_dot

    return jax.lax.scan(body, h_dot, steps, reverse=options.reverse, unroll=options.unroll)


def _times(x: jax.Array, w_transposed: jax.Array, dtype: DTypeLike) -> jax.Array:
    """The product x w, of the transpose of w."""
    x = x.astype(w_transposed.dtype)
    if not in_halves(x, w_transposed):
        contract = ((x.ndim - 1,), (1,)), ((), ())
        return jax.lax.dot_general(x, w_transposed, contract, preferred_element_type=dtype)
    rows = x.shape[:-1]
    x, w = jnp.stack([x.reshape(1, -1)] * 2), w_transposed.reshape(2, -1, x.shape[-1])
    batched = ((2,), (2,)), ((0,), (0,))
    halves = jax.lax.dot_general(x, w, batched, preferred_element_type=dtype)
    return halves.reshape(*rows, -1)
