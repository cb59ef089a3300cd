"""Masks from lengths, and resets for the backward direction."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ._checks import as_array, check_size, is_symbolic, kind


def backward_resets(mask: jax.Array | None, resets: jax.Array) -> jax.Array:
    """The resets for running backwards over the same episodes.

    A step needs one where the next unmasked step has one. An episode's number grows with each
    reset, so that the next unmasked step's is the smallest of the unmasked ones to come.
    """
    episodes = jnp.cumsum(resets, axis=0, dtype=jnp.int32)
    none = jnp.full_like(episodes, np.iinfo(np.int32).max)  # more than there can be
    seen = episodes if mask is None else jnp.where(mask, episodes, none)
    least = jax.lax.cummin(seen, axis=0, reverse=True)
    later = jnp.concatenate([least[1:], none[:1]])
    return (later > episodes) & (later < none)


def sequence_mask(lengths: ArrayLike | Sequence[Any], max_length: Any) -> jax.Array:
    """The mask of right-padded sequences: True at t where t < length.

    Args:
      lengths: integers `[...]` of any integer dtype. A length above `max_length` counts as
        `max_length`.
      max_length: T, the number of steps, a Python integer.

    Returns:
      bool `[T, ...]`, time-major, as `unroll` takes it.

    Raises:
      ValueError: `lengths` not integers or negative, or `max_length` negative. Traced lengths
        below 0 count as 0.

    >>> import gru_jax
    >>> gru_jax.sequence_mask([2, 0, 3], 3).astype(int)
    Array([[1, 0, 1],
           [1, 0, 1],
           [0, 0, 1]], dtype=int32)
    """
    if not is_symbolic(max_length):
        max_length = check_size("max_length", max_length, least=0)
    if not isinstance(lengths, jax.Array):
        lengths = _from_numpy(lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"lengths is {lengths.dtype}, but must be integers.")
    known = not isinstance(lengths, jax.core.Tracer) and lengths.is_fully_addressable
    if known and np.any(np.asarray(lengths) < 0):
        raise ValueError(f"lengths has {np.asarray(lengths).min()}, but lengths are at least 0.")
    if lengths.dtype.itemsize < 4:  # cannot count to every T
        lengths = lengths.astype(jnp.int32)
    steps = jax.lax.broadcasted_iota(lengths.dtype, (max_length, *lengths.shape), 0)
    return steps < lengths[None]


def _from_numpy(lengths: Any) -> jax.Array:
    """NumPy's, or Python's, integers as JAX's int32; without x64 wider ones would wrap."""
    try:
        array = np.asarray(lengths)
    except (TypeError, ValueError):  # ragged
        array = np.asarray(None)
    if array.dtype.kind in "OSU":
        raise ValueError(f"lengths is {kind(lengths)}, but must be integers, one for each row.")
    if array.dtype.kind in "iu" and array.dtype.itemsize >= 4:
        most = array.dtype.type(np.iinfo(np.int32).max)
        array = np.clip(array, None if array.dtype.kind == "u" else -1, most).astype(np.int32)
    return as_array("lengths", array)
