"""The LSTM: parameters, an initialiser and one step, in plain JAX."""

from dataclasses import dataclass
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from .._checks import as_array, check_shape, kind
from .._initializers import draw_matrices
from .._ops import biased, product
from .._scan import restarted
from .checks import check_params, check_step
from .parameters import Sizes


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class LSTMParams(Sizes):
    """The weights of an LSTM, a pytree for `lstm_step`. Gate blocks are ordered `i | f | g | o`.

    Attributes:
      w_x: input weights `[I, 4H]`.
      w_h: recurrent weights `[H, 4H]`.
      b: bias `[4H]`, or None.

    >>> import jax.numpy as jnp, gru_jax
    >>> params = gru_jax.LSTMParams(jnp.zeros((3, 20)), jnp.zeros((5, 20)))
    >>> params.input_size, params.hidden_size
    (3, 5)
    """

    w_x: jax.Array
    w_h: jax.Array
    b: jax.Array | None = None

    @property
    def state_size(self) -> "LSTMState":
        """H, for both parts of the state."""
        return LSTMState(self.hidden_size, self.hidden_size)


class LSTMState(NamedTuple):
    """The state of an LSTM, a named tuple of two arrays.

    Attributes:
      h: the output `[..., H]`, which the next layer of a `GRUStack` reads.
      c: the cell state `[..., H]`.

    >>> import jax.numpy as jnp, gru_jax
    >>> state = gru_jax.LSTMState(h=jnp.zeros((2, 5)), c=jnp.ones((2, 5)))
    >>> h, c = state
    >>> h.shape, c.shape
    ((2, 5), (2, 5))
    """

    h: Any  # [..., H], or H itself as a size
    c: Any


def init_lstm(
    key: jax.Array,
    input_size: SupportsIndex,
    hidden_size: SupportsIndex,
    *,
    dtype: DTypeLike = jnp.float32,
) -> LSTMParams:
    """Draws the parameters of an LSTM: w_x LeCun normal, w_h orthogonal per gate.

    The bias is zero except for the forget gate's, which is 1 (Jozefowicz et al. 2015, section 2.2).

    Args:
      key: the key is consumed.
      input_size: I, the number of features of one input.
      hidden_size: H, the number of features of each part of the state.
      dtype: a floating dtype.

    Returns:
      An `LSTMParams` with w_x `[I, 4H]`, w_h `[H, 4H]` and b `[4H]`.

    Raises:
      ValueError: a size below 1, a `dtype` not floating, or no key.

    >>> import jax, gru_jax
    >>> params = gru_jax.init_lstm(jax.random.key(0), 3, 5)
    >>> params.w_x.shape, params.w_h.shape, params.b.shape
    ((3, 20), (5, 20), (20,))
    """
    w_x, w_h = draw_matrices(key, input_size, hidden_size, 4, dtype)
    b = jnp.repeat(jnp.array([0, 1, 0, 0], dtype), w_h.shape[0])
    return LSTMParams(w_x, w_h, b)


def lstm_step(
    params: LSTMParams,
    state: LSTMState,
    x: ArrayLike,
    *,
    resets: ArrayLike | None = None,
    reset_state: LSTMState | None = None,
) -> LSTMState:
    """One step of the LSTM, from the state (h, c) and the input x to the next state (h', c').

        i, f, o = σ(x W_x + h W_h + b)      g = tanh(x W_xg + h W_hg + b_g)
        c' = f ∘ c + i ∘ g                  h' = o ∘ tanh(c')

    Source: Hochreiter & Schmidhuber 1997, "Long Short-Term Memory", with the forget gate of Gers et
    al. 2000; the gate order i | f | g | o is PyTorch's.

    Args:
      params: the weights.
      state: an `LSTMState(h, c)`, both `[..., H]`, in the parameters' dtype or a wider one, which
        the next state keeps.
      x: the input `[..., I]`, in the parameters' dtype.
      resets: bool `[...]`; see `gru_step`.
      reset_state: an `LSTMState` of arrays `[H]` or `[..., H]`; see `gru_step`.

    Returns:
      The next state, an `LSTMState` of arrays `[..., H]`; its h is the output.

    Raises:
      ValueError: an argument of the wrong shape or dtype, or a state that is no `LSTMState`.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_lstm(jax.random.key(0), 3, 5)
    >>> state = gru_jax.lstm_step(params, gru_jax.zero_state(params), jnp.ones(3))
    >>> state.h.shape, state.c.shape
    ((5,), (5,))
    """
    if not isinstance(state, LSTMState):
        raise ValueError(f"state is {kind(state)}, but must be an LSTMState(h, c).")
    params = check_params(params, LSTMParams, 4, {"b": 4})
    h, x = check_step(params, state.h, x)
    c = as_array("state.c", state.c)
    check_shape("state.c", c, h.shape, "(*batch, H) like state.h")
    if c.dtype != h.dtype:
        raise ValueError(f"state.c is {c.dtype}, but must be {h.dtype} like state.h.")
    h, c = restarted(LSTMState(h, c), resets, reset_state)
    u = product(x, params.w_x, h.dtype) + product(h, params.w_h, h.dtype)
    i, f, g, o = jnp.split(biased(u, params.b), 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return LSTMState(jax.nn.sigmoid(o) * jnp.tanh(c), c)
