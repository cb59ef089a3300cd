"""The minimal gated unit: parameters, an initialiser and one step, in plain JAX."""

from dataclasses import dataclass
from typing import SupportsIndex

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from .._initializers import draw_matrices
from .._ops import biased, product, product_of_columns
from .._scan import restarted
from .checks import check_params, check_step
from .parameters import Sizes


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class MGUParams(Sizes):
    """The weights of a minimal gated unit, a pytree for `mgu_step`. Gates are ordered `f | n`.

    Attributes:
      w_x: input weights `[I, 2H]`.
      w_h: recurrent weights `[H, 2H]`.
      b: bias `[2H]`, or None.

    >>> import jax.numpy as jnp, gru_jax
    >>> params = gru_jax.MGUParams(jnp.zeros((3, 10)), jnp.zeros((5, 10)))
    >>> params.input_size, params.hidden_size
    (3, 5)
    """

    w_x: jax.Array
    w_h: jax.Array
    b: jax.Array | None = None


def init_mgu(
    key: jax.Array,
    input_size: SupportsIndex,
    hidden_size: SupportsIndex,
    *,
    dtype: DTypeLike = jnp.float32,
) -> MGUParams:
    """Draws the parameters of a minimal gated unit.

    w_x is LeCun normal, w_h orthogonal per gate, b zero.

    Args:
      key: the key is consumed.
      input_size: I, the number of features of one input.
      hidden_size: H, the number of features of the state.
      dtype: a floating dtype.

    Returns:
      An `MGUParams` with w_x `[I, 2H]`, w_h `[H, 2H]` and b `[2H]`.

    Raises:
      ValueError: a size below 1, a `dtype` not floating, or no key.

    >>> import jax, gru_jax
    >>> params = gru_jax.init_mgu(jax.random.key(0), 3, 5)
    >>> params.w_x.shape, params.w_h.shape, params.b.shape
    ((3, 10), (5, 10), (10,))
    """
    w_x, w_h = draw_matrices(key, input_size, hidden_size, 2, dtype)
    return MGUParams(w_x, w_h, jnp.zeros(w_h.shape[1], dtype))


def mgu_step(
    params: MGUParams,
    h: ArrayLike,
    x: ArrayLike,
    *,
    resets: ArrayLike | None = None,
    reset_state: ArrayLike | None = None,
) -> jax.Array:
    """One step of the minimal gated unit: `gru_step` with W_z = W_r and b_z = b_r.

        f  = σ(x W_xf + h W_hf + b_f)
        n  = tanh(x W_xn + (f ∘ h) W_hn + b_n)
        h' = (1 − f) ∘ h + f ∘ n

    Source: Zhou et al. 2016, "Minimal Gated Unit for Recurrent Neural Networks", equations 7–9.

    Args:
      params: the weights.
      h: the state `[..., H]`, in the parameters' dtype or a wider one, which h' keeps.
      x: the input `[..., I]`, in the parameters' dtype.
      resets: bool `[...]`; see `gru_step`.
      reset_state: `[H]` or `[..., H]`; see `gru_step`.

    Returns:
      The next state h' `[..., H]`.

    Raises:
      ValueError: an argument of the wrong shape or dtype.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_mgu(jax.random.key(0), 3, 5)
    >>> gru_jax.mgu_step(params, gru_jax.zero_state(params), jnp.ones(3)).shape
    (5,)
    """
    params = check_params(params, MGUParams, 2, {"b": 2})
    h, x = check_step(params, h, x)
    h = restarted(h, resets, reset_state)
    a_f, a_n = jnp.split(biased(product(x, params.w_x, h.dtype), params.b), 2, axis=-1)
    gate, candidate = slice(h.shape[-1]), slice(h.shape[-1], None)
    f = jax.nn.sigmoid(a_f + product_of_columns(h, params.w_h, gate, h.dtype))
    n = jnp.tanh(a_n + product_of_columns(f * h, params.w_h, candidate, h.dtype))
    return (1 - f) * h + f * n
