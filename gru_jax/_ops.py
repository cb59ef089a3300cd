"""Products and biases of every cell, in plain JAX."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def at_least_float32(dtype: DTypeLike) -> DTypeLike:
    """The dtype itself if it is floating and as wide as float32, otherwise float32."""
    wide = jnp.issubdtype(dtype, jnp.floating) and jnp.dtype(dtype).itemsize >= 4
    return dtype if wide else jnp.float32


def product(x: jax.Array, w: jax.Array, dtype: DTypeLike) -> jax.Array:
    """The product x w, taken in w's dtype and accumulated in `dtype`."""
    x = x.astype(w.dtype)
    if not in_halves(x, w):
        return jnp.matmul(x, w, preferred_element_type=dtype)
    rows = x.shape[:-1]
    x, w = x.reshape(2, 1, -1), w.reshape(2, -1, w.shape[1])
    halves = jax.lax.dot_general(x, w, (((2,), (1,)), ((0,), (0,))), preferred_element_type=dtype)
    return jnp.sum(halves, axis=0).reshape(*rows, -1)


def in_halves(x: jax.Array, w: jax.Array) -> bool:
    """Whether the product of x `[..., K]` and a matrix is better taken as a batch of two products.

    So it is for a single row and a large matrix: XLA on CPU gives the two to two cores, which need
    half of the matrix in their cache each, and takes a single one on one core. A row without a
    batch axis does not count, for it may be one of many under `jax.vmap`.
    """
    rows = x.shape[:-1]
    single = len(rows) > 0 and all(isinstance(n, int) and n == 1 for n in rows)
    return single and w.size >= 2**16 and all(size % 2 == 0 for size in w.shape)


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
