"""The TPU kernels: both loops over time inside one Pallas call each, for any cell.

A kernel's grid goes over tiles of rows and, one after the other, blocks of time. The recurrent
weights are fetched once and stay in VMEM, as does the state, from one block to the next; what is
given or returned for every step streams through in blocks. A step is the cell's own, traced on a
tile; in the backward kernel it is the transpose that JAX makes of the cell's linear step. Features
are padded to whole registers of 128 lanes, gate by gate: the added units have no weights to others.

Compiled for TPU v4, v5e, v5p and v6e, and simulated, but not run on one.
"""

import dataclasses
import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from .._checks import is_symbolic
from . import kernels, scan
from .interface import Cell, Implementation, Inputs, Unsupported, Weights
from .kernels import Dots
from .options import Constants, Options
from .tpu_loop import LANES, Given, fits, loop, shaped

UPDATE, RESET = 1, 2
"""The bits of a step's flags."""


def implementation(*, interpret: Any) -> Implementation:
    """The implementation by these kernels.

    Args:
      interpret: False on a TPU; elsewhere what simulates one, as `pl.pallas_call` takes it.
    """
    states, transposed = partial(_states, interpret), partial(_transposed, interpret)
    return kernels.implementation(kernels.Kernels(_check, states, transposed))


def _check(cell: Cell, options: Options, weights: Weights, h0: Any, inputs: Inputs) -> None:
    del cell, options
    hs, recurrent = jax.tree.leaves(h0), jax.tree.leaves(_recurrent(weights.params))
    hidden, dtype = hs[0].shape[-1], recurrent[0].dtype
    if any(map(is_symbolic, (*hs[0].shape, *inputs.xs.shape))):
        raise Unsupported("a dimension variable of jax.export")
    if hs[0].dtype != jnp.float32:
        raise Unsupported(f"a state of {hs[0].dtype}: make h0 float32")
    if dtype not in (jnp.float32, jnp.bfloat16):
        raise Unsupported(f"weights of {dtype}: make them float32 or bfloat16")
    layout = Layout.of(h0)
    if not fits([jax.eval_shape(layout.padded, w) for w in recurrent]):
        raise Unsupported(f"H = {hidden} in {dtype}: the chip's VMEM does not hold the weights")


def _recurrent(params: Any) -> Any:
    """The parameters without the one that `project` uses."""
    return dataclasses.replace(params, w_x=None)


def _states(
    interpret: Any, cell: Cell, options: Options, weights: Weights, h0: Any, inputs: Inputs
) -> tuple[Any, tuple[Any, Any]]:
    layout = Layout.of(h0)

    def gates(x: jax.Array, w: jax.Array, count: int, dtype: DTypeLike) -> Any:
        return scan.PRODUCTS.gates(x, layout.padded(w, (1,)), count, dtype)

    def recurrence(given: Given, h: Any) -> tuple[Any, Any]:
        params, (scale, fresh), (projection, flags) = given
        if inputs.resets is not None:
            h = _select(flags, RESET, fresh, h)
        step = cell.step(_INSIDE, Weights(params, Constants(scale, None)), options)
        new, gates = step(h, projection)
        if inputs.mask is not None:
            new = _select(flags, UPDATE, new, h)
        return new, (new, gates if options.save == "gates" else None)

    params, (scale, fresh) = weights
    if inputs.resets is not None and fresh is None:
        fresh = jax.tree.map(jnp.zeros_like, h0)
    products, xs = scan.PRODUCTS._replace(gates=gates), layout.merged(inputs.xs)
    given = Given(
        jax.tree.map(layout.padded, _recurrent(params)),
        jax.tree.map(layout.rows, (scale, fresh)),
        (cell.project(products, params, xs, jnp.float32), layout.flags(inputs.mask, inputs.resets)),
    )
    first = jax.tree.map(layout.rows, h0)
    h_last, outputs = loop(interpret, recurrence, given, first, options)
    states, saved = jax.tree.map(partial(layout.restored, axis=1), outputs)
    return jax.tree.map(layout.restored, h_last), (states, saved)


def _transposed(
    interpret: Any, cell: Cell, options: Options, weights: Any, steps: Any, *dots: Any
) -> Dots:
    (prepared, scale), (resets, factors), (shapes, (last_bar, states_bar)) = weights, steps, dots
    layout = Layout.of(shapes.h)

    def transposed_recurrence(given: Given, bars: Dots) -> tuple[Dots, Any]:
        prepared, scale, (factors, states_bar, flags) = given
        h_bar = _plus(bars.h, states_bar)
        step = cell.linear_step(_INSIDE, prepared, Constants(scale, None))
        tile = jax.tree.leaves(h_bar)[0].shape[0]
        terms = jax.tree.map(lambda x: shaped(x, tile, *layout.of_step(x)), shapes.terms)
        transpose = jax.linear_transpose(lambda h, terms: step(h, (factors, terms)), h_bar, terms)
        h_bar, terms_bar = transpose(h_bar)
        if resets is None:
            return bars._replace(h=h_bar), terms_bar
        zero, fresh_bar = jax.tree.map(jnp.zeros_like, h_bar), bars.reset_state
        if fresh_bar is not None:
            fresh_bar = _plus(fresh_bar, _select(flags, RESET, h_bar, zero))
        return Dots(_select(flags, RESET, zero, h_bar), fresh_bar, None), terms_bar

    zeros = jax.tree.map(lambda h: jnp.zeros(h.shape, h.dtype), shapes.h)
    given = Given(
        jax.tree.map(lambda w: layout.padded(w).T, prepared),
        jax.tree.map(layout.rows, scale),
        (*jax.tree.map(layout.steps, (factors, states_bar)), layout.flags(None, resets)),
    )
    fresh_bar = None if shapes.reset_state is None else zeros
    first = jax.tree.map(layout.rows, Dots(_plus(zeros, last_bar), fresh_bar, None))
    backwards = dataclasses.replace(options, reverse=not options.reverse)
    bars, terms_bar = loop(interpret, transposed_recurrence, given, first, backwards)
    h_bar, fresh_bar, _ = jax.tree.map(layout.restored, bars)
    terms_bar = jax.tree.map(partial(layout.restored, axis=1), terms_bar)
    return Dots(h_bar, fresh_bar, terms_bar)


