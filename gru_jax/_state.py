"""Sizes of states, zero states, and the states after a reset."""

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ._checks import as_array, check_sizes, kind
from ._ops import spread

Tree = TypeVar("Tree")


def zero_state(params: Any, batch_shape: Sequence[Any] | np.ndarray = ()) -> Any:
    """Returns the zero state `[*batch_shape, H]` in the parameters' dtype.

    Args:
      params: a `GRUParams`, the parameters of another cell, or a whole `GRUStack`, whose states
        are a tuple with one for each layer.
      batch_shape: the batch axes, a sequence of sizes.

    Returns:
      Zeros `[*batch_shape, H]`; a pytree of them for a state with several parts.

    Raises:
      ValueError: `params` without a size of its state, or a `batch_shape` that is no sequence of
        sizes.

    >>> import jax, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5)
    >>> gru_jax.zero_state(params, (2,)).shape
    (2, 5)
    """
    sizes, dtype = state_size(params), dtype_of(params)
    batch_shape = check_sizes("batch_shape", batch_shape, "such as () or (32,)")
    return jax.tree.map(lambda size: jnp.zeros((*batch_shape, size), dtype), sizes)


def zeros_for(params: Any, x: jax.Array, time_axes: int = 0) -> Any:
    """The zero state for inputs `[..., I]`, or `[T, ..., I]`, derived from them.

    Thereby it is sharded, and varies over the axes of a `shard_map`, as they do: a loop's carry
    must do so from the start.
    """
    dtype = dtype_of(params)
    batch = jnp.zeros((1,) * (x.ndim - 1 - time_axes), dtype)

    def zeros(size: int) -> jax.Array:
        return like_inputs(jnp.zeros((*batch.shape, size), dtype), x, time_axes)

    return vary_like(jax.tree.map(zeros, state_size(params)), params)


def like_inputs(h: jax.Array, x: jax.Array, time_axes: int) -> jax.Array:
    """The state `[..., H]`, sharded and varying as the inputs are, to which it is broadcast."""
    none = x[(*(slice(0) for _ in range(time_axes)), ..., slice(0))]
    zero = jnp.sum(none, axis=(*range(time_axes), x.ndim - 1))  # of nothing: exactly zero
    result: jax.Array = h + jnp.expand_dims(zero.astype(h.dtype), -1)
    return result


def vary_like(tree: Tree, *others: Any) -> Tree:
    """Makes every leaf vary over those axes of a `shard_map` over which any of the others does."""
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return tree
    zero = jnp.zeros((), jnp.float32)
    for leaf in jax.tree.leaves(others):
        if isinstance(leaf, jax.Array):
            key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            leaf = jax.random.key_data(leaf) if key else leaf
            zero += jnp.sum(jnp.ravel(leaf)[:0]).astype(jnp.float32)  # of nothing: exactly zero
    result: Tree = jax.tree.map(lambda leaf: leaf + zero.astype(leaf.dtype), tree)
    return result


def state_size(params: Any) -> Any:
    """What the state of a cell consists of: H, or a pytree of sizes where the parameters say so."""
    for name in ("state_size", "hidden_size"):
        if hasattr(params, name) and not isinstance(params, type):
            return getattr(params, name)
    raise ValueError(
        f"params is {kind(params)}, but must be the parameters of a cell, or a GRUStack, to know "
        "the size of the state: give the first state."
    )


def dtype_of(params: Any) -> Any:
    """The dtype of a cell's parameters, canonical: NumPy's float64 without x64 is float32."""
    return jax.dtypes.canonicalize_dtype(jax.tree.leaves(params)[0].dtype)


def check_reset_state(reset_state: Any, resets: jax.Array | None, h: Any) -> Any:
    """What replaces a state at a reset, each leaf with as many axes as the state's; None for zeros.

    Args:
      reset_state: None, or a pytree like `h` of arrays `[features]` or `[*batch, features]`.
      resets: None where the caller gave none.
      h: the state, a pytree of arrays `[*batch, features]`.
    """
    if reset_state is None:
        return None
    if resets is None:
        raise ValueError(
            "reset_state is given, but resets is None: there is no reset to use it at."
        )
    like: Any = jax.tree.structure(h)
    if like != jax.tree.structure(reset_state):
        raise ValueError(
            f"reset_state is {kind(reset_state)}, but must be a pytree like the state, {like}."
        )

    def checked(value: Any, h: jax.Array) -> jax.Array:
        value = as_array("reset_state", value)
        shapes = h.shape[-1:], h.shape
        if value.shape not in shapes:
            raise ValueError(
                f"reset_state has shape {value.shape}, but must have {shapes[0]} = (H,) or "
                f"{shapes[1]} = (*batch, H)."
            )
        floating = jnp.issubdtype(value.dtype, jnp.floating)
        if value.dtype != h.dtype and not (floating and value.dtype.itemsize < h.dtype.itemsize):
            raise ValueError(
                f"reset_state is {value.dtype}, but must be {h.dtype} like the state: "
                f"use reset_state.astype({h.dtype})."
            )
        return spread(value.astype(h.dtype), h)

    return jax.tree.map(checked, reset_state, h)
