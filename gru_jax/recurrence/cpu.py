"""The scan tuned for XLA on CPU.

Each item of `Tuning` was measured with JAX 0.10.2 and is shown by
`python -m experiments.benchmark --preset tuning`, which switches it off.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from .._checks import is_symbolic
from .._ops import is_single_row, product
from . import scan
from .chunks import chunk_length, in_chunks
from .interface import Cell, Implementation, PerGate, Products, Unsupported
from .options import Options


class Tuning(NamedTuple):
    """Which deviations from the plain scan are made."""

    chunks: bool = True
    """Everything outside the loops in stretches that stay in a core's cache: 2^16 numbers per
    gate (256 kB in float32) in training; 2^20 for the values alone, which lose by smaller ones. A
    sequence of 2^18 numbers or fewer stays whole: there it gains nothing, and compiles longer."""
    per_gate: bool = True
    """One input projection per gate. XLA does not vectorise a loop body that slices the gates out
    of one stacked array."""
    halves: bool = True
    """The product of a single row and a large matrix as a batch of two: XLA gives the two to two
    cores, which need half of the matrix in their cache each, and takes a single one on one core."""
    transposes: bool = True
    """Weights transposed outside the loop of the tangents, behind a barrier because XLA would move
    the transpose into the products. Backwards these are then rows times a matrix as it lies in
    memory, and the weights' gradients a^T x, which XLA forms twice as fast as x^T a."""


ALL = Tuning()


def tuned(tuning: Tuning = ALL) -> Implementation:
    """The scan with all of the tuning, or some."""
    products = _products(tuning)

    def states(
        cell: Cell, options: Options, weights: Any, carry: Any, steps: Any
    ) -> tuple[Any, Any]:
        stretch = scan.states(products, cell, options, weights)
        elements = 2**20 if options.save is None else 2**16
        return run(stretch, carry, steps, elements, options)

    def tangents(
        cell: Cell, options: Options, weights: Any, carry: Any, steps: Any
    ) -> tuple[Any, Any]:
        stretch = scan.tangents(products, cell, options, weights)
        return run(stretch, carry, steps, 2**16, options)

    def run(
        stretch: scan.Stretch, carry: Any, steps: Any, elements: int, options: Options
    ) -> tuple[Any, Any]:
        h, x = jax.tree.leaves(carry)[0], jax.tree.leaves(steps)[0]
        if any(map(is_symbolic, (*h.shape, *x.shape))):
            raise Unsupported("a dimension variable of jax.export")
        length = max(8, max(16, elements // max(h.size, 1)) // options.models)
        few = options.models == 1 and h.size * x.shape[0] <= 2**18
        if not tuning.chunks or few or x.shape[0] < 3 * length:
            return stretch(carry, steps)
        return in_chunks(stretch, carry, steps, chunk_length(x.shape[0], length), options.reverse)

    return Implementation(states, tangents)


def _products(tuning: Tuning) -> Products:
    def times(x: jax.Array, w: jax.Array, dtype: DTypeLike) -> jax.Array:
        x = x.astype(w.dtype)
        if not (tuning.halves and is_single_row_and_large(x, w)):
            return product(x, w, dtype)
        x, w, rows = x.reshape(2, 1, -1), w.reshape(2, -1, w.shape[1]), x.shape[:-1]
        batched = ((2,), (1,)), ((0,), (0,))
        halves = jax.lax.dot_general(x, w, batched, preferred_element_type=dtype)
        return jnp.sum(halves, axis=0).reshape(*rows, -1)

    def gates(x: jax.Array, w: jax.Array, count: int, dtype: DTypeLike) -> PerGate:
        if not tuning.per_gate:
            return times(x, w, dtype)
        return tuple(times(x, each, dtype) for each in jnp.split(w, count, axis=1))

    if not tuning.transposes:
        return scan.PRODUCTS._replace(gates=gates, state=times, tangent=times)

    def transposed_times(x: jax.Array, w: jax.Array, dtype: DTypeLike) -> jax.Array:
        """The product x wᵀ."""
        x = x.astype(w.dtype)
        if not (tuning.halves and is_single_row_and_large(x, w)):
            contract = ((x.ndim - 1,), (1,)), ((), ())
            return jax.lax.dot_general(x, w, contract, preferred_element_type=dtype)
        rows = x.shape[:-1]
        x, w = jnp.stack([x.reshape(1, -1)] * 2), w.reshape(2, -1, x.shape[-1])
        batched = ((2,), (2,)), ((0,), (0,))
        halves = jax.lax.dot_general(x, w, batched, preferred_element_type=dtype)
        return halves.reshape(*rows, -1)

    def slots(w: jax.Array, count: int) -> PerGate:
        return tuple(_transposed(each) for each in jnp.split(w, count, axis=1))

    def slotted(x: jax.Array, w: PerGate, dtype: DTypeLike) -> PerGate:
        return tuple(transposed_times(x, each, dtype) for each in w)

    return scan.PRODUCTS._replace(
        gates=gates,
        state=times,
        prepared=_transposed,
        tangent=transposed_times,
        slots=slots,
        slotted=slotted,
    )


def is_large(work: Any) -> bool:
    """Whether models run one after the other, from their multiplications in one step.

    From 2^17 on their own products are faster than batches of them; smaller ones lose by the loops'
    fixed costs (`python -m experiments.benchmark --preset models`, JAX 0.10.2).
    """
    return not is_symbolic(work) and work >= 2**17


def is_single_row_and_large(x: jax.Array, w: jax.Array) -> bool:
    """Whether x `[..., K]` has one row, and w is worth halving."""
    return is_single_row(x) and w.size >= 2**16 and all(size % 2 == 0 for size in w.shape)


def _transposed(w: jax.Array) -> jax.Array:
    return jax.lax.optimization_barrier(w.T)  # type: ignore[no-untyped-call, no-any-return]
