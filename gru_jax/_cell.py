"""One step of the GRU: the equations, once, in plain JAX."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from ._checks import as_array, check_input, check_state
from ._ops import biased, product, scaled
from ._params import GRUParams, check_gru
from ._scan import restarted

Projection = tuple[jax.Array, jax.Array, jax.Array]
"""The products of the input with W_xz, W_xr and W_xn, each `[..., H]`."""


class Gates(NamedTuple):
    """What one step computes on the way from h to h', each `[..., H]`."""

    z: jax.Array  # update
    r: jax.Array  # reset
    n: jax.Array  # candidate
    u: jax.Array | None  # h W_hn + b_hn, with reset="after" only


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

    The products are taken in the parameters' dtype and everything else in the state's: a float32
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
    params, h, x = check_gru(params), as_array("h", h), as_array("x", x)
    check_input("x", params, x, time_axes=0)
    check_state("h", params, h, x.shape[:-1])
    h = restarted(h, resets, reset_state)
    return mix(h, gates_of(params)(h, input_projection(params, x, h.dtype)))


def input_projection(params: GRUParams, x: jax.Array, dtype: DTypeLike) -> Projection:
    """The part of a step that does not depend on the state.

    One product per gate instead of one `[I, 3H]` product that is sliced afterwards: XLA on CPU
    does not vectorise a loop body that slices the gates out of a stacked array.
    """
    w_z, w_r, w_n = jnp.split(params.w_x, 3, axis=1)
    return product(x, w_z, dtype), product(x, w_r, dtype), product(x, w_n, dtype)


def gates_of(
    params: GRUParams, scale: jax.Array | None = None
) -> Callable[[jax.Array, Projection], Gates]:
    """The rest of a step up to the gates, as a function of the state and the input's projection.

    The state is multiplied by `scale` `[..., H]` where it enters the products.

    The weights are split here, once: inside a loop XLA would not always move that out of it.
    The products with the state are one for all gates, which gains more than the slices out of it
    cost. The biases are added in the loop, where they are part of a pass that is made anyway.
    """
    b_z, b_r, b_n = (None,) * 3 if params.b is None else jnp.split(params.b, 3)

    def before(h: jax.Array, projection: Projection) -> Gates:
        x_z, x_r, x_n = projection
        h = scaled(h, scale)
        u_z, u_r = jnp.split(product(h, w_zr, h.dtype), 2, axis=-1)
        z = jax.nn.sigmoid(biased(x_z + u_z, b_z))
        r = jax.nn.sigmoid(biased(x_r + u_r, b_r))
        n = jnp.tanh(biased(x_n, b_n) + product(r * h, w_n, h.dtype))
        return Gates(z, r, n, None)

    def after(h: jax.Array, projection: Projection) -> Gates:
        x_z, x_r, x_n = projection
        h = scaled(h, scale)
        u_z, u_r, u_n = jnp.split(product(h, params.w_h, h.dtype), 3, axis=-1)
        z = jax.nn.sigmoid(biased(x_z + u_z, b_z))
        r = jax.nn.sigmoid(biased(x_r + u_r, b_r))
        u = biased(u_n, params.b_hn)
        return Gates(z, r, jnp.tanh(biased(x_n, b_n) + r * u), u)

    if params.reset == "after":
        return after
    w_zr, w_n = jnp.split(params.w_h, [2 * params.hidden_size], axis=1)
    return before


def mix(h: jax.Array, gates: Gates) -> jax.Array:
    """The last line of the step: h' from h and the gates."""
    return (1 - gates.z) * h + gates.z * gates.n
