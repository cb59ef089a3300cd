"""The GRU's kernels for NVIDIA GPUs as an implementation: what they take, and how."""

from typing import Any

import jax
import jax.numpy as jnp

from .._checks import is_symbolic
from .._ops import biased, product
from . import kernels, scan
from .gpu_block import sizes
from .gpu_loops import Backward, Forward, backward, forward
from .gru import GRU, Gates, Terms
from .interface import Cell, Inputs, Unsupported, Weights
from .kernels import Dots
from .options import Options

TF32 = None, "default", "fastest", "bfloat16", "bfloat16_3x", "tensorfloat32", "high"
"""The values of `jax.default_matmul_precision` at which XLA, too, rounds float32 to TF32."""


def check(cell: Cell, options: Options, weights: Weights, h0: Any, inputs: Inputs) -> None:
    """Raises `Unsupported`, with what the kernels do not take."""
    del options
    if jax.__version_info__ < (0, 11):
        raise Unsupported(f"JAX {jax.__version__}: it needs JAX 0.11")
    if cell != GRU:
        raise Unsupported("this cell")
    if any(map(is_symbolic, inputs.xs.shape)):
        raise Unsupported("a dimension variable of jax.export")
    (hidden, _), dtype = weights.params.w_h.shape, weights.params.w_h.dtype
    if (dtype, h0.dtype) not in _DTYPES:
        raise Unsupported(f"{dtype} weights with a {h0.dtype} state")
    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    if dtype == jnp.float32 and precision not in TF32:
        raise Unsupported(f"float32 at precision {precision!r}: it rounds to TF32")
    if not sizes(1, hidden, dtype, operands=3).rows:
        raise Unsupported(f"H = {hidden} with {dtype} weights: they exceed shared memory")


_FLOAT32, _BFLOAT16 = jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16)
_DTYPES = {(_FLOAT32, _FLOAT32), (_BFLOAT16, _FLOAT32), (_BFLOAT16, _BFLOAT16)}


def states(
    cell: Cell, options: Options, weights: Weights, h0: Any, inputs: Inputs
) -> tuple[Any, tuple[Any, Any]]:
    """The recurrence of the states; see `kernels.Kernels`."""
    (params, constants), (xs, mask, resets) = weights, inputs
    if 0 in xs.shape[:-1]:
        return scan.SCAN.states(cell, options, weights, h0, inputs)
    mask_axes = 0 if mask is None else 1 + mask.ndim - (xs.ndim - 1)  # after those of the batch
    arrays = Forward(
        x=_merged(biased(product(xs, params.w_x, h0.dtype), params.b), 1, 1),
        w_h=params.w_h,
        b_hn=params.b_hn,
        h0=_merged(h0, 0, 1),
        mask=_merged(mask, 1, mask_axes - 1),
        resets=_merged(resets, 1, 0),
        reset_state=_merged(_like(constants.reset_state, h0), 0, 1),
        scale=_merged(constants.scale, 0, 1),
    )
    hs, *gates = forward(
        arrays,
        after=params.reset == "after",
        gates=options.save == "gates",
        reverse=options.reverse,
        zoneout=options.zoneout,
    )
    hs, *gates = (each.reshape(-1, *h0.shape) for each in (hs, *gates))
    named = Gates(*gates, *[None] * (4 - len(gates))) if gates else None
    return scan.last(options, h0, hs), (hs, named)


def transposed(
    cell: Cell, options: Options, weights: Any, steps: Any, shapes: Dots, cotangents: Any
) -> Dots:
    """The transpose of the linear recurrence; see `kernels.Kernels`."""
    del cell
    (prepared, scale), (resets, factors), (last, hs) = weights, steps, cotangents
    keep, after, h = factors.keep, len(prepared) == 1, shapes.h
    last = jnp.zeros(h.shape, h.dtype) if last is None else last
    if 0 in keep.shape[:-1]:
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return zeros._replace(h=last)
    arrays = Backward(
        keep=_merged(keep, 1, 1),
        factors=tuple(_merged(factor, 1, 1) for factor in factors.to_gates),
        w_h=jnp.concatenate(prepared, axis=1),
        last=_merged(last, 0, 1),
        states=_merged(hs, 1, 1),
        resets=_merged(resets, 1, 0),
        scale=_merged(scale, 0, 1),
    )
    results = backward(arrays, after=after, reverse=options.reverse)
    wanted = Dots(results.first, results.fresh, Terms(results.h, results.m))
    return jax.tree.map(
        lambda shape, x: None if shape is None else x.reshape(shape.shape),
        shapes,
        wanted,
        is_leaf=lambda leaf: leaf is None,
    )


def _merged(x: jax.Array | None, before: int, after: int) -> Any:
    """The batch axes, which are not the first or last ones, as one; None of None."""
    if x is None:
        return None
    return x.reshape(*x.shape[:before], -1, *x.shape[x.ndim - after :])


def _like(x: jax.Array | None, h: jax.Array) -> jax.Array | None:
    return None if x is None else jnp.broadcast_to(x, h.shape)


IMPLEMENTATION = kernels.implementation(kernels.Kernels(check, states, transposed))
