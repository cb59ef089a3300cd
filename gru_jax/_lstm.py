"""The LSTM, a relative of the GRU: parameters, an initialiser and a step, in plain JAX."""

from dataclasses import dataclass
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from ._cells import checked
from ._checks import as_array, check_shape, kind
from ._initializers import draw_matrices
from ._ops import biased, product
from ._scan import restarted


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


def init_lstm(
    key: jax.Array,
    input_size: SupportsIndex,
    hidden_size: SupportsIndex,
    *,
    dtype: DTypeLike = jnp.float32,
) -> LSTMParams:
    """Draws an LSTM: w_x lecun normal, w_h orthogonal per gate, b zero but 1 for f.

    The forget gate's 1 is that of Jozefowicz et al. 2015, section 2.2. The key is consumed.

    >>> import jax, gru_jax
    >>> gru_jax.init_lstm(jax.random.key(0), 3, 5).w_x.shape
    (3, 20)
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
