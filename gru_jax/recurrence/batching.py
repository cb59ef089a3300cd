"""`jax.vmap` of a recurrence, its derivative and their transposes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from . import platforms
from .flat import D_WEIGHTS, WEIGHTS, Flat, Kind, merged, some

Bind = Callable[[Flat, Sequence[Any], Sequence[Kind], Sequence[Kind]], Sequence[Any]]
"""Calls a function with arguments, their kinds and those of the results as one primitive."""


def mapped_call(
    bind: Bind,
    flat: Flat,
    arguments: tuple[Sequence[Any], Sequence[int | None]],
    kinds: Sequence[Kind],
    out_kinds: Sequence[Kind],
) -> tuple[Sequence[Any], Sequence[int]]:
    """The batching rule: a mapped axis becomes a batch axis, or one of models.

    Args:
      bind: calls the primitive.
      flat: what it calls.
      arguments: the arguments, and their mapped axes.
      kinds: of the arguments.
      out_kinds: of the results.

    Returns:
      The results, and their mapped axes.
    """
    leaves, dims = arguments
    mapped = [dim is not None for dim in dims]
    values, places = some(leaves, mapped), tuple(some(dims, mapped))
    here = set(some(kinds, mapped))
    (size,) = {value.shape[place] for value, place in zip(values, places, strict=True)}
    out_dims = [kind.axis or 0 for kind in out_kinds]
    if WEIGHTS in here:
        first = [jnp.moveaxis(*each, 0) for each in zip(values, places, strict=True)]

        def one_by_one(*values: Any) -> Sequence[Any]:
            def of_one(values: Any) -> Sequence[Any]:
                return bind(flat, merged(leaves, mapped, values), kinds, out_kinds)

            results: Sequence[Any] = jax.lax.map(of_one, values)
            return results

        shapes = [
            leaf.shape[1:] if m else leaf.shape
            for leaf, m in zip(merged(leaves, mapped, first), mapped, strict=True)
        ]
        work = _work(shapes, kinds)
        at_once = jax.vmap(flat.many(size).of(leaves, mapped))
        results = platforms.of_models((one_by_one, at_once), flat.options, first, work)
        return results, [0] * len(out_kinds)
    only_linear = all(kind.linear for kind in here)
    by_kernel = flat.is_transpose and flat.compiled is not None
    if only_linear or D_WEIGHTS in here or (flat.is_transpose and not by_kernel):
        f = (flat if by_kernel or not only_linear else flat.as_compiled()).many(size)
        f_of = f.of(leaves, mapped)
        return jax.vmap(f_of, in_axes=places, out_axes=out_dims)(*values), out_dims
    leaves = [_placed(*each, size) for each in zip(leaves, dims, kinds, strict=True)]
    if by_kernel:
        f, linear, avals, nonzero = flat.static
        avals = tuple(
            jax.eval_shape(partial(_placed, dim=None, kind=kind, size=size), aval)
            for kind, aval in zip(out_kinds, avals, strict=True)
        )
        flat = replace(flat, static=(f, linear, avals, nonzero))
    return bind(flat, leaves, kinds, out_kinds), out_dims


def _work(shapes: Sequence[tuple[int, ...]], kinds: Sequence[Kind]) -> Any:
    """The multiplications of one model in one step, from the shapes of its arrays."""
    matrices = [
        math.prod(shape) for shape, kind in zip(shapes, kinds, strict=True) if kind == WEIGHTS
    ]
    rows = next(shape for shape, kind in zip(shapes, kinds, strict=True) if kind.axis == 0)
    return sum(matrices) * math.prod(rows[:-1])


def _placed(x: jax.Array, dim: int | None, kind: Kind, size: int) -> jax.Array:
    """The array with its mapped axis, or one of this size, as a batch axis."""
    if kind.axis is None:
        return x
    if dim is not None:
        return jnp.moveaxis(x, dim, kind.axis)
    x = jnp.expand_dims(x, kind.axis)
    return jnp.broadcast_to(x, (*x.shape[: kind.axis], size, *x.shape[kind.axis + 1 :]))
