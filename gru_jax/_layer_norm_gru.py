"""The GRU with layer normalisation, in the two forms that are in use."""

from dataclasses import dataclass, field
from typing import Any, Literal, SupportsIndex

import jax
import jax.numpy as jnp
from jax.tree_util import GetAttrKey
from jax.typing import ArrayLike, DTypeLike

from ._cells import checked
from ._checks import check_option, kind
from ._initializers import draw_matrices
from ._ops import at_least_float32, biased, product, scaled
from ._scan import restarted


@dataclass(frozen=True, eq=False)
class LayerNormGRUParams:
    """The weights of a GRU with layer normalisation, gates `z | r | n`; see `layer_norm_gru_step`.

    w_x `[I, 3H]`, w_h `[H, 3H]`, gain `[3H]`, b `[3H]`; gain_h and b_h `[3H]` with norm="apart",
    None with norm="together".
    """

    w_x: jax.Array
    w_h: jax.Array
    gain: jax.Array
    b: jax.Array
    gain_h: jax.Array | None = None
    b_h: jax.Array | None = None
    norm: Literal["apart", "together"] = field(default="apart", metadata={"static": True})

    @property
    def input_size(self) -> int:
        """I."""
        return self.w_x.shape[-2]

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.w_h.shape[-2]


_NAMES = "w_x", "w_h", "gain", "b", "gain_h", "b_h"


def _children(params: LayerNormGRUParams) -> tuple[list[tuple[GetAttrKey, Any]], Any]:
    # Only norm="apart" has children gain_h and b_h: a checkpoint of the one does not fit the other.
    apart = params.norm == "apart" or params.gain_h is not None or params.b_h is not None
    names = _NAMES if apart else _NAMES[:4]
    return [(GetAttrKey(name), getattr(params, name)) for name in names], params.norm


jax.tree_util.register_pytree_with_keys(
    LayerNormGRUParams,
    _children,
    lambda norm, children: LayerNormGRUParams(
        **dict(zip(_NAMES, children, strict=False)), norm=norm
    ),
)


def init_layer_norm_gru(
    key: jax.Array,
    input_size: SupportsIndex,
    hidden_size: SupportsIndex,
    *,
    norm: Literal["apart", "together"] = "apart",
    dtype: DTypeLike = jnp.float32,
) -> LayerNormGRUParams:
    """Draws a GRU with layer normalisation: matrices as `init_mgu`, gains one, biases zero.

    With norm="together" the bias of z is −1, as in Dreamer, so that states are kept at first.
    The key is consumed.

    >>> import jax, gru_jax
    >>> gru_jax.init_layer_norm_gru(jax.random.key(0), 3, 5).gain.shape
    (15,)
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
    """One step of a GRU with layer normalisation (Ba et al. 2016) over all 3H numbers at once.

        a = gain ∘ LN(x W_x) + b,   u = gain_h ∘ LN(h W_h) + b_h             norm="apart"
        z = σ(a_z + u_z),   r = σ(a_r + u_r),   n = tanh(a_n + r ∘ u_n)

        a = gain ∘ LN(x W_x + h W_h) + b                                     norm="together"
        z = σ(a_z),   r = σ(a_r),   n = tanh(r ∘ a_n)

        h' = (1 − z) ∘ h + z ∘ n

    "apart" is haste's `LayerNormGRU` (ε = 1e-5), whose z is 1 − ours: the z blocks of its gains
    and biases are ours negated. "together" is the cell of Dreamer (Hafner et al. 2020 and after;
    ε = 1e-3), whose gates come in the order r | n | z and whose bias of z, −1, is added apart from
    b. h is `[..., H]`, x `[..., I]`.

    The normalisation, and what is normalised, is computed in float32 at least. `resets` and
    `reset_state` are those of `gru_step`.

    Raises:
      ValueError: an argument of the wrong shape or dtype.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_layer_norm_gru(jax.random.key(0), 3, 5)
    >>> gru_jax.layer_norm_gru_step(params, gru_jax.zero_state(params), jnp.ones(3)).shape
    (5,)
    """
    vectors = dict.fromkeys(("gain", "b", "gain_h", "b_h"), 3)
    params, h, x = checked(params, LayerNormGRUParams, 3, h, x, vectors)
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
