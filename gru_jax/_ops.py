"""Products, biases and scales, in plain JAX."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def at_least_float32(dtype: DTypeLike) -> DTypeLike:
    """The dtype itself if it is floating and as wide as float32, otherwise float32."""
    wide = jnp.issubdtype(dtype, jnp.floating) and jnp.dtype(dtype).itemsize >= 4
    return dtype if wide else jnp.float32


def product(x: jax.Array, w: jax.Array, dtype: DTypeLike) -> jax.Array:
    """The product x w, computed in w's dtype and accumulated in `dtype`."""
    return jnp.matmul(x.astype(w.dtype), w, preferred_element_type=dtype)


def product_of_columns(x: jax.Array, w: jax.Array, columns: slice, dtype: DTypeLike) -> jax.Array:
    """The product of x and these columns of w, as `product`.

    A single row is multiplied with all columns: XLA copies a part of them at every call and in
    every step of a loop, which takes longer than the product of one row with the others.
    """
    if is_single_row(x):
        return product(x, w, dtype)[..., columns]
    return product(x, w[:, columns], dtype)


def is_single_row(x: jax.Array) -> bool:
    """Whether x `[..., K]` has one row; without a batch axis it may be one of many under vmap."""
    return x.ndim > 1 and all(n == 1 for n in x.shape[:-1])


def biased(y: jax.Array, b: jax.Array | None) -> jax.Array:
    """The sum y + b of y `[..., n]` and b `[n]`, in y's dtype; y itself without a bias."""
    return y if b is None else y + spread(b.astype(y.dtype), y)


def scaled(y: jax.Array, scale: jax.Array | None) -> jax.Array:
    """The product of y `[..., n]` and a scale of its last axes, in y's dtype; y without a scale."""
    return y if scale is None else y * spread(scale.astype(y.dtype), y)


def spread(b: jax.Array, y: jax.Array) -> jax.Array:
    """Gives b leading axes of size 1, as many as y has more.

    The transpose of `jnp.broadcast_to` to y's shape gathers y's cotangent where y is sharded over
    an Explicit mesh; the transpose of this is a local sum and an all-reduce of b's size.
    """
    return jnp.expand_dims(b, tuple(range(y.ndim - b.ndim)))
