"""minGRU: gates that see only the input, so that all steps can be taken at once."""

from dataclasses import dataclass
from functools import partial
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
from jax.nn import initializers as jinit
from jax.typing import ArrayLike, DTypeLike

from ._cells import checked
from ._checks import (
    as_array,
    check_bool,
    check_flags,
    check_floating,
    check_input,
    check_key,
    check_params,
    check_size,
    check_state,
    is_symbolic,
)
from ._initializers import draw, per_gate
from ._ops import biased, product
from ._scan import detached, first_state, outputs, prepare, restart, restarted, select, unroll
from ._state import check_reset_state


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class MinGRUParams:
    """The weights of a minGRU, a pytree for `min_gru_step`, gates ordered `z | n`.

    w_x `[I, 2H]`, and a bias b `[2H]` or None.
    """

    w_x: jax.Array
    b: jax.Array | None = None

    @property
    def input_size(self) -> int:
        """I."""
        return self.w_x.shape[-2]

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.w_x.shape[-1] // 2


def init_min_gru(
    key: jax.Array,
    input_size: SupportsIndex,
    hidden_size: SupportsIndex,
    *,
    dtype: DTypeLike = jnp.float32,
) -> MinGRUParams:
    """Draws a minGRU: w_x lecun normal, b zero. The key is consumed.

    >>> import jax, gru_jax
    >>> gru_jax.init_min_gru(jax.random.key(0), 3, 5).w_x.shape
    (3, 10)
    """
    key = check_key("key", key)
    input_size = check_size("input_size", input_size)
    hidden_size = check_size("hidden_size", hidden_size)
    check_floating("dtype", dtype)
    init = per_gate(jinit.lecun_normal(), 2)
    w_x = draw(init, key, (input_size, 2 * hidden_size), dtype)
    return MinGRUParams(w_x, jnp.zeros(2 * hidden_size, dtype))


def min_gru_step(
    params: MinGRUParams,
    h: ArrayLike,
    x: ArrayLike,
    *,
    resets: ArrayLike | None = None,
    reset_state: ArrayLike | None = None,
) -> jax.Array:
    """One step of minGRU (Feng et al. 2024, "Were RNNs All We Needed?", section 3.1).

        z  = σ(x W_z + b_z)
        n  = x W_n + b_n
        h' = (1 − z) ∘ h + z ∘ n

    Args:
      params: the weights.
      h: the state `[..., H]`.
      x: the input `[..., I]`.
      resets: bool `[...]`; see `gru_step`.
      reset_state: `[H]` or `[..., H]`; see `gru_step`.

    Returns:
      The next state `[..., H]`.

    Raises:
      ValueError: an argument of the wrong shape or dtype.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_min_gru(jax.random.key(0), 3, 5)
    >>> gru_jax.min_gru_step(params, gru_jax.zero_state(params), jnp.ones(3)).shape
    (5,)
    """
    params, h, x = checked(params, MinGRUParams, 2, h, x, {"b": 2})
    h = restarted(h, resets, reset_state)
    z, n = _gates(params, x, h.dtype)
    return (1 - z) * h + z * n


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
      reverse: travel from the last step to the first; see `unroll`.

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
    params, xs = check_params(params, MinGRUParams, 2, {"b": 2}), as_array("xs", xs)
    check_input("xs", params, xs, time_axes=1)
    given = h0 if h0 is None else as_array("h0", h0)
    state = first_state(given, params, xs, mask, resets, reset_state)
    check_state("h0", params, state, xs.shape[1:-1])
    mask = check_flags("mask", mask, {xs.shape[:-1]})
    resets = check_flags("resets", resets, {xs.shape[:-1]})
    fresh = check_reset_state(reset_state, resets, state)
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
    z, n = _gates(params, masked_xs, h0.dtype)
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


def _gates(params: MinGRUParams, x: jax.Array, dtype: DTypeLike) -> tuple[jax.Array, jax.Array]:
    a_z, n = jnp.split(biased(product(x, params.w_x, dtype), params.b), 2, axis=-1)
    return jax.nn.sigmoid(a_z), n
