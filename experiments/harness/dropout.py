"""Dropout, for the experiments' own layers; those of a `GRUStack` have theirs."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def dropout(
    key: jax.Array | None, x: jax.Array, rate: float, *, broadcast_dims: Sequence[int] = ()
) -> jax.Array:
    """Zeros at the given rate, the rest scaled so that the mean stays (Srivastava et al. 2014).

    Args:
      key: the key is consumed; None, for evaluation, drops nothing.
      x: any array.
      rate: in [0, 1).
      broadcast_dims: axes along which all share one draw, such as that of time.

    Raises:
      ValueError: the rate is outside [0, 1).
    """
    if not 0 <= rate < 1:  # at 1 the gradient would be 0 / 0
        raise ValueError(f"rate is {rate}, but must be in [0, 1).")
    if key is None or rate == 0:
        return x
    shape = [1 if axis in broadcast_dims else size for axis, size in enumerate(x.shape)]
    kept = jnp.broadcast_to(jax.random.bernoulli(key, 1 - rate, shape), x.shape)
    return jnp.where(kept, x / (1 - rate), 0)
