"""The parameters of a GRU and their initialisation."""

from dataclasses import dataclass, field
from typing import Any, Literal, SupportsIndex

import jax
import jax.numpy as jnp
from jax.tree_util import GetAttrKey
from jax.typing import DTypeLike

from ._checks import (
    check_bool,
    check_callable,
    check_floating,
    check_key,
    check_option,
    check_params,
    check_size,
)
from ._initializers import PRESETS, Initializer, Preset, draw, per_gate

Reset = Literal["before", "after"]


@dataclass(frozen=True, eq=False)
class GRUParams:
    """The weights of one GRU, a pytree. Gate blocks are ordered `z | r | n` along the last axis.

    With input size I and hidden size H:

    Attributes:
      w_x: input weights `[I, 3H]`.
      w_h: recurrent weights `[H, 3H]`.
      b: bias `[3H]`, or None.
      b_hn: bias `[H]` of the candidate's recurrent product, inside the reset gate. Only
        `reset="after"` has one; None with `reset="before"` or without biases.
      reset: static; the position of the reset gate, not to be confused with `resets`, which start
        new episodes. "before": the gate multiplies the state before the recurrent product
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
        return self.w_x.shape[-2]

    @property
    def hidden_size(self) -> int:
        """H, the number of features of the state."""
        return self.w_h.shape[-2]


_NAMES = "w_x", "w_h", "b", "b_hn"


def _children(params: GRUParams) -> tuple[list[tuple[GetAttrKey, Any]], Reset]:
    # Only reset="after" has a child b_hn, even where it is None: a checkpoint of the one, by the
    # names of its leaves, does not fit the other.
    names = _NAMES if params.reset == "after" or params.b_hn is not None else _NAMES[:3]
    return [(GetAttrKey(name), getattr(params, name)) for name in names], params.reset


jax.tree_util.register_pytree_with_keys(
    GRUParams,
    _children,
    lambda reset, children: GRUParams(**dict(zip(_NAMES, children, strict=False)), reset=reset),
)


def check_gru(value: Any) -> GRUParams:
    """The parameters of a GRU as JAX arrays, checked against each other."""
    hint = "; gru_stack_unroll and gru_stack_step take a GRUStack"
    params = check_params(value, GRUParams, 3, {"b": 3, "b_hn": 1}, hint)
    check_option("params.reset", params.reset, ("before", "after"))
    if params.b_hn is not None and params.reset == "before":
        raise ValueError(
            'params.b_hn is an array, but reset="before" has no such bias: '
            "leave it None and add it to the candidate's part of params.b."
        )
    return params


def init_gru(
    key: jax.Array,
    input_size: SupportsIndex,
    hidden_size: SupportsIndex,
    *,
    reset: Reset | None = None,
    bias: bool = True,
    dtype: DTypeLike = jnp.float32,
    preset: Preset | None = None,
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
      reset: the position of the reset gate, "before" or "after" the recurrent product. By default
        that of the preset's library: "after" for "linen", "torch" and "keras"; "before" for
        "haiku", and where no preset is given.
      bias: False leaves `b` and `b_hn` None.
      dtype: a floating dtype.
      preset: whose defaults to use; None draws as "linen".
      w_x_init: replaces the preset's; called once per gate with shape `[I, H]`.
      w_h_init: replaces the preset's; called once per gate with shape `[H, H]`.
      b_init: replaces the preset's; called with shape `[3H]`.
      b_hn_init: replaces the preset's; called with shape `[H]`.

    Returns:
      A `GRUParams`.

    Raises:
      ValueError: a size below 1, an unknown `reset` or `preset`, a `dtype` not floating, an
        initialiser that returns another shape, or no key.

    >>> import jax, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5, preset="torch")
    >>> params.w_x.shape, params.w_h.shape, params.b.shape, params.b_hn.shape
    ((3, 15), (5, 15), (15,), (5,))
    """
    key = check_key("key", key)
    input_size = check_size("input_size", input_size)
    hidden_size = check_size("hidden_size", hidden_size)
    check_bool("bias", bias)
    check_floating("dtype", dtype)
    if preset is not None:
        check_option("preset", preset, tuple(PRESETS))
    if reset is None:
        reset = "before" if preset in (None, "haiku") else "after"
    check_option("reset", reset, ("before", "after"))

    if b_init is not None and not bias:
        raise ValueError("b_init is given, but bias is False: there is no bias to draw.")
    if b_hn_init is not None and not (bias and reset == "after"):
        raise ValueError('b_hn_init is given, but only reset="after" with biases has a b_hn.')
    inits = PRESETS[preset or "linen"]
    given = {"w_x": w_x_init, "w_h": w_h_init, "b": b_init, "b_hn": b_hn_init}
    for name, init in given.items():
        if init is not None:
            check_callable(f"{name}_init", init, "(key, shape, dtype) -> array")
            matrix = name.startswith("w")
            inits = inits._replace(**{name: per_gate(init, 3, f"{name}_init") if matrix else init})
    width = 3 * hidden_size
    w_x_key, w_h_key, b_key, b_hn_key = jax.random.split(key, 4)

    def drawn(name: str, key: jax.Array, *shape: int) -> jax.Array:
        return draw(getattr(inits, name), key, shape, dtype, f"{name}_init")

    return GRUParams(
        w_x=drawn("w_x", w_x_key, input_size, width),
        w_h=drawn("w_h", w_h_key, hidden_size, width),
        b=drawn("b", b_key, width) if bias else None,
        b_hn=drawn("b_hn", b_hn_key, hidden_size) if bias and reset == "after" else None,
        reset=reset,
    )
