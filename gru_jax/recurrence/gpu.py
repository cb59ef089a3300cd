"""The GRU's kernels for NVIDIA GPUs of the Hopper generation: what they take, and how.

The kernels themselves are in `gpu_loops`, with what they share in `gpu_block`. Products of float32
round their operands to TF32, as XLA's do by default. Compiled for H100, and simulated, but not run
on one.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas import mosaic_gpu as plgpu

from .._checks import is_symbolic
from .._ops import biased, product
from . import kernels, scan
from .gpu_block import sizes
from .gpu_loops import Backward, Forward, backward, forward
from .gru import GRU, Gates, Terms
from .interface import Cell, Implementation, Inputs, Unsupported, Weights
from .kernels import Dots
from .options import Options

TF32 = None, "default", "fastest", "bfloat16", "bfloat16_3x", "tensorfloat32", "high"
"""The values of `jax.default_matmul_precision` at which XLA, too, rounds float32 to TF32."""


def implementation(*, make: Callable[..., Any]) -> Implementation:
    """The implementation by these kernels.

    Args:
      make: `plgpu.kernel`, or what makes a kernel for a simulator of its arguments.
    """
    states, transposed = partial(_states, make), partial(_transposed, make)
    return kernels.implementation(kernels.Kernels(_check, states, transposed))


def _check(cell: Cell, options: Options, weights: Weights, h0: Any, inputs: Inputs) -> None:
    del options
    if jax.__version_info__ < (0, 11):
        raise Unsupported(f"JAX {jax.__version__}: install 0.11 or newer")
    if cell != GRU:
        raise Unsupported("cells other than the GRU")
    if any(map(is_symbolic, inputs.xs.shape)):
        raise Unsupported("a dimension variable of jax.export")
    (hidden, _), dtype = weights.params.w_h.shape, weights.params.w_h.dtype
    if (dtype, h0.dtype) not in _DTYPES:
        raise Unsupported(f"{dtype} weights with a {h0.dtype} state")
    precision = jax.config.jax_default_matmul_precision
    if dtype == jnp.float32 and precision not in TF32:
        raise Unsupported(f"float32 at precision {precision!r}, because it rounds to TF32")
    if not sizes(1, hidden, dtype, operands=3).rows:
        raise Unsupported(f"H = {hidden} in {dtype}: shared memory does not hold the weights")


_FLOAT32, _BFLOAT16 = jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16)
_DTYPES = {(_FLOAT32, _FLOAT32), (_BFLOAT16, _FLOAT32), (_BFLOAT16, _BFLOAT16)}


def _states(
    make: Callable[..., Any], cell: Cell, options: Options, weights: Weights, h0: Any, inputs: Any
) -> tuple[Any, tuple[Any, Any]]:
    del cell
    (params, constants), (xs, mask, resets) = weights, inputs
    fresh, by_unit = constants.reset_state, mask is not None and mask.ndim == xs.ndim
    arrays = Forward(
        x=_merged(biased(product(xs, params.w_x, h0.dtype), params.b), 1, 1),
        w_h=params.w_h,
        b_hn=params.b_hn,
        h0=_merged(h0, 0, 1),
        mask=_merged(mask, 1, int(by_unit)),
        resets=_merged(resets, 1, 0),
        reset_state=None if fresh is None else _merged(jnp.broadcast_to(fresh, h0.shape), 0, 1),
        scale=_merged(constants.scale, 0, 1),
    )
    hs, *gates = forward(
        make,
        arrays,
        after=params.reset == "after",
        gates=options.save == "gates",
        reverse=options.reverse,
        zoneout=options.zoneout,
    )
    hs, *gates = (each.reshape(-1, *h0.shape) for each in (hs, *gates))
    named = Gates(*gates, *[None] * (4 - len(gates))) if gates else None
    return scan.last(options, h0, hs), (hs, named)


def _transposed(
    make: Callable[..., Any], cell: Cell, options: Options, weights: Any, steps: Any, *dots: Any
) -> Dots:
    del cell
    (prepared, scale), (resets, factors), (shapes, (last, hs)) = weights, steps, dots
    h = shapes.h
    arrays = Backward(
        keep=_merged(factors.keep, 1, 1),
        factors=tuple(_merged(factor, 1, 1) for factor in factors.to_gates),
        w_h=jnp.concatenate(prepared, axis=1),
        last=_merged(jnp.zeros(h.shape, h.dtype) if last is None else last, 0, 1),
        states=_merged(hs, 1, 1),
        resets=_merged(resets, 1, 0),
        scale=_merged(scale, 0, 1),
    )
    results = backward(make, arrays, after=len(prepared) == 1, reverse=options.reverse)
    return jax.tree.map(  # type: ignore[no-any-return]
        lambda shape, x: None if shape is None else x.reshape(shape.shape),
        shapes,
        Dots(results.first, results.fresh, Terms(results.h, results.m)),
        is_leaf=lambda leaf: leaf is None,
    )


def _merged(x: jax.Array | None, before: int, after: int) -> Any:
    """The batch axes, which are neither the first nor the last ones, as one; None of None."""
    if x is None:
        return None
    return x.reshape(*x.shape[:before], -1, *x.shape[x.ndim - after :])


IMPLEMENTATION = implementation(make=plgpu.kernel)
