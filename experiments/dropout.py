"""Dropout, for the experiments' own layers; stacks have theirs."""

import jax
import jax.numpy as jnp


def drop(key: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    """Dropout: zeros at the given rate, the rest scaled so that the mean stays."""
    if not 0 <= rate < 1:  # at 1 the gradient would be 0 / 0
        raise ValueError(f"rate is {rate}, but must be in [0, 1).")
    if rate == 0:
        return x
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)
