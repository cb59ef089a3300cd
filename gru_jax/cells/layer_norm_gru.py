"""The GRU with layer normalisation, in the two forms that are in use."""

from dataclasses import dataclass, field
from typing import Literal, SupportsIndex

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from .._checks import check_option, kind
from .._initializers import draw_matrices
from .._ops import at_least_float32, biased, product, scaled
from .._scan import restarted
from .checks import check_params, check_step
from .parameters import Sizes, register


@dataclass(frozen=True, eq=False)
class LayerNormGRUParams(Sizes):
    """The weights of a GRU with layer normalisation, a pytree for `layer_norm_gru_step`.

    Gate blocks are ordered `z | r | n`.

    Attributes:
      w_x: input weights `[I, 3H]`.
      w_h: recurrent weights `[H, 3H]`.
      gain: `[3H]`, multiplies the normalised product of the input, or of input and state.
      b: bias `[3H]`, added to it.
      gain_h: `[3H]`, multiplies the normalised product of the state. Only norm="apart" has one.
      b_h: bias `[3H]`, added to it. Only norm="apart" has one.
      norm: static; "apart" or "together", see `layer_norm_gru_step`.

    >>> import jax, gru_jax
    >>> params = gru_jax.init_layer_norm_gru(jax.random.key(0), 3, 5, norm="together")
    >>> params.input_size, params.hidden_size, params.gain_h
    (3, 5, None)
    """

    w_x: jax.Array
    w_h: jax.Array
    gain: jax.Array
    b: jax.Array
    gain_h: jax.Array | None = None
    b_h: jax.Array | None = None
    norm: Literal["apart", "together"] = field(default="apart", metadata={"static": True})


register(LayerNormGRUParams, static="norm", option="apart", optional=("gain_h", "b_h"))


