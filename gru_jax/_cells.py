"""Relatives of the GRU, each as parameters, an initialiser and a step, in plain JAX.

`unroll(step, params, h0, xs)` runs each over time, `gru_stack_unroll(stack, None, xs, step=step)`
in layers, and `zero_state(params)` is where each begins. Matrices act from the right, w_x
`[I, k H]` on the input and w_h `[H, k H]` on the state; the order of the k gates is said below.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from ._checks import (
    Params,
    as_array,
    check_input,
    check_params,
    check_shape,
    check_state,
    kind,
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
class LSTMParams:
    """The weights of an LSTM, a pytree for `lstm_step`, gates ordered `i | f | g | o`.

    w_x `[I, 4H]`, w_h `[H, 4H]`, and a bias b `[4H]` or None.
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

    @property
    def state_size(self) -> "LSTMState":
        """H, for both parts of the state."""
        return LSTMState(self.hidden_size, self.hidden_size)


class LSTMState(NamedTuple):
    """The state of an LSTM, both parts `[..., H]`.

    The output h comes first, which is where `gru_stack_unroll` looks for it.
    """

    h: Any  # [..., H], or H itself as a size
    c: Any


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
    key: jax.Array, input_size: int, hidden_size: int, *, dtype: DTypeLike = jnp.float32
) -> RNNParams:
    """Draws a tanh RNN: w_x lecun normal, w_h orthogonal, b zero. The key is consumed.

    >>> import jax, gru_jax
    >>> gru_jax.init_rnn(jax.random.key(0), 3, 5).w_x.shape
    (3, 5)
    """
    w_x, w_h = draw_matrices(key, input_size, hidden_size, 1, dtype)
    return RNNParams(w_x, w_h, jnp.zeros(hidden_size, dtype))


def init_lstm(
    key: jax.Array, input_size: int, hidden_size: int, *, dtype: DTypeLike = jnp.float32
) -> LSTMParams:
    """Draws an LSTM: w_x lecun normal, w_h orthogonal per gate, b zero but 1 for f.

    The forget gate's 1 is that of Jozefowicz et al. 2015, section 2.2. The key is consumed.

    >>> import jax, gru_jax
    >>> gru_jax.init_lstm(jax.random.key(0), 3, 5).w_x.shape
    (3, 20)
    """
    w_x, w_h = draw_matrices(key, input_size, hidden_size, 4, dtype)
    b = jnp.repeat(jnp.array([0, 1, 0, 0], dtype), hidden_size)
    return LSTMParams(w_x, w_h, b)


def init_mgu(
    key: jax.Array, input_size: int, hidden_size: int, *, dtype: DTypeLike = jnp.float32
) -> MGUParams:
    """Draws a minimal gated unit: w_x lecun normal, w_h orthogonal per gate, b zero.

    The key is consumed.

    >>> import jax, gru_jax
    >>> gru_jax.init_mgu(jax.random.key(0), 3, 5).w_x.shape
    (3, 10)
    """
    w_x, w_h = draw_matrices(key, input_size, hidden_size, 2, dtype)
    return MGUParams(w_x, w_h, jnp.zeros(2 * hidden_size, dtype))


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


def lstm_step(
    params: LSTMParams,
    state: LSTMState,
    x: ArrayLike,
    *,
    resets: ArrayLike | None = None,
    reset_state: LSTMState | None = None,
) -> LSTMState:
    """One step of the LSTM (Hochreiter & Schmidhuber 1997; forget gate of Gers et al. 2000).

        i, f, o = σ(x W_x + h W_h + b)      g = tanh(x W_xg + h W_hg + b_g)
        c' = f ∘ c + i ∘ g                  h' = o ∘ tanh(c')

    The form, and the order i | f | g | o, of PyTorch. The parts of the state are `[..., H]`, x
    `[..., I]`.

    `resets` and `reset_state` are those of `gru_step`.

    Raises:
      ValueError: an argument of the wrong shape or dtype.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_lstm(jax.random.key(0), 3, 5)
    >>> state = gru_jax.lstm_step(params, gru_jax.zero_state(params), jnp.ones(3))
    >>> state.h.shape, state.c.shape
    ((5,), (5,))
    """
    if not isinstance(state, LSTMState):
        raise ValueError(f"state is {kind(state)}, but must be an LSTMState(h, c).")
    params, h, x = checked(params, LSTMParams, 4, state.h, x, {"b": 4})
    c = as_array("state.c", state.c)
    check_shape("state.c", c, h.shape, "(*batch, H) like state.h")
    if c.dtype != h.dtype:
        raise ValueError(f"state.c is {c.dtype}, but must be {h.dtype} like state.h.")
    h, c = restarted(LSTMState(h, c), resets, reset_state)
    u = product(x, params.w_x, h.dtype) + product(h, params.w_h, h.dtype)
    i, f, g, o = jnp.split(biased(u, params.b), 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return LSTMState(jax.nn.sigmoid(o) * jnp.tanh(c), c)


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
