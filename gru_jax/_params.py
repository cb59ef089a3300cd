"""The parameters of a GRU, their initialisation, and the zero state."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import initializers as jinit
from jax.typing import DTypeLike

from ._checks import check_floating, check_option, check_size

Initializer = Callable[..., jax.Array]
"""A function `(key, shape, dtype) -> array`, as made by `jax.nn.initializers`."""

Reset = Literal["before", "after"]
Preset = Literal["linen", "torch", "haiku", "keras"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GRUParams:
    """The weights of one GRU, a pytree. Gate blocks are ordered `z | r | n` along the last axis.

    With input size I and hidden size H:

    Attributes:
      w_x: input weights `[I, 3H]`.
      w_h: recurrent weights `[H, 3H]`.
      b: bias `[3H]`, or None.
      b_hn: bias `[H]` of the candidate's recurrent product, inside the reset gate. Only
        `reset="after"` has one; None with `reset="before"` or without biases.
      reset: static. "before": the reset gate multiplies the state before the recurrent product
        (Cho et al. 2014). "after": it multiplies the product (cuDNN, PyTorch, Flax).
    """

    w_x: jax.Array  # [I, 3H]
    w_h: jax.Array  # [H, 3H]
    b: jax.Array | None = None  # [3H]
    b_hn: jax.Array | None = None  # [H]
    reset: Reset = field(default="before", metadata={"static": True})

    @property
    def input_size(self) -> int:
        """I, the number of features of one input."""
        return self.w_x.shape[0]

    @property
    def hidden_size(self) -> int:
        """H, the number of features of the state."""
        return self.w_h.shape[0]


class _Initializers(NamedTuple):
    """What a preset draws each array with, given that array's whole shape."""

    w_x: Initializer
    w_h: Initializer
    b: Initializer = jinit.zeros
    b_hn: Initializer = jinit.zeros


def per_gate(initializer: Initializer, gates: int = 3) -> Initializer:
    """Draws the gate blocks of a `[rows, 3H]` matrix independently, each as `[rows, H]`."""

    def init(key: jax.Array, shape: Sequence[int], dtype: Any) -> jax.Array:
        rows, columns = shape
        size = rows, columns // gates
        blocks = [initializer(block_key, size, dtype) for block_key in jax.random.split(key, gates)]
        return jnp.concatenate(blocks, axis=1)

    return init


def _torch_uniform(hidden: Callable[[Sequence[int]], int]) -> Initializer:
    """U(-1/√H, 1/√H), the distribution of every array of `torch.nn.GRU`."""

    def init(key: jax.Array, shape: Sequence[int], dtype: Any) -> jax.Array:
        bound = 1 / math.sqrt(hidden(shape))
        return jax.random.uniform(key, tuple(shape), dtype, -bound, bound)

    return init