def init_layer_norm_gru(
    key: jax.Array,
    input_size: SupportsIndex,
    hidden_size: SupportsIndex,
    *,
    norm: Literal["apart", "together"] = "apart",
    dtype: DTypeLike = jnp.float32,
) -> LayerNormGRUParams:
    """Draws the parameters of a GRU with layer normalisation.

    w_x is LeCun normal, w_h orthogonal per gate, gains are one. Biases are zero, except that with
    norm="together" the bias of z is −1, as in Dreamer: the initial network keeps most of its state.

    Args:
      key: the key is consumed.
      input_size: I, the number of features of one input.
      hidden_size: H, the number of features of the state.
      norm: "apart" or "together"; see `layer_norm_gru_step`.
      dtype: a floating dtype.

    Returns:
      A `LayerNormGRUParams` with w_x `[I, 3H]`, w_h `[H, 3H]`, and gains and biases `[3H]`.

    Raises:
      ValueError: a size below 1, an unknown `norm`, a `dtype` not floating, or no key.

    >>> import jax, gru_jax
    >>> params = gru_jax.init_layer_norm_gru(jax.random.key(0), 3, 5)
    >>> params.w_x.shape, params.gain.shape, params.gain_h.shape
    ((3, 15), (15,), (15,))
    """
    check_option("norm", norm, ("apart", "together"))
    w_x, w_h = draw_matrices(key, input_size, hidden_size, 3, dtype)
    width = w_h.shape[1]
    gain, b = jnp.ones(width, dtype), jnp.zeros(width, dtype)
    if norm == "together":
        return LayerNormGRUParams(w_x, w_h, gain, b.at[: width // 3].set(-1), norm=norm)
    gain_h, b_h = jnp.ones(width, dtype), jnp.zeros(width, dtype)
    return LayerNormGRUParams(w_x, w_h, gain, b, gain_h, b_h, norm=norm)


def layer_norm_gru_step(
    params: LayerNormGRUParams,
    h: ArrayLike,
    x: ArrayLike,
    *,
    resets: ArrayLike | None = None,
    reset_state: ArrayLike | None = None,
) -> jax.Array:
    """One step of a GRU with layer normalisation over all 3H pre-activations of the gates.

        a = gain ∘ LN(x W_x) + b,   u = gain_h ∘ LN(h W_h) + b_h             norm="apart"
        z = σ(a_z + u_z),   r = σ(a_r + u_r),   n = tanh(a_n + r ∘ u_n)

        a = gain ∘ LN(x W_x + h W_h) + b                                     norm="together"
        z = σ(a_z),   r = σ(a_r),   n = tanh(r ∘ a_n)

        h' = (1 − z) ∘ h + z ∘ n

    Source: Ba et al. 2016, "Layer Normalization". norm="apart" normalises the products of the
    input and of the state separately, as haste's `LayerNormGRU` (ε = 1e-5), whose z is 1 − ours:
    the z blocks of its gains and biases are ours negated. norm="together" normalises their sum, as
    the cell of Dreamer (Hafner et al. 2020; ε = 1e-3), whose gates are ordered r | n | z and whose
    bias of z, −1, is a constant outside b.

    The normalisation is computed in float32 or wider.

    Args:
      params: the weights.
      h: the state `[..., H]`, in the parameters' dtype or a wider one, which h' keeps.
      x: the input `[..., I]`, in the parameters' dtype.
      resets: bool `[...]`; see `gru_step`.
      reset_state: `[H]` or `[..., H]`; see `gru_step`.

    Returns:
      The next state h' `[..., H]`.

    Raises:
      ValueError: an argument of the wrong shape or dtype, or parameters that do not fit
        their `norm`.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_layer_norm_gru(jax.random.key(0), 3, 5)
    >>> gru_jax.layer_norm_gru_step(params, gru_jax.zero_state(params), jnp.ones(3)).shape
    (5,)
    """
    vectors = dict.fromkeys(("gain", "b", "gain_h", "b_h"), 3)
    params = check_params(params, LayerNormGRUParams, 3, vectors)
    h, x = check_step(params, h, x)
    check_option("params.norm", params.norm, ("apart", "together"))
    for name in vectors:
        wanted = params.norm == "apart" or not name.endswith("_h")
        if (getattr(params, name) is not None) != wanted:
            raise ValueError(
                f"params.{name} is {kind(getattr(params, name))}, but must be "
                f'{"an array (3H,)" if wanted else "None"} with norm="{params.norm}".'
            )
    h = restarted(h, resets, reset_state)
    wide = at_least_float32(h.dtype)  # float16 overflows in the squares
    a, u = product(x, params.w_x, wide), product(h, params.w_h, wide)
    if params.norm == "apart":
        a_z, a_r, a_n = _normalised(a, params.gain, params.b, 1e-5, h.dtype)
        u_z, u_r, u_n = _normalised(u, params.gain_h, params.b_h, 1e-5, h.dtype)
        z, r = jax.nn.sigmoid(a_z + u_z), jax.nn.sigmoid(a_r + u_r)
        n = jnp.tanh(a_n + r * u_n)
    else:
        a_z, a_r, a_n = _normalised(a + u, params.gain, params.b, 1e-3, h.dtype)
        z, r = jax.nn.sigmoid(a_z), jax.nn.sigmoid(a_r)
        n = jnp.tanh(r * a_n)
    return (1 - z) * h + z * n


def _normalised(
    a: jax.Array,
    gain: jax.Array | None,
    b: jax.Array | None,
    epsilon: float,
    dtype: DTypeLike,
) -> list[jax.Array]:
    """The three gates' shares of `a`, normalised together, in `dtype`."""
    # The variance as the mean square of the deviations: the mean square less the squared mean,
    # which jax.nn.standardize takes by default, cancels where the mean is large.
    a = a - jnp.mean(a, axis=-1, keepdims=True)
    normal = a * jax.lax.rsqrt(jnp.mean(a * a, axis=-1, keepdims=True) + epsilon)
    return jnp.split(biased(scaled(normal, gain), b).astype(dtype), 3, axis=-1)
