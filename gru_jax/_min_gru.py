"""minGRU: gates that see only the input, so that all steps can be taken at once."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.nn import initializers as jinit
from jax.typing import ArrayLike, DTypeLike

from ._cell import biased, product
from ._checks import (
    as_array,
    check_flags,
    check_floating,
    check_input,
    check_shape,
    check_size,
    check_state,
)
from ._params import draw, per_gate
from ._scan import outputs, prepare


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MinGRUParams:
    """The weights of a minGRU, a pytree for `min_gru_step`, gates ordered `z | n`.

    w_x `[I, 2H]`, and a bias b `[2H]` or None.
    """

    w_x: jax.Array
    b: jax.Array | None = None

    @property
    def input_size(self) -> int:
        """I."""
        return self.w_x.shape[0]

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.w_x.shape[1] // 2


def init_min_gru(
    key: jax.Array, input_size: int, hidden_size: int, *, dtype: DTypeLike = jnp.float32
) -> MinGRUParams:
    """Draws a minGRU: w_x lecun normal, b zero. The key is consumed.

    >>> import jax, gru_jax
    >>> gru_jax.init_min_gru(jax.random.key(0), 3, 5).w_x.shape
    (3, 10)
    """
    check_size("input_size", input_size)
    check_size("hidden_size", hidden_size)
    check_floating("dtype", dtype)
    init = per_gate(jinit.lecun_normal(), 2)
    w_x = draw(init, key, (input_size, 2 * hidden_size), dtype)
    return MinGRUParams(w_x, jnp.zeros(2 * hidden_size, dtype))


def min_gru_step(params: MinGRUParams, h: ArrayLike, x: ArrayLike) -> jax.Array:
    """One step of minGRU (Feng et al. 2024, "Were RNNs All We Needed?", section 3.1).

        z  = σ(x W_z + b_z)
        n  = x W_n + b_n
        h' = (1 − z) ∘ h + z ∘ n

    Args:
      params: the weights.
      h: the state `[..., H]`.
      x: the input `[..., I]`.

    Returns:
      The next state `[..., H]`.

    Raises:
      ValueError: an argument of the wrong shape or dtype.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_min_gru(jax.random.key(0), 3, 5)
    >>> gru_jax.min_gru_step(params, gru_jax.zero_state(params), jnp.ones(3)).shape
    (5,)
    """
    h, x = as_array("h", h), as_array("x", x)
    _check_params(params)
    check_input("x", params, x, time_axes=0)
    check_state("h", params, h, x.shape[:-1])
    z, n = _gates(params, x, h.dtype)
    return (1 - z) * h + z * n


def min_gru_unroll(
    params: MinGRUParams,
    h0: ArrayLike,
    xs: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """The same as `unroll(min_gru_step, ...)`, in log T parallel steps of an associative scan.

    h_t = a_t ∘ h_{t-1} + c_t with a = 1 − z and c = z ∘ n; two steps in a row are one with
    a = a₂ ∘ a₁ and c = a₂ ∘ c₁ + c₂.

    Args:
      params: the weights.
      h0: the first state `[..., H]`.
      xs: the inputs `[T, ..., I]`. T may be 0.
      mask: bool `[T, ...]`; see `unroll`.
      resets: bool `[T, ...]`; see `unroll`.
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
    h0, xs = as_array("h0", h0), as_array("xs", xs)
    _check_params(params)
    check_input("xs", params, xs, time_axes=1)
    check_state("h0", params, h0, xs.shape[1:-1])
    mask = check_flags("mask", mask, {xs.shape[:-1]})
    resets = check_flags("resets", resets, {xs.shape[:-1]})
    visible, mask, resets = prepare(xs, mask, resets)
    z, n = _gates(params, visible, h0.dtype)
    if mask is not None:
        z = jnp.where(mask[..., None], z, 0)
    a, c = 1 - z, z * n
    if resets is not None:
        a = jnp.where(resets[..., None], 0, a)

    def combine(first: tuple[jax.Array, ...], then: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        (a1, c1), (a2, c2) = first, then
        return a2 * a1, a2 * c1 + c2

    a, c = jax.lax.associative_scan(combine, (a, c), reverse=reverse)
    states = a * h0[None] + c
    h_last = h0 if len(states) == 0 else states[0 if reverse else -1]
    return h_last, outputs(states, mask)


def _gates(params: MinGRUParams, x: jax.Array, dtype: DTypeLike) -> tuple[jax.Array, jax.Array]:
    a_z, n = jnp.split(biased(product(x, params.w_x, dtype), params.b), 2, axis=-1)
    return jax.nn.sigmoid(a_z), n


def _check_params(params: MinGRUParams) -> None:
    width = 2 * params.hidden_size
    check_shape("params.w_x", params.w_x, (params.input_size, width), "(I, 2H)")
    if params.b is not None:
        check_shape("params.b", params.b, (width,), "(2H,)")