_torch_matrix = _torch_uniform(lambda shape: shape[-1] // 3)
_torch_vector = _torch_uniform(lambda shape: shape[-1])


def _torch_bias(key: jax.Array, shape: Sequence[int], dtype: Any) -> jax.Array:
    """The sum b_ih + b_hh for z and r, b_in alone for n (its b_hn stays apart)."""
    size = shape[0] // 3
    z1, z2, r1, r2, n = (_torch_vector(k, (size,), dtype) for k in jax.random.split(key, 5))
    return jnp.concatenate([z1 + z2, r1 + r2, n])


# Each reproduces the named library's defaults exactly in distribution. Keras draws its stacked
# matrices as wholes, so its fan-out is 3H and its recurrent rows, not gates, are orthonormal.
_PRESETS: dict[str, _Initializers] = {
    # flax.linen.GRUCell
    "linen": _Initializers(per_gate(jinit.lecun_normal()), per_gate(jinit.orthogonal())),
    # torch.nn.GRU.reset_parameters
    "torch": _Initializers(_torch_matrix, _torch_matrix, _torch_bias, _torch_vector),
    # haiku.GRU: VarianceScaling() = lecun_normal, for both
    "haiku": _Initializers(jinit.lecun_normal(), per_gate(jinit.lecun_normal())),
    # keras.layers.GRU
    "keras": _Initializers(jinit.glorot_uniform(), jinit.orthogonal()),
}


def init_gru(
    key: jax.Array,
    input_size: int,
    hidden_size: int,
    *,
    reset: Reset = "before",
    bias: bool = True,
    dtype: DTypeLike = jnp.float32,
    preset: Preset = "linen",
    w_x_init: Initializer | None = None,
    w_h_init: Initializer | None = None,
    b_init: Initializer | None = None,
    b_hn_init: Initializer | None = None,
) -> GRUParams:
    """Draws the parameters of a GRU.

    The presets reproduce, exactly in distribution, the defaults of

    - "linen" (`flax.linen.GRUCell`): input weights lecun normal, recurrent weights orthogonal
      per gate, biases zero;
    - "torch" (`torch.nn.GRU`): everything U(-1/√H, 1/√H); the biases of z and r are the sum of
      two such draws, because PyTorch keeps an input and a recurrent bias that only ever add up;
    - "haiku" (`haiku.GRU`): both matrices lecun normal, biases zero;
    - "keras" (`keras.layers.GRU`): input weights Glorot uniform, recurrent weights orthogonal,
      each as one `[·, 3H]` matrix, biases zero.

    Args:
      key: the key is consumed.
      input_size: I.
      hidden_size: H.
      reset: the position of the reset gate, "before" or "after" the recurrent product.
      bias: False leaves `b` and `b_hn` None.
      dtype: a floating dtype.
      preset: whose defaults to use.
      w_x_init: replaces the preset's; called once per gate with shape `[I, H]`.
      w_h_init: replaces the preset's; called once per gate with shape `[H, H]`.
      b_init: replaces the preset's; called with shape `[3H]`.
      b_hn_init: replaces the preset's; called with shape `[H]`.

    Returns:
      A `GRUParams`.

    Raises:
      ValueError: a size below 1, an unknown `reset` or `preset`, or a `dtype` not floating.

    >>> import jax, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5, reset="after", preset="torch")
    >>> params.w_x.shape, params.w_h.shape, params.b.shape, params.b_hn.shape
    ((3, 15), (5, 15), (15,), (5,))
    """
    for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
        check_size(name, size)
    check_option("reset", reset, ("before", "after"))
    check_option("preset", preset, tuple(_PRESETS))
    check_floating("dtype", dtype)

    defaults = _PRESETS[preset]
    w_x_init = per_gate(w_x_init) if w_x_init else defaults.w_x
    w_h_init = per_gate(w_h_init) if w_h_init else defaults.w_h
    b_init = b_init or defaults.b
    b_hn_init = b_hn_init or defaults.b_hn
    width = 3 * hidden_size
    w_x_key, w_h_key, b_key, b_hn_key = jax.random.split(key, 4)
    return GRUParams(
        w_x=draw(w_x_init, w_x_key, (input_size, width), dtype),
        w_h=draw(w_h_init, w_h_key, (hidden_size, width), dtype),
        b=draw(b_init, b_key, (width,), dtype) if bias else None,
        b_hn=(
            draw(b_hn_init, b_hn_key, (hidden_size,), dtype) if bias and reset == "after" else None
        ),
        reset=reset,
    )


def draw(init: Initializer, key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
    """Draws an array in float32 or wider, then rounds it: there is no bfloat16 QR factorisation."""
    drawn_dtype = dtype if jnp.dtype(dtype).itemsize >= 4 else jnp.float32
    return init(key, shape, drawn_dtype).astype(dtype)


def zero_state(params: Any, batch_shape: Sequence[int] = ()) -> Any:
    """Returns the zero state `[*batch_shape, H]` in the parameters' dtype.

    Args:
      params: a `GRUParams`, the parameters of another cell, or a whole `GRUStack`, whose states
        are a tuple with one for each layer.
      batch_shape: the batch axes.

    >>> import jax, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5)
    >>> gru_jax.zero_state(params, (2,)).shape
    (2, 5)
    """
    # canonical: NumPy's float64 without x64
    dtype = jax.dtypes.canonicalize_dtype(jax.tree.leaves(params)[0].dtype)
    return jax.tree.map(lambda size: jnp.zeros((*batch_shape, size), dtype), state_size(params))


def state_size(params: Any) -> Any:
    """What the state of a cell consists of: H, or a pytree of sizes where the parameters say so."""
    return params.state_size if hasattr(params, "state_size") else params.hidden_size
