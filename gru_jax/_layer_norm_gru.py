"""The GRU with layer normalisation, in the two forms that are in use."""

from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ._cell import biased, product
from ._cells import checked, draw_matrices
from ._checks import check_option


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
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
        return self.w_x.shape[0]

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.w_h.shape[0]


def init_layer_norm_gru(
    key: jax.Array,
    input_size: int,
    hidden_size: int,
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
    ones, zeros = jnp.ones(3 * hidden_size, dtype), jnp.zeros(3 * hidden_size, dtype)
    if norm == "apart":
        return LayerNormGRUParams(w_x, w_h, ones, zeros, ones, zeros, norm=norm)
    return LayerNormGRUParams(w_x, w_h, ones, zeros.at[:hidden_size].set(-1), norm=norm)


def layer_norm_gru_step(params: LayerNormGRUParams, h: jax.Array, x: jax.Array) -> jax.Array:
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

    Raises:
      ValueError: an argument of the wrong shape or dtype.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_layer_norm_gru(jax.random.key(0), 3, 5)
    >>> gru_jax.layer_norm_gru_step(params, gru_jax.zero_state(params), jnp.ones(3)).shape
    (5,)
    """
    check_option("params.norm", params.norm, ("apart", "together"))
    h, x = checked(params, h, x, 3)
    a, u = product(x, params.w_x, h.dtype), product(h, params.w_h, h.dtype)
    if params.norm == "apart":
        a_z, a_r, a_n = _normalised(a, params.gain, params.b, 1e-5)
        u_z, u_r, u_n = _normalised(u, params.gain_h, params.b_h, 1e-5)
        z, r = jax.nn.sigmoid(a_z + u_z), jax.nn.sigmoid(a_r + u_r)
        n = jnp.tanh(a_n + r * u_n)
    else:
        a_z, a_r, a_n = _normalised(a + u, params.gain, params.b, 1e-3)
        z, r = jax.nn.sigmoid(a_z), jax.nn.sigmoid(a_r)
        n = jnp.tanh(r * a_n)
    return (1 - z) * h + z * n


def _normalised(
    a: jax.Array, gain: jax.Array | None, b: jax.Array | None, epsilon: float
) -> list[jax.Array]:
    """The three gates' shares of `a`, normalised together."""
    scale = jnp.ones_like(a) if gain is None else jnp.broadcast_to(gain.astype(a.dtype), a.shape)
    normal = jax.nn.standardize(a, axis=-1, epsilon=epsilon)
    return jnp.split(biased(normal * scale, b), 3, axis=-1)
