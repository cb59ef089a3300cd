"""Relatives of the GRU, each as parameters, an initialiser and a step, in plain JAX.

`unroll(step, params, h0, xs)` runs each over time, `gru_stack_unroll(stack, None, xs, step=step)`
in layers, and `zero_state(params)` is where each begins. Matrices act from the right, w_x
`[I, k H]` on the input and w_h `[H, k H]` on the state; the order of the k gates is said below.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from ._checks import (
    Params,
    as_array,
    check_input,
    check_params,
    check_state,
)
from ._initializers import draw_matrices
from ._ops import biased, product
from ._scan import restarted


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class RNNParams:
    """The weights of a tanh RNN, a pytree for `rnn_step`.

    w_x `[I, H]`, w_h `[H, H]`, and a bias b `[H]` or None.
    """

    w_x: jax.Array
    w_h: jax.Array
    b: jax.Array | None = None

    @property
    def input_size(self) -> int:
        """I."""
        return self.w_x.shape[-2]

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.w_h.shape[-2]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class MGUParams:
    """The weights of a minimal gated unit, a pytree for `mgu_step`, gates ordered `f | n`.

    w_x `[I, 2H]`, w_h `[H, 2H]`, and a bias b `[2H]` or None.
    """

    w_x: jax.Array
    w_h: jax.Array
    b: jax.Array | None = None

    @property
    def input_size(self) -> int:
        """I."""
        return self.w_x.shape[-2]

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.w_h.shape[-2]


def init_rnn(
    key: jax.Array,
    input_size: SupportsIndex,
    hidden_size: SupportsIndex,
    *,
    dtype: DTypeLike = jnp.float32,
) -> RNNParams:
    """Draws a tanh RNN: w_x lecun normal, w_h orthogonal, b zero. The key is consumed.

    >>> import jax, gru_jax
    >>> gru_jax.init_rnn(jax.random.key(0), 3, 5).w_x.shape
    (3, 5)
    """
    w_x, w_h = draw_matrices(key, input_size, hidden_size, 1, dtype)
    return RNNParams(w_x, w_h, jnp.zeros(w_h.shape[1], dtype))


def init_mgu(
    key: jax.Array,
    input_size: SupportsIndex,
    hidden_size: SupportsIndex,
    *,
    dtype: DTypeLike = jnp.float32,
) -> MGUParams:
    """Draws a minimal gated unit: w_x lecun normal, w_h orthogonal per gate, b zero.

    The key is consumed.

    >>> import jax, gru_jax
    >>> gru_jax.init_mgu(jax.random.key(0), 3, 5).w_x.shape
    (3, 10)
    """
    w_x, w_h = draw_matrices(key, input_size, hidden_size, 2, dtype)
    return MGUParams(w_x, w_h, jnp.zeros(w_h.shape[1], dtype))


def rnn_step(
    params: RNNParams,
    h: ArrayLike,
    x: ArrayLike,
    *,
    resets: ArrayLike | None = None,
    reset_state: ArrayLike | None = None,
) -> jax.Array:
    """One step of the tanh RNN (Elman 1990): h `[..., H]`, x `[..., I]`.

        h' = tanh(x W_x + h W_h + b)

    `resets` and `reset_state` are those of `gru_step`.

    Raises:
      ValueError: an argument of the wrong shape or dtype.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_rnn(jax.random.key(0), 3, 5)
    >>> gru_jax.rnn_step(params, gru_jax.zero_state(params), jnp.ones(3)).shape
    (5,)
    """
    params, h, x = checked(params, RNNParams, 1, h, x, {"b": 1})
    h = restarted(h, resets, reset_state)
    u = product(x, params.w_x, h.dtype) + product(h, params.w_h, h.dtype)
    return jnp.tanh(biased(u, params.b))


def mgu_step(
    params: MGUParams,
    h: ArrayLike,
    x: ArrayLike,
    *,
    resets: ArrayLike | None = None,
    reset_state: ArrayLike | None = None,
) -> jax.Array:
    """One step of the minimal gated unit (Zhou et al. 2016, equations 7–9).

        f  = σ(x W_xf + h W_hf + b_f)
        n  = tanh(x W_xn + (f ∘ h) W_hn + b_n)
        h' = (1 − f) ∘ h + f ∘ n

    A GRU whose gates are one: `gru_step` with W_z = W_r. h is `[..., H]`, x `[..., I]`.

    `resets` and `reset_state` are those of `gru_step`.

    Raises:
      ValueError: an argument of the wrong shape or dtype.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_mgu(jax.random.key(0), 3, 5)
    >>> gru_jax.mgu_step(params, gru_jax.zero_state(params), jnp.ones(3)).shape
    (5,)
    """
    params, h, x = checked(params, MGUParams, 2, h, x, {"b": 2})
    h = restarted(h, resets, reset_state)
    a_f, a_n = jnp.split(biased(product(x, params.w_x, h.dtype), params.b), 2, axis=-1)
    w_f, w_n = jnp.split(params.w_h, 2, axis=1)
    f = jax.nn.sigmoid(a_f + product(h, w_f, h.dtype))
    n = jnp.tanh(a_n + product(f * h, w_n, h.dtype))
    return (1 - f) * h + f * n


def checked(
    params: Any,
    cls: type[Params],
    gates: int,
    h: ArrayLike,
    x: ArrayLike,
    vectors: Mapping[str, int],
) -> tuple[Params, jax.Array, jax.Array]:
    """The parameters, the state and the input of a step as arrays, checked against each other."""
    params = check_params(params, cls, gates, vectors)
    h, x = as_array("h", h), as_array("x", x)
    check_input("x", params, x, time_axes=0)
    check_state("h", params, h, x.shape[:-1])
    return params, h, x
