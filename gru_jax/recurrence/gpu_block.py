"""What the kernels for NVIDIA GPUs of the Hopper generation share: blocks of threads.

Each block runs the whole loop over time for eight rows of the batch, with all of W_h in shared
memory. Products are computed transposed, W_hᵀ hᵀ: the instruction of the tensor cores (`wgmma`)
takes 64 rows on its left, but as few as eight columns on its right. With the units on the left, a
batch of 64 runs on eight processors instead of one. Each of H / 64 warpgroups has the gates of its
64 units in registers, all in one layout, so that everything between the products is elementwise.
Only the right operand of the next product goes through shared memory. A batch that would need more
blocks than there are processors has more rows in each.

H is padded to a multiple of 64, the batch to one of the rows of a block.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jax.typing import DTypeLike

from .._state import vary_like

UNITS = 64
"""The units of a warpgroup: what `wgmma` takes on its left."""
ROWS = 8
"""The rows of a block are a multiple of this, which `wgmma` takes on its right."""
MOST_ROWS = 16
"""The rows of a block up to which there are registers enough."""
PROCESSORS = 132
"""The streaming multiprocessors of an H100 or H200."""
SHARED_MEMORY = 227 * 1024 - 64
"""The bytes of shared memory that a block may have on Hopper, without those of the barriers."""

_LAYOUT = plgpu.Layout.WGMMA_TRANSPOSED  # of accumulators, with pairs of units in a register


class Block(NamedTuple):
    """A warpgroup's share of a block: its units of the block's rows, as float32 [units, rows]."""

    rows: int
    first_row: Any
    warpgroup: Any
    weights: Any  # [3 · warpgroups, units, H], in shared memory
    operands: Any  # [operands, rows, H], in shared memory
    barrier: Any

    def load(self, ref: Any, *index: Any, gate: int = 0) -> Any:
        """The share of an array [..., B, H], or [..., B, gates · H]; None of None."""
        if ref is None:
            return None
        # Times one, because in a `shard_map` what is read has another type than what is computed.
        return _load(self._share(ref, index, gate).T, _LAYOUT).astype(jnp.float32) * 1

    def store(self, ref: Any, value: jax.Array, *index: Any) -> None:
        """Writes the share of an array [..., B, H]."""
        _store(self._share(ref, index).T, value.astype(ref.dtype))

    def _share(self, ref: Any, index: tuple[Any, ...], gate: int = 0) -> Any:
        return ref.at[(*index, pl.ds(self.first_row, self.rows), self._units(gate))]

    def _units(self, gate: int = 0) -> Any:
        return pl.ds(gate * self.weights.shape[-1] + self.warpgroup * UNITS, UNITS)

    def flags(self, ref: Any, t: Any) -> Any:
        """What an array [T, B] or [T, B, H] says of a step, as numbers; None of None."""
        if ref is None or len(ref.shape) == 3:
            return self.load(ref, t)
        rows = _load(ref.at[t, pl.ds(self.first_row, self.rows)], _LAYOUT.reduce(0))
        return self._spread(rows, 1)

    def per_unit(self, ref: Any) -> Any:
        """The numbers of the units, an array [H], for all rows; None of None."""
        if ref is None:
            return None
        return self._spread(_load(ref.at[self._units()], _LAYOUT.reduce(1)), 0)

    def _spread(self, x: jax.Array, axis: int) -> jax.Array:
        whole = jax.lax.broadcast_in_dim(x, (UNITS, self.rows), (axis,))
        result: jax.Array = plgpu.layout_cast(whole, _LAYOUT)
        return result

    def publish(self, parts: Sequence[tuple[Any, jax.Array]]) -> None:
        """Writes the units of operands, given by their numbers, and says so to the others."""
        for operand, part in parts:
            shared = self.operands.at[operand, :, self._units()].T
            shared[...] = part.astype(self.operands.dtype)
        plgpu.commit_smem()  # type: ignore[no-untyped-call]
        plgpu.barrier_arrive(self.barrier)

    def wait(self) -> None:
        """Waits until all warpgroups have published their units."""
        plgpu.barrier_wait(self.barrier)

    def products(self, *sums: Sequence[tuple[int, Any]]) -> tuple[jax.Array, ...]:
        """Sums of products of the weights of a gate and an operand, both given by their numbers."""
        # Not `self.warpgroup`: what a loop does not change is computed before it, and the addresses
        # of all weights would take more registers than there are.
        first = 3 * jax.lax.axis_index("warpgroup")

        def run(*accumulators: Any) -> tuple[jax.Array, ...]:
            for accumulator, terms in zip(accumulators, sums, strict=True):
                for gate, operand in terms:
                    weights, right = self.weights.at[first + gate], self.operands.at[operand]
                    plgpu.wgmma(accumulator, weights, right.T)
            plgpu.wgmma_wait(0)
            return tuple(plgpu.layout_cast(each[...], _LAYOUT) for each in accumulators)

        accumulator = plgpu.WGMMAAccumulatorRef((UNITS, self.rows), jnp.float32)
        results: tuple[jax.Array, ...] = pl.run_scoped(run, *[accumulator] * len(sums))
        return results


def _load(ref: Any, layout: Any) -> jax.Array:
    # "optimized" would refuse to read less than 128 bytes in a row
    load: Any = plgpu.load
    result: jax.Array = load(ref, layout=layout, optimized=False)
    return result


def _store(ref: Any, value: jax.Array) -> None:
    if hasattr(plgpu, "store"):  # JAX 0.12, where an assignment would refuse the same
        plgpu.store(ref, value, optimized=False)
    else:
        ref[...] = value


class Sizes(NamedTuple):
    """The sizes of a kernel, inside of which arrays are padded."""

    batch: int
    hidden: int
    width: int  # H padded
    rows: int  # of a block; 0 where not even the fewest fit shared memory
    operands: int

    def rows_and_units(self, x: jax.Array | None) -> Any:
        """An array [..., B, H] padded; None of None."""
        return None if x is None else _padded(_padded(x, -2, self.rows), -1, UNITS)

    def per_gate(self, x: jax.Array) -> jax.Array:
        """An array [T, B, gates · H] padded."""
        if self.width != self.hidden:
            apart = x.reshape(*x.shape[:2], -1, self.hidden)
            x = _padded(apart, -1, UNITS).reshape(*x.shape[:2], -1)
        return _padded(x, -2, self.rows)

    def per_unit(self, x: jax.Array | None) -> jax.Array | None:
        """An array [H] padded, in float32; None of None."""
        return None if x is None else _padded(x.astype(jnp.float32), -1, UNITS)

    def flags(self, x: jax.Array | None) -> Any:
        """Flags [T, B] as float32, or [T, B, H] as bytes, padded; None of None."""
        if x is None:
            return None
        if x.ndim == 2:
            return _padded(x.astype(jnp.float32), -1, self.rows)
        return self.rows_and_units(x.astype(jnp.int8))

    def tiles(self, w_h: jax.Array) -> jax.Array:
        """Three matrices beside each other [H, 3H] as left operands [3 · warpgroups, units, H]."""
        w = w_h.reshape(self.hidden, 3, self.hidden)
        w = _padded(_padded(w, 0, UNITS), 2, UNITS).reshape(-1, UNITS, 3, self.width)
        return w.swapaxes(1, 2).reshape(-1, UNITS, self.width)


def sizes(batch: int, hidden: int, dtype: DTypeLike, *, operands: int) -> Sizes:
    """The sizes of a kernel.

    Args:
      batch: B.
      hidden: H.
      dtype: of the weights.
      operands: the number of arrays [rows, H] in shared memory, beside the weights.
    """
    width, itemsize = hidden + -hidden % UNITS, jnp.dtype(dtype).itemsize
    left = max(0, SHARED_MEMORY - 3 * width * width * itemsize)
    fit = left // (operands * ROWS * width * itemsize)
    wanted = -(-batch // (ROWS * PROCESSORS))
    return Sizes(batch, hidden, width, ROWS * min(fit, wanted, MOST_ROWS // ROWS), operands)


def launch(
    make: Callable[..., Any],
    body: Callable[[Block, Any, Any], None],
    sizes: Sizes,
    arrays: Any,
    outs: Any,
) -> Any:
    """Runs a body in all warpgroups of all blocks.

    Args:
      make: `plgpu.kernel`, or what makes a kernel for a simulator.
      body: takes the block's share, and references to the arrays and outs.
      sizes: of the kernel.
      arrays: a pytree of padded arrays, with `w_h` among its attributes.
      outs: a pytree of shapes, padded.
    """
    warpgroups, dtype = sizes.width // UNITS, arrays.w_h.dtype
    tiling = plgpu.TilingTransform((8, 128 // dtype.itemsize)), plgpu.SwizzleTransform(128)
    leaves, tree = jax.tree.flatten(arrays)
    shapes, out_tree = jax.tree.flatten(outs)

    def run(*refs: Any) -> None:
        *arrays_and_outs, weights, operands, loaded, barrier = refs
        given = jax.tree.unflatten(tree, arrays_and_outs[: len(leaves)])
        warpgroup = jax.lax.axis_index("warpgroup")
        mine = pl.ds(3 * warpgroup, 3)
        plgpu.copy_gmem_to_smem(given.w_h.at[mine], weights.at[mine], loaded.at[warpgroup])
        plgpu.barrier_wait(loaded.at[warpgroup])
        first_row = jax.lax.axis_index("block") * sizes.rows
        block = Block(sizes.rows, first_row, warpgroup, weights, operands, barrier)
        body(block, given, jax.tree.unflatten(out_tree, arrays_and_outs[len(leaves) :]))

    kernel = make(
        run,
        out_type=shapes,
        scratch_types=[
            plgpu.SMEM(arrays.w_h.shape, dtype, transforms=tiling),
            plgpu.SMEM((sizes.operands, sizes.rows, sizes.width), dtype, transforms=tiling),
            plgpu.Barrier(num_barriers=warpgroups),
            plgpu.Barrier(num_arrivals=warpgroups),
        ],
        grid=(-(-sizes.batch // sizes.rows),),
        grid_names=("block",),
        num_threads=warpgroups,
        thread_name="warpgroup",
        kernel_name=body.__name__,
        # Those around every store, none of which is needed: a warpgroup reads nothing that it has
        # written but by `wgmma`, which `publish` and `wait` order.
        compiler_params=plgpu.CompilerParams(unsafe_no_auto_barriers=True),
    )
    return vary_like(jax.tree.unflatten(out_tree, kernel(*leaves)), leaves)


def like(x: jax.Array, *leading: int) -> Any:
    """The shape and dtype of an array, with these axes before its own."""
    return jax.ShapeDtypeStruct((*leading, *x.shape), x.dtype)  # type: ignore[no-untyped-call]


def _padded(x: jax.Array, axis: int, multiple: int) -> jax.Array:
    """The array with zeros up to a multiple of a size."""
    extra = -x.shape[axis] % multiple
    if not extra:
        return x
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, extra)
    return jnp.pad(x, widths)
