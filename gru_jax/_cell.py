"""One step of the GRU: the equations, once, in plain JAX."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from ._checks import as_array, check_input, check_params, check_state
from ._params import GRUParams

Gates = tuple[jax.Array, jax.Array, jax.Array]
"""One array `[..., H]` for each of z, r, n."""


def gru_step(params: GRUParams, h: ArrayLike, x: ArrayLike) -> jax.Array:
    """One step of the GRU, from the state h and the input x to the next state h'.

        z  = σ(x W_xz + h W_hz + b_z)
        r  = σ(x W_xr + h W_hr + b_r)
        n  = tanh(x W_xn + (r ∘ h) W_hn + b_n)            reset="before"
        n  = tanh(x W_xn + b_n + r ∘ (h W_hn + b_hn))     reset="after"
        h' = (1 − z) ∘ h + z ∘ n

    Source: Cho et al. 2014, "Learning Phrase Representations using RNN Encoder–Decoder",
    equations 5–8, with z in the role of their 1 − z, as in Chung et al. 2014, equations 5–8;
    reset="after" is the form of cuDNN and PyTorch.

    The products are taken in the parameters' dtype and everything else in the state's: a float32
    state with bfloat16 parameters and inputs gives bfloat16 products accumulated in float32.

    Args:
      params: the weights.
      h: the state `[..., H]`, in the parameters' dtype or a wider one, which h' keeps.
      x: the input `[..., I]`, in the parameters' dtype.

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
    h, x = as_array("h", h), as_array("x", x)
    params = check_params(params)
    check_input("x", params, x, time_axes=0)
    check_state("h", params, h, x.shape[:-1])
    return recurrence(params, h, input_projection(params, x, h.dtype))


def input_projection(params: GRUParams, x: jax.Array, dtype: DTypeLike) -> Gates:
    """The part of each gate's argument that does not depend on the state: x W_x + b.

    One product per gate instead of one `[I, 3H]` product that is sliced afterwards: XLA on CPU
    does not vectorise a loop body that slices the gates out of a stacked array.
    """
    w_z, w_r, w_n = jnp.split(params.w_x, 3, axis=1)
    b_z, b_r, b_n = (None,) * 3 if params.b is None else jnp.split(params.b, 3)
    return (
        affine(x, w_z, b_z, dtype),
        affine(x, w_r, b_r, dtype),
        affine(x, w_n, b_n, dtype),
    )


def recurrence(params: GRUParams, h: jax.Array, projection: Gates) -> jax.Array:
    """The rest of the step: from h and the input's projection to h'."""
    w_z, w_r, w_n = jnp.split(params.w_h, 3, axis=1)
    x_z, x_r, x_n = projection
    z = jax.nn.sigmoid(x_z + affine(h, w_z, None, h.dtype))
    r = jax.nn.sigmoid(x_r + affine(h, w_r, None, h.dtype))
    if params.reset == "before":
        n = jnp.tanh(x_n + affine(r * h, w_n, None, h.dtype))
    else:
        n = jnp.tanh(x_n + r * affine(h, w_n, params.b_hn, h.dtype))
    return (1 - z) * h + z * n


def affine(x: jax.Array, w: jax.Array, b: jax.Array | None, dtype: DTypeLike) -> jax.Array:
    """The product x w + b, taken in w's dtype and accumulated in `dtype`."""
    y = jnp.matmul(x.astype(w.dtype), w, preferred_element_type=dtype)
    return y if b is None else y + jnp.broadcast_to(b.astype(dtype), y.shape)
