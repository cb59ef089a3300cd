"""The linear head."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import SupportsIndex

import jax
import jax.numpy as jnp
from jax.nn import initializers as jinit
from jax.typing import ArrayLike, DTypeLike

from ._checks import (
    as_array,
    check_bool,
    check_callable,
    check_floating,
    check_key,
    check_shape,
    check_size,
    kind,
)
from ._initializers import Initializer, draw
from ._ops import biased, product
from .cells.gru import GRUParams, gru_step

_LECUN_NORMAL = jinit.lecun_normal()


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class ReadoutParams:
    """The weights of a linear head from H features to O outputs, a pytree for `readout`.

    Attributes:
      w: weights `[H, O]`.
      b: bias `[O]`, or None.

    >>> import jax.numpy as jnp, gru_jax
    >>> params = gru_jax.ReadoutParams(jnp.ones((5, 2)))
    >>> gru_jax.readout(params, jnp.ones(5))
    Array([5., 5.], dtype=float32)
    """

    w: jax.Array  # [H, O]
    b: jax.Array | None = None  # [O]


def init_readout(
    key: jax.Array,
    hidden_size: SupportsIndex,
    output_size: SupportsIndex,
    *,
    bias: bool = True,
    dtype: DTypeLike = jnp.float32,
    w_init: Initializer = _LECUN_NORMAL,
    b_init: Initializer = jinit.zeros,
) -> ReadoutParams:
    """Draws the parameters of a linear head.

    Args:
      key: the key is consumed.
      hidden_size: H, the number of features of the state.
      output_size: O, the number of features of the output.
      bias: False leaves `b` None.
      dtype: a floating dtype.
      w_init: called with shape `[H, O]`; lecun normal by default.
      b_init: called with shape `[O]`.

    Returns:
      A `ReadoutParams`.

    Raises:
      ValueError: a size below 1, a `dtype` not floating, an initialiser that returns another
        shape, or no key.

    >>> import jax, gru_jax
    >>> params = gru_jax.init_readout(jax.random.key(0), 5, 2)
    >>> params.w.shape, params.b.shape
    ((5, 2), (2,))
    """
    key = check_key("key", key)
    hidden_size = check_size("hidden_size", hidden_size)
    output_size = check_size("output_size", output_size)
    check_bool("bias", bias)
    check_floating("dtype", dtype)
    for name, init in (("w_init", w_init), ("b_init", b_init)):
        check_callable(name, init, "(key, shape, dtype) -> array")
    w_key, b_key = jax.random.split(key)
    return ReadoutParams(
        w=draw(w_init, w_key, (hidden_size, output_size), dtype, "w_init"),
        b=draw(b_init, b_key, (output_size,), dtype, "b_init") if bias else None,
    )


def readout(params: ReadoutParams, h: ArrayLike) -> jax.Array:
    """The linear head h W + b.

    Args:
      params: the weights.
      h: states `[..., H]`.

    Returns:
      Outputs `[..., O]` in h's dtype; the product is computed in the parameters' dtype.

    Raises:
      ValueError: an argument of the wrong shape or dtype.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_readout(jax.random.key(0), 5, 2)
    >>> gru_jax.readout(params, jnp.ones((7, 5))).shape
    (7, 2)
    """
    h = as_array("h", h)
    w, b = _check_readout("params", params)
    if h.shape[-1:] != w.shape[:1]:
        raise ValueError(f"h has shape {h.shape}, but must have (..., H) with H = {w.shape[0]}.")
    if not jnp.issubdtype(h.dtype, jnp.floating):
        raise ValueError(f"h is {h.dtype}, but must be floating: use h.astype({w.dtype}).")
    return biased(product(h, w, h.dtype), b)


def _check_readout(name: str, params: ReadoutParams) -> tuple[jax.Array, jax.Array | None]:
    if not isinstance(params, ReadoutParams):
        raise ValueError(f"{name} is {kind(params)}, but must be a ReadoutParams.")
    w = as_array(f"{name}.w", params.w)
    b = None if params.b is None else as_array(f"{name}.b", params.b)
    if w.ndim != 2:
        raise ValueError(f"{name}.w has shape {w.shape}, but must have (H, O): use jax.vmap.")
    if not jnp.issubdtype(w.dtype, jnp.floating):
        raise ValueError(f"{name}.w is {w.dtype}, but must be a floating dtype.")
    if b is not None:
        check_shape(f"{name}.b", b, w.shape[1:], "(O,)")
        if b.dtype != w.dtype:
            raise ValueError(f"{name}.b is {b.dtype}, but must be {w.dtype} like {name}.w.")
    return w, b


def generate_step(
    params: GRUParams,
    readout_params: ReadoutParams,
    h: ArrayLike,
    x: ArrayLike,
    *,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.sigmoid,
) -> tuple[jax.Array, jax.Array]:
    """One step of a generating GRU: the next state, then y = σ(W_y h').

    Args:
      params: the GRU's weights.
      readout_params: the head's weights.
      h: the state `[..., H]`.
      x: the input `[..., I]`.
      activation: σ; pass `lambda y: y` for logits.

    Returns:
      `(h', y)`: the next state `[..., H]` and the output `[..., O]`.

    Raises:
      ValueError: an argument of the wrong shape or dtype.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5)
    >>> readout_params = gru_jax.init_readout(jax.random.key(1), 5, 2)
    >>> h = gru_jax.zero_state(params)
    >>> h, y = gru_jax.generate_step(params, readout_params, h, jnp.ones(3))
    >>> h.shape, y.shape
    ((5,), (2,))
    """
    _check_readout("readout_params", readout_params)
    check_callable("activation", activation, "of the outputs")
    h = gru_step(params, h, x)
    return h, activation(readout(readout_params, h))
