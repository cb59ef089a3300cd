"""The GRU: parameters, an initialiser and one step, the equations in plain JAX."""

from dataclasses import dataclass, field
from typing import Any, Literal, SupportsIndex

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from .._checks import (
    check_bool,
    check_callable,
    check_floating,
    check_key,
    check_option,
    check_size,
)
from .._initializers import PRESETS, Initializer, Preset, draw, per_gate
from .._ops import biased, product, product_of_columns
from .._scan import restarted
from .checks import check_params, check_step
from .parameters import Sizes, register

Reset = Literal["before", "after"]


@dataclass(frozen=True, eq=False)
class GRUParams(Sizes):
    """The weights of one GRU, a pytree. Gate blocks are ordered `z | r | n` along the last axis.

    `reset`, the position of the reset gate, is not to be confused with `resets`, the argument that
    marks the first steps of new episodes.

    Attributes:
      w_x: input weights `[I, 3H]`.
      w_h: recurrent weights `[H, 3H]`.
      b: bias `[3H]`, or None.
      b_hn: bias `[H]` of the candidate's recurrent product, inside the reset gate. Only
        `reset="after"` has one; None with `reset="before"` or without biases.
      reset: static. "before": the reset gate multiplies the state before the recurrent product
        (Cho et al. 2014). "after": it multiplies the product (cuDNN, PyTorch, Flax).

    >>> import jax.numpy as jnp, gru_jax
    >>> params = gru_jax.GRUParams(jnp.zeros((3, 15)), jnp.zeros((5, 15)), jnp.zeros(15))
    >>> params.input_size, params.hidden_size, params.reset
    (3, 5, 'before')
    """

    w_x: jax.Array  # [I, 3H]
    w_h: jax.Array  # [H, 3H]
    b: jax.Array | None = None  # [3H]
    b_hn: jax.Array | None = None  # [H]
    reset: Reset = field(default="before", metadata={"static": True})


register(GRUParams, static="reset", option="after", optional=("b_hn",))


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
      input_size: I, the number of features of one input.
      hidden_size: H, the number of features of the state.
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


def gru_step(
    params: GRUParams,
    h: ArrayLike,
    x: ArrayLike,
    *,
    resets: ArrayLike | None = None,
    reset_state: ArrayLike | None = None,
) -> jax.Array:
    """One step of the GRU, from the state h and the input x to the next state h'.

        z  = σ(x W_xz + h W_hz + b_z)
        r  = σ(x W_xr + h W_hr + b_r)
        n  = tanh(x W_xn + (r ∘ h) W_hn + b_n)            reset="before"
        n  = tanh(x W_xn + b_n + r ∘ (h W_hn + b_hn))     reset="after"
        h' = (1 − z) ∘ h + z ∘ n

    Source: Cho et al. 2014, "Learning Phrase Representations using RNN Encoder–Decoder",
    equations 5–8, with z in the role of their 1 − z, as in Chung et al. 2014, equations 5–8;
    reset="after" is the form of cuDNN and PyTorch.

    Products are computed in the parameters' dtype and everything else in the state's: a float32
    state with bfloat16 parameters and inputs gives bfloat16 products accumulated in float32.

    Args:
      params: the weights.
      h: the state `[..., H]`, in the parameters' dtype or a wider one, which h' keeps.
      x: the input `[..., I]`, in the parameters' dtype.
      resets: bool `[...]`. Where it is True a new episode begins: h is replaced before x is
        consumed. Not to be confused with the reset gate r.
      reset_state: `[H]` or `[..., H]`, what h is replaced with; zeros by default.

    Returns:
      The next state h' `[..., H]`.

    Raises:
      ValueError: an argument of the wrong shape or dtype.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5)
    >>> h = gru_jax.gru_step(params, gru_jax.zero_state(params), jnp.ones(3))
    >>> h.shape
    (5,)
    """
    params = check_gru(params)
    h, x = check_step(params, h, x)
    h = restarted(h, resets, reset_state)
    a_z, a_r, a_n = jnp.split(biased(product(x, params.w_x, h.dtype), params.b), 3, axis=-1)
    if params.reset == "after":
        u_z, u_r, u_n = jnp.split(product(h, params.w_h, h.dtype), 3, axis=-1)
        r = jax.nn.sigmoid(a_r + u_r)
        n = jnp.tanh(a_n + r * biased(u_n, params.b_hn))
    else:
        gates, candidate = slice(2 * h.shape[-1]), slice(2 * h.shape[-1], None)
        u_z, u_r = jnp.split(product_of_columns(h, params.w_h, gates, h.dtype), 2, axis=-1)
        r = jax.nn.sigmoid(a_r + u_r)
        n = jnp.tanh(a_n + product_of_columns(r * h, params.w_h, candidate, h.dtype))
    z = jax.nn.sigmoid(a_z + u_z)
    return (1 - z) * h + z * n
