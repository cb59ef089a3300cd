"""The GRU's kernels for NVIDIA GPUs of the Hopper generation: what they take, and how.

The kernels themselves are in `gpu_loops`, with what they share in `gpu_block`. Products of float32
round their operands to TF32, as XLA's do by default. Compiled for H100, and simulated, but not run
on one.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas import mosaic_gpu as plgpu
from jax.typing import DTypeLike

from .._checks import is_symbolic
from .._ops import biased, product
from . import accelerators, kernels, scan
from .gpu_block import sizes
from .gpu_loops import Backward, Forward, Known, backward, forward
from .gru import GRU, Gates, Slots, Terms
from .interface import (
    Cell,
    Implementation,
    Inputs,
    PerGate,
    Point,
    Products,
    Unsupported,
    Weights,
)
from .kernels import Dots
from .options import Constants, Options

TF32 = None, "default", "fastest", "bfloat16", "bfloat16_3x", "tensorfloat32", "high"
"""The values of `jax.default_matmul_precision` at which XLA, too, rounds float32 to TF32."""


def implementation(*, make: Callable[..., Any]) -> Implementation:
    """The implementation by these kernels.

    Args:
      make: `plgpu.kernel`, or what makes a kernel for a simulator of its arguments.
    """
    states, transposed = partial(_states, make), partial(_transposed, make)
    by_kernels = kernels.implementation(kernels.Kernels(_check, states, transposed))

    def tangents(cell: Cell, options: Options, *args: Any) -> tuple[Any, Any]:
        return by_kernels.tangents(_lazy(options) if cell == GRU else cell, options, *args)

    return by_kernels._replace(tangents=tangents)


@cache
def _lazy(options: Options) -> Cell:
    """The GRU with `Known` for factors, from which each step of the linear recurrence makes them.

    A kernel does so in registers, where arrays of factors would be written and read again.
    """

    def slots(products: Products, params: Any) -> Any:
        del products
        return GRU.slots(_PER_GATE, params)

    def coefficients(products: Products, at: Point, along: Any, options: Options) -> Any:
        del products
        _, terms = GRU.coefficients(_PER_GATE, at, along, options)
        z, r, n, u = at.gates
        return Known(at.before, z, r, n, u, at.inputs.mask), terms

    def linear_step(products: Products, prepared: Any, constants: Constants) -> Any:
        weights, nothing = Weights(None, constants), Slots(None, [None] * 2, [None] * 3, None)
        nowhere: Any = None  # the inputs and their tangent, of which the factors do not depend

        def step(h_dot: Any, here: Any) -> Any:
            (h, z, r, n, u, mask), terms = here
            at = Point(weights, h, Gates(z, r, n, u), Inputs(nowhere, mask, None))
            factors, _ = GRU.coefficients(products, at, (nothing, nowhere), options)
            return GRU.linear_step(products, prepared, constants)(h_dot, (factors, terms))

        return step

    return GRU._replace(slots=slots, coefficients=coefficients, linear_step=linear_step)


def _gates(x: jax.Array, w: jax.Array, gates: int, dtype: DTypeLike) -> PerGate:
    per_gate = accelerators.PRODUCTS
    return per_gate.slotted(x, per_gate.slots(w, gates), dtype)


_PER_GATE = accelerators.PRODUCTS._replace(
    gates=_gates, weighted=scan.APART.weighted, beside=scan.APART.beside
)


def _check(cell: Cell, options: Options, weights: Weights, h0: Any, inputs: Inputs) -> None:
    if jax.__version_info__ < (0, 11):
        raise Unsupported(f"JAX {jax.__version__}: install 0.11 or newer")
    found = {device.compute_capability for device in _devices()}
    if not all(capability.startswith("9.") for capability in found):
        raise Unsupported(f"compute capability {', '.join(sorted(found))}: it needs Hopper's 9.0")
    if cell not in (GRU, _lazy(options)):
        raise Unsupported("cells other than the GRU")
    if any(map(is_symbolic, inputs.xs.shape)):
        raise Unsupported("a dimension variable of jax.export")
    (hidden, _), dtype = weights.params.w_h.shape, weights.params.w_h.dtype
    if (dtype, h0.dtype) not in _DTYPES:
        raise Unsupported(f"{dtype} weights with a {h0.dtype} state")
    precision = jax.config.values["jax_default_matmul_precision"]
    if dtype == jnp.float32 and precision not in TF32:
        raise Unsupported(f"float32 at precision {precision!r}, because it rounds to TF32")
    if not sizes(1, hidden, dtype, operands=3).rows:
        raise Unsupported(f"H = {hidden} in {dtype}: shared memory does not hold the weights")


def _devices() -> list[Any]:
    """The GPUs of this process; none where programs are only compiled for one."""
    try:
        return jax.devices("cuda")
    except RuntimeError:
        return []


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
    (prepared, scale), (resets, known), (shapes, (last, hs)) = weights, steps, dots
    h, mask, known = shapes.h, known.mask, known._replace(mask=None)
    by_unit = mask is not None and mask.ndim == known.h.ndim
    known = jax.tree.map(lambda x: _merged(x, 1, 1), known)
    arrays = Backward(
        known=known._replace(mask=_merged(mask, 1, int(by_unit))),
        w_h=jnp.concatenate(prepared, axis=1),
        last=_merged(jnp.zeros(h.shape, h.dtype) if last is None else last, 0, 1),
        states=_merged(hs, 1, 1),
        resets=_merged(resets, 1, 0),
        scale=_merged(scale, 0, 1),
    )
    results = backward(make, arrays, reverse=options.reverse, zoneout=options.zoneout)
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
