"""The tanh RNN: parameters, an initialiser and one step, in plain JAX."""

from dataclasses import dataclass
from typing import SupportsIndex

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from .._initializers import draw_matrices
from .._ops import biased, product
from .._scan import restarted
from .checks import check_params, check_step
from .parameters import Sizes


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class RNNParams(Sizes):
    """The weights of a tanh RNN, a pytree for `rnn_step`.

    Attributes:
      w_x: input weights `[I, H]`.
      w_h: recurrent weights `[H, H]`.
      b: bias `[H]`, or None.

    >>> import jax.numpy as jnp, gru_jax
    >>> params = gru_jax.RNNParams(jnp.zeros((3, 5)), jnp.zeros((5, 5)))
    >>> params.input_size, params.hidden_size
    (3, 5)
    """

    w_x: jax.Array
    w_h: jax.Array
    b: jax.Array | None = None


def init_rnn(
    key: jax.Array,
    input_size: SupportsIndex,
    hidden_size: SupportsIndex,
    *,
    dtype: DTypeLike = jnp.float32,
) -> RNNParams:
    """Draws the parameters of a tanh RNN: w_x LeCun normal, w_h orthogonal, b zero.

    Args:
      key: the key is consumed.
      input_size: I, the number of features of one input.
      hidden_size: H, the number of features of the state.
      dtype: a floating dtype.

    Returns:
      An `RNNParams` with w_x `[I, H]`, w_h `[H, H]` and b `[H]`.

    Raises:
      ValueError: a size below 1, a `dtype` not floating, or no key.

    >>> import jax, gru_jax
    >>> params = gru_jax.init_rnn(jax.random.key(0), 3, 5)
    >>> params.w_x.shape, params.w_h.shape, params.b.shape
    ((3, 5), (5, 5), (5,))
    """
    w_x, w_h = draw_matrices(key, input_size, hidden_size, 1, dtype)
    return RNNParams(w_x, w_h, jnp.zeros(w_h.shape[1], dtype))


def rnn_step(
    params: RNNParams,
    h: ArrayLike,
    x: ArrayLike,
    *,
    resets: ArrayLike | None = None,
    reset_state: ArrayLike | None = None,
) -> jax.Array:
    """One step of the tanh RNN, from the state h and the input x to the next state h'.

        h' = tanh(x W_x + h W_h + b)

    Source: Elman 1990, "Finding Structure in Time".

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
    >>> params = gru_jax.init_rnn(jax.random.key(0), 3, 5)
    >>> gru_jax.rnn_step(params, gru_jax.zero_state(params), jnp.ones(3)).shape
    (5,)
    """
    params = check_params(params, RNNParams, 1, {"b": 1})
    h, x = check_step(params, h, x)
    h = restarted(h, resets, reset_state)
    u = product(x, params.w_x, h.dtype) + product(h, params.w_h, h.dtype)
    return jnp.tanh(biased(u, params.b))
