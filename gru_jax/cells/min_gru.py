"""minGRU: gates that see only the input; parameters, an initialiser and one step."""

from dataclasses import dataclass
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
from jax.nn import initializers as jinit
from jax.typing import ArrayLike, DTypeLike

from .._checks import check_floating, check_key, check_size
from .._initializers import draw, per_gate
from .._ops import biased, product
from .._scan import restarted
from .checks import check_params, check_step


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class MinGRUParams:
    """The weights of a minGRU, a pytree for `min_gru_step`. Gate blocks are ordered `z | n`.

    Attributes:
      w_x: input weights `[I, 2H]`.
      b: bias `[2H]`, or None.

    >>> import jax.numpy as jnp, gru_jax
    >>> params = gru_jax.MinGRUParams(jnp.zeros((3, 10)))
    >>> params.input_size, params.hidden_size
    (3, 5)
    """

    w_x: jax.Array
    b: jax.Array | None = None

    @property
    def input_size(self) -> int:
        """I, the number of features of one input."""
        return self.w_x.shape[-2]

    @property
    def hidden_size(self) -> int:
        """H, the number of features of the state."""
        return self.w_x.shape[-1] // 2


def check_min_gru(params: Any) -> MinGRUParams:
    """The parameters as JAX arrays, checked against each other."""
    return check_params(params, MinGRUParams, 2, {"b": 2})


def init_min_gru(
    key: jax.Array,
    input_size: SupportsIndex,
    hidden_size: SupportsIndex,
    *,
    dtype: DTypeLike = jnp.float32,
) -> MinGRUParams:
    """Draws the parameters of a minGRU: w_x LeCun normal per gate, b zero.

    Args:
      key: the key is consumed.
      input_size: I, the number of features of one input.
      hidden_size: H, the number of features of the state.
      dtype: a floating dtype.

    Returns:
      A `MinGRUParams` with w_x `[I, 2H]` and b `[2H]`.

    Raises:
      ValueError: a size below 1, a `dtype` not floating, or no key.

    >>> import jax, gru_jax
    >>> params = gru_jax.init_min_gru(jax.random.key(0), 3, 5)
    >>> params.w_x.shape, params.b.shape
    ((3, 10), (10,))
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
    params = check_min_gru(params)
    h, x = check_step(params, h, x)
    h = restarted(h, resets, reset_state)
    z, n = gates(params, x, h.dtype)
    return (1 - z) * h + z * n


def gates(params: MinGRUParams, x: jax.Array, dtype: DTypeLike) -> tuple[jax.Array, jax.Array]:
    """The update gate z and the candidate n, each `[..., H]`, of inputs `[..., I]`."""
    a_z, n = jnp.split(biased(product(x, params.w_x, dtype), params.b), 2, axis=-1)
    return jax.nn.sigmoid(a_z), n
