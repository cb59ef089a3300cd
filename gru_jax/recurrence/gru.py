"""The fast path of the GRU: its step around the loop, and the derivative over time.

With a dot for a tangent, h for the state before step t, z, r, n as in `gru_step`, and
u = h W_hn + b_hn, the tangents of the states obey the linear recurrence

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
so are h and ḣ next to W and Ẇ, in m, ṁ and E; not in (1 − z) ∘ ḣ and C_z. The expectation of
zoneout multiplies z by 1 − zoneout, except in the factor 1 − z of C_z.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, SupportsFloat, SupportsIndex

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from .._checks import as_array
from .._ops import biased, scaled, spread
from .._scan import select
from ..cells.gru import GRUParams, check_gru
from .interface import Cell, PerGate, Point, Products, Weights, per_gate
from .options import Constants, Options, Program, Save
from .unroll import Flags, fast_unroll


class Gates(NamedTuple):
    """Intermediate values of a step, each `[..., H]`."""

    z: jax.Array  # update
    r: jax.Array  # reset
    n: jax.Array  # candidate
    u: jax.Array | None  # h W_hn + b_hn, with reset="after" only


class Slots(NamedTuple):
    """The parameters in the layout in which their tangents enter; None for a zero tangent."""

    w_x: PerGate | None
    w_h: list[PerGate | None]  # of all gates; with reset="before" of z and r, and of n
    b: list[jax.Array | None]  # [H] each
    b_hn: jax.Array | None  # [H]


class Factors(NamedTuple):
    """What the linear recurrence multiplies by, `[T, ..., H]`."""

    keep: jax.Array  # 1 − z
    to_gates: Any  # reset="after": C_z, C_r, C_n ∘ r beside each other; "before": C_z, C_n, E, r


class Terms(NamedTuple):
    """What the linear recurrence adds, `[T, ..., H]`; None for zero."""

    g: jax.Array | None
    m_dot: jax.Array | None  # E ∘ c_r, with reset="before"


def _project(products: Products, params: GRUParams, xs: jax.Array, dtype: DTypeLike) -> PerGate:
    return products.gates(xs, params.w_x, 3, dtype)


def _step(
    products: Products, weights: Weights, options: Options
) -> Callable[[jax.Array, PerGate], tuple[jax.Array, Gates]]:
    # The weights are split here, because XLA would not always move that out of the loop. The biases
    # are added inside it, where they are part of an elementwise pass that is made anyway.
    params, scale = weights.params, weights.constants.scale
    b_z, b_r, b_n = _bias_per_gate(params)
    w_h = _recurrent(params)

    def gates_of(h: jax.Array, projection: PerGate) -> Gates:
        x_z, x_r, x_n = per_gate(projection, 3)
        h = scaled(h, scale)
        u_z, u_r, *u_n = jnp.split(products.state(h, w_h[0], h.dtype), 4 - len(w_h), axis=-1)
        z = jax.nn.sigmoid(biased(x_z + u_z, b_z))
        r = jax.nn.sigmoid(biased(x_r + u_r, b_r))
        if params.reset == "after":
            u = biased(u_n[0], params.b_hn)
            return Gates(z, r, jnp.tanh(biased(x_n, b_n) + r * u), u)
        n = jnp.tanh(biased(x_n, b_n) + products.state(r * h, w_h[1], h.dtype))
        return Gates(z, r, n, None)

    def step(h: jax.Array, projection: PerGate) -> tuple[jax.Array, Gates]:
        gates = gates_of(h, projection)
        z = _updated(gates.z, options)
        return (1 - z) * h + z * gates.n, gates

    return step


def _updated(z: jax.Array, options: Options) -> jax.Array:
    """The share of its candidate that a unit takes."""
    return z * (1 - options.zoneout) if options.zoneout else z


def _recurrent(params: GRUParams) -> list[jax.Array]:
    """W_h by products: whole, or [W_hz, W_hr] and W_hn with reset="before"."""
    if params.reset == "after":
        return [params.w_h]
    return jnp.split(params.w_h, [2 * (params.w_h.shape[1] // 3)], axis=1)


def _bias_per_gate(params: GRUParams) -> list[jax.Array | None]:
    return [None] * 3 if params.b is None else list(jnp.split(params.b, 3))


def _prepared(products: Products, params: GRUParams) -> list[jax.Array]:
    return [products.prepared(w) for w in _recurrent(params)]


def _slots(products: Products, params: GRUParams) -> Slots:
    def slot(w: jax.Array | None, gates: int) -> PerGate | None:
        return None if w is None else products.slots(w, gates)

    counts = (3,) if params.reset == "after" else (2, 1)
    w_hs = [None] * len(counts) if params.w_h is None else _recurrent(params)
    return Slots(
        w_x=slot(params.w_x, 3),
        w_h=[slot(w, count) for w, count in zip(w_hs, counts, strict=True)],
        b=_bias_per_gate(params),
        b_hn=params.b_hn,
    )


def _coefficients(
    products: Products, at: Point, along: tuple[Slots, jax.Array | None], options: Options
) -> tuple[Factors, Terms]:
    (params, (scale, _)), h, (z, r, n, u), (xs, mask, _) = at
    slots, xs_dot = along
    dtype = h.dtype
    if mask is not None:  # z = 0 leaves the state, and its tangent, as they are
        z = select(mask, z, jnp.zeros_like(z))
    update = _updated(z, options)
    keep = 1 - update
    to_z = (n - h) * update * (1 - z)
    to_n = update * (1 - n * n)
    h = scaled(h, scale)  # as it enters the products, from here on

    def gates(x: jax.Array, slot: PerGate | None, count: int) -> tuple[jax.Array | None, ...]:
        if slot is None or not jax.tree.leaves(slot):
            return (None,) * count
        return per_gate(products.slotted(x, slot, dtype), count)

    x_dots: tuple[jax.Array | None, ...] = (None,) * 3
    if xs_dot is not None:
        x_dots = per_gate(_project(products, params, xs_dot, dtype), 3)
    x_z, x_r, x_n = map(_total, x_dots, gates(xs, slots.w_x, 3))
    b_z, b_r, b_n, b_hn = (
        None if b is None else spread(b.astype(dtype), z) for b in (*slots.b, slots.b_hn)
    )
    if u is None:  # reset="before"
        h_z, h_r = gates(h, slots.w_h[0], 2)
        (h_n,) = gates(r * h, slots.w_h[1], 1)
        to_m = h * r * (1 - r)
        c_z, c_r, c_n = _total(x_z, h_z, b_z), _total(x_r, h_r, b_r), _total(x_n, b_n, h_n)
        g = _total(_times(to_z, c_z), _times(to_n, c_n))
        return Factors(keep, (to_z, to_n, to_m, r)), Terms(g, _times(to_m, c_r))
    h_z, h_r, h_n = gates(h, slots.w_h[0], 3)
    c_z, c_r, c_n = _total(x_z, h_z, b_z), _total(x_r, h_r, b_r), _total(x_n, b_n)
    to_r, to_u = to_n * u * r * (1 - r), to_n * r
    g = _total(
        _times(to_z, c_z), _times(to_r, c_r), _times(to_n, c_n), _times(to_u, _total(h_n, b_hn))
    )
    return Factors(keep, products.beside((to_z, to_r, to_u))), Terms(g, None)


def _total(*terms: jax.Array | None) -> jax.Array | None:
    """The sum of the terms that are not zero, None being zero."""
    present = [term for term in terms if term is not None]
    return functools.reduce(operator.add, present) if present else None


def _times(x: jax.Array, y: jax.Array | None) -> jax.Array | None:
    return None if y is None else x * y


def _linear_step(
    products: Products, prepared: list[jax.Array], constants: Constants
) -> Callable[[jax.Array, tuple[Factors, Terms]], jax.Array]:
    def step(h_dot: jax.Array, coefficients: tuple[Factors, Terms]) -> jax.Array:
        (keep, to_gates), (g, m_dot) = coefficients
        in_dot = scaled(h_dot, constants.scale)
        u_dot = products.tangent(in_dot, prepared[0], h_dot.dtype)
        if len(prepared) == 1:  # reset="after"
            return biased(keep * h_dot + products.weighted(to_gates, u_dot), g)
        to_z, to_n, to_m, r = to_gates
        u_z, u_r = jnp.split(u_dot, 2, axis=-1)
        m_dot = biased(r * in_dot + to_m * u_r, m_dot)
        u_n = products.tangent(m_dot, prepared[1], h_dot.dtype)
        return biased(keep * h_dot + to_z * u_z + to_n * u_n, g)

    return step


GRU = Cell(_project, _step, _prepared, _slots, _coefficients, _linear_step)


def gru_unroll(
    params: GRUParams,
    h0: ArrayLike | None,
    xs: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: ArrayLike | None = None,
    reverse: bool = False,
    save: Save = "gates",
    unroll: SupportsIndex = 1,
    state_scale: ArrayLike | None = None,
    unit_mask: ArrayLike | None = None,
    zoneout: SupportsFloat = 0.0,
    implementation: Program | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Runs the GRU over a time-major sequence; equivalent to `unroll(gru_step, ...)`, but faster.

    Input projections are computed before the loop and weight gradients after the backward loop, in
    large products over all steps. Derivatives of every order, in forward and in reverse mode, work.
    `save`, `state_scale`, `unit_mask`, `zoneout` and `implementation` are not arguments of
    `unroll`.

    `jax.vmap` over sequences that share the weights gives the same program as an explicit batch
    axis. Over weights, of values, gradients and whole training functions, models of 2^17 or more
    multiplications per step run one after the other on CPU; smaller ones, and all on other
    platforms, run at once. Per-example gradients of shared weights go by JAX's own rules.

    Args:
      params: the weights.
      h0: the first state `[..., H]`, in the parameters' dtype or a wider one, which is carried;
        None for zeros in the parameters' dtype.
      xs: the inputs `[T, ..., I]`, in the parameters' dtype. T may be 0.
      mask: bool `[T, ...]`; see `unroll`.
      resets: bool `[T, ...]`; see `unroll`. Not to be confused with `params.reset`, the position
        of the reset gate.
      reset_state: `[H]` or `[..., H]`, the state that a reset begins with, zeros by default; see
        `unroll`.
      reverse: run from the last step to the first; see `unroll`.
      save: the residuals stored for the backward pass; the gradients are the same.
        "gates": states and gates, four or five arrays `[T, ..., H]`. Nothing is computed twice.
        "states": the states alone. The backward pass computes the gates again, outside its loop:
        a third more arithmetic for a fraction of the memory.
        "chunks": √T of the states, for very long sequences. The backward pass runs the recurrence
        again between them. The outputs `hs` need memory only as far as they are used. T must be
        a number: not a dimension variable of `jax.export`.
      unroll: the number of steps per iteration of the compiled loop, as in `jax.lax.scan`; on GPU
        and TPU there are up to eight where it is less.
      state_scale: `[..., H]`, in h0's dtype. Multiplies the state where it enters the products
        with W_h, not where it is copied: the dropout of Gal & Ghahramani 2016. A constant:
        nothing is differentiated with respect to it.
      unit_mask: bool `[T, ..., H]`. Where it is False a unit keeps its state: zoneout (Krueger et
        al. 2017). Nothing is zeroed.
      zoneout: a Python number in [0, 1). The expectation of zoneout, for evaluation: each unit
        keeps this share of its old state, h ← zoneout · h + (1 − zoneout) · h'.
      implementation: what runs the loops over time. All compute the same.
        None: what is fastest by a recorded measurement; today "scan" everywhere.
        "scan": a loop that XLA compiles, tuned for the platform.
        "pallas": one kernel with the loop inside it, and one for backpropagation; on TPU, and on
        NVIDIA GPUs of the Hopper generation. Forward mode and derivatives of higher order run by
        a scan; under `jax.vmap` over weights one model runs after the other; of arrays on several
        devices JAX refuses kernels outside `jax.shard_map`. Compiled and simulated, not run on a
        device.

    Returns:
      `(h_last, hs)`: the state after the last unmasked step in the direction of the scan
      `[..., H]`, and the state after every step `[T, ..., H]`, zero where masked.

    Raises:
      ValueError: an argument of the wrong shape or dtype, an unknown `save`, `unroll` below 1,
        `zoneout` outside [0, 1), a `reset_state` without resets; when it is compiled,
        `implementation="pallas"` for a platform without a kernel, or for sizes or dtypes that
        its kernel does not take.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5)
    >>> xs = jax.random.normal(jax.random.key(1), (7, 2, 3))  # [T, B, I]
    >>> h0 = gru_jax.zero_state(params, (2,))
    >>> mask = gru_jax.sequence_mask(jnp.array([7, 4]), 7)
    >>> h_last, hs = gru_jax.gru_unroll(params, h0, xs, mask=mask)
    >>> h_last.shape, hs.shape
    ((2, 5), (7, 2, 5))
    """
    flags = Flags(mask, resets, reset_state, state_scale, unit_mask)
    options = Options(save, reverse, unroll, zoneout, implementation)  # type: ignore[arg-type]
    params, first = check_gru(params), None if h0 is None else as_array("h0", h0)
    h_last, hs = fast_unroll(GRU, params, first, xs, flags, options)
    return h_last, hs