def _plus(sums: Any, terms: Any) -> Any:
    """The sum of two pytrees, in the second of which None stands for zero."""
    if terms is None:
        return sums
    return jax.tree.map(
        lambda term, x: x if term is None else x + term, terms, sums, is_leaf=lambda x: x is None
    )


def _select(flags: jax.Array, bit: int, on_true: Any, on_false: Any) -> Any:
    def select(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(jnp.broadcast_to(flags & bit, b.shape) != 0, a, b)

    return jax.tree.map(select, on_true, on_false)


def _precision(w: jax.Array) -> jax.lax.Precision:
    """What `jax.default_matmul_precision` asks for, where kernels know the two extremes only."""
    asked = jax.config.values["jax_default_matmul_precision"]
    low = w.dtype != jnp.float32 or asked in (None, "default", "bfloat16", "BF16_BF16_F32")
    return jax.lax.Precision.DEFAULT if low else jax.lax.Precision.HIGHEST


def _times(x: jax.Array, w: jax.Array, dtype: DTypeLike) -> jax.Array:
    x, precision = x.astype(w.dtype), _precision(w)
    return jnp.matmul(x, w, precision=precision, preferred_element_type=dtype)


def _times_transposed(x: jax.Array, w: jax.Array, dtype: DTypeLike) -> jax.Array:
    """The product x wᵀ, whose transpose is a product with w."""
    contract = ((1,), (1,)), ((), ())
    return jax.lax.dot_general(
        x.astype(w.dtype), w, contract, precision=_precision(w), preferred_element_type=dtype
    )


_INSIDE = scan.APART._replace(state=_times, tangent=_times_transposed)


class Layout(NamedTuple):
    """How arrays with batch axes and H features lie in a kernel: one axis of rows, H padded."""

    batch: tuple[int, ...]
    hidden: int

    @classmethod
    def of(cls, h: Any) -> "Layout":
        """That of a state."""
        *batch, hidden = jax.tree.leaves(h)[0].shape
        return cls(tuple(batch), hidden)

    def padded(self, x: jax.Array, axes: tuple[int, ...] = ()) -> jax.Array:
        """Axes of k · H features, all if none is named, with each H padded to whole registers."""
        more = -self.hidden % LANES
        for axis in axes or range(x.ndim):
            shape = x.shape
            x = x.reshape(*shape[:axis], -1, self.hidden, *shape[axis + 1 :])
            x = jnp.pad(x, [(0, more if i == axis + 1 else 0) for i in range(x.ndim)])
            x = x.reshape(*shape[:axis], -1, *shape[axis + 1 :])
        return x

    def rows(self, x: jax.Array) -> jax.Array:
        """From `[*batch, H]`, or broadcastable to it."""
        x = jnp.broadcast_to(x, (*self.batch, self.hidden)).reshape(-1, self.hidden)
        return self.padded(x, (1,))

    def merged(self, x: jax.Array) -> jax.Array:
        """From `[T, *batch, ...]`, not padded."""
        return x.reshape(x.shape[0], math.prod(self.batch), *x.shape[1 + len(self.batch) :])

    def steps(self, x: jax.Array) -> jax.Array:
        """From `[T, *batch, ..., H]`."""
        x = self.merged(x)
        return self.padded(x, (x.ndim - 1,))

    def of_step(self, x: jax.Array) -> tuple[int, ...]:
        """The shape of one row of one step, of `[T, *batch, ..., H]`."""
        shape: tuple[int, ...] = jax.eval_shape(self.steps, x).shape
        return shape[2:]

    def flags(self, mask: jax.Array | None, resets: jax.Array | None) -> jax.Array | None:
        """Both in one array of bits."""
        axes = 1 + len(self.batch)
        bits = [
            jnp.int32(bit) * (x[..., None] if x.ndim == axes else x).astype(jnp.int32)
            for bit, x in ((UPDATE, mask), (RESET, resets))
            if x is not None
        ]
        if not bits:
            return None
        x = self.merged(sum(bits[1:], bits[0]))
        return x if x.shape[-1] == 1 else self.padded(x, (2,))

    def restored(self, x: jax.Array, axis: int = 0) -> jax.Array:
        """With batch axes in place of the axis of rows, and without the padding."""
        x = x[..., : self.hidden]
        return x.reshape(*x.shape[:axis], *self.batch, *x.shape[axis + 1 :])


IMPLEMENTATION = implementation(interpret=False)
