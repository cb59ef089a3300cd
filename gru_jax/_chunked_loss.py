"""A loss at every step of a long sequence, in the memory of one chunk."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp

from ._checks import (
    as_array,
    check_callable,
    check_size,
    check_time_axis,
    is_symbolic,
    kind,
)
from ._scan import check_next, detached
from ._state import vary_like
from ._trace import once
from .recurrence.chunks import chunk_length, in_chunks


def chunked_loss(
    loss: Callable[[Any, Any, Any], tuple[Any, Any]],
    params: Any,
    h0: Any,
    xs: Any,
    chunk: SupportsIndex | None = None,
) -> tuple[Any, Any]:
    """The sum of the losses of a sequence's chunks, each going on from the state of the one before.

        l_k, h_k = loss(params, h_{k-1}, xs[k C : (k + 1) C])
        sum_k l_k

    Only the states h_k are stored for the backward pass. It computes each chunk a second time, one
    after the other, and never holds more than the residuals of one: the states of the whole
    sequence, and what a loss makes of them, are never in memory at once. The gradients are those
    of the whole sequence. Source: Chen et al. 2016, "Training deep nets with sublinear memory
    cost".

    The same function under `jax.value_and_grad(loss, has_aux=True)`, chunk by chunk, is truncated
    backpropagation through time; one that calls `chunked_loss` itself nests chunks in chunks.

    Args:
      loss: any function `(params, h, xs) -> (loss, h')` of a chunk of whatever length: its loss,
        summed over the steps and not averaged, and the state after its last step. The loss may be
        a pytree of numbers or arrays, such as a sum and a count, each of which is summed. Traced
        once for calls with the same shapes, as the step of `unroll` is.
      params: passed to `loss`.
      h0: the first state, any pytree of arrays, sharded as `loss` returns it.
      xs: whatever has a time axis, a pytree of arrays `[T, ...]`: inputs, targets, masks, resets.
        T may be 0.
      chunk: C, a number of steps. If it does not divide T the last chunk is shorter, which costs a
        copy of `xs`. None for √T, or the next smaller length that divides T, down to the half.

    Returns:
      `(loss, h_last)`: the sum, and the state after the last step, as `jax.value_and_grad` with
      `has_aux=True` expects them.

    Raises:
      ValueError: `xs` without a common time axis, or with a dimension variable of `jax.export` for
        it, a `chunk` below 1, a `loss` that returns something else, or a state unlike h0.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5)
    >>> def loss(params, h, chunk):
    ...     xs, targets = chunk
    ...     h, hs = gru_jax.gru_unroll(params, h, xs)
    ...     return jnp.sum((hs - targets) ** 2), h
    >>> xs = jax.random.normal(jax.random.key(1), (1000, 2, 3))  # [T, B, I]
    >>> targets = jnp.zeros((1000, 2, 5))
    >>> h0 = gru_jax.zero_state(params, (2,))
    >>> def total(params):
    ...     return gru_jax.chunked_loss(loss, params, h0, (xs, targets))
    >>> (value, h_last), gradients = jax.value_and_grad(total, has_aux=True)(params)
    >>> h_last.shape, gradients.w_h.shape
    ((2, 5), (5, 15))
    """
    check_callable("loss", loss, "(params, h, xs) -> (loss, h')")
    xs, length = check_time_axis("xs", xs)
    if is_symbolic(length):
        raise ValueError(f"xs has T = {length} steps, but must have a number of them to be cut.")
    if not jax.tree.leaves(h0):
        raise ValueError(f"h0 is {kind(h0)}, but must be the first state, a pytree of arrays.")
    h0 = vary_like(jax.tree.map(partial(as_array, "h0"), h0), params, xs)
    if chunk is None:
        steps = chunk_length(length, max(1, math.isqrt(length)))
    else:
        steps = max(1, min(check_size("chunk", chunk), length))
    traced_once = once(loss, params)
    run = _chunked_loss_once if traced_once else _chunked_loss
    settings = traced_once or loss, steps
    result: tuple[Any, Any] = run(settings, params, h0, xs)
    return result


def _chunked_loss(settings: tuple[Any, int], params: Any, h0: Any, xs: Any) -> tuple[Any, Any]:
    loss, steps = settings

    # Without `prevent_cse`, which a scan does not need: it keeps XLA from optimising the chunk.
    @partial(jax.checkpoint, prevent_cse=False)
    def of_chunk(params: Any, h: Any, xs: Any) -> tuple[Any, Any]:
        result = loss(params, h, xs)
        if not isinstance(result, tuple) or len(result) != 2:
            raise ValueError(f"loss returned {kind(result)}, but must return (loss, h').")
        value, new = result
        check_next(h, new, "loss")
        return new, jax.tree.map(lambda each: as_array("loss", each)[None], value)

    h, values = in_chunks(partial(of_chunk, params), h0, xs, steps, reverse=False)
    return jax.tree.map(partial(jnp.sum, axis=0), values), detached(h, h0, xs)


_chunked_loss_once = jax.jit(_chunked_loss, static_argnums=0, inline=True)
