"""A scan inside one Pallas call for TPU.

The grid goes over tiles of rows and, one after the other, blocks of steps. What is the same at all
steps is fetched once and stays in VMEM, as does the carry; the rest streams through in blocks.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from .._state import vary_like
from .chunks import chunk_length
from .options import Options

DEFAULT = 16 * 2**20
"""Bytes of VMEM: all that the smallest chip, a TPU v4, has, and what XLA gives a kernel on any."""
SUBLANES, LANES = 8, 128
"""The last two axes of a block are padded to multiples of these."""
ROWS, STEPS = 256, 16
"""The largest tile of rows and the longest block of steps."""
UNROLLED = 4
"""Steps per iteration, or more if `unroll` asks for them: XLA then schedules what does not wait for
the state between the products, and needs fewer instruction bundles for a step. It writes them with
`LIBTPU_INIT_ARGS="--xla_jf_dump_to=FOLDER --xla_jf_dump_llo_text=true"`."""


class Given(NamedTuple):
    """What a step is given, pytrees by how they are cut into blocks."""

    whole: Any
    rows: Any  # [B, features]
    steps: Any  # [T, B, ...]


Body = Callable[[Given, Any], tuple[Any, Any]]
"""A step of a tile of rows: `(given, carry) -> (carry, outputs)`."""


def loop(interpret: Any, body: Body, given: Given, carry: Any, options: Options) -> tuple[Any, Any]:
    """Runs the body over all steps of all tiles of rows.

    Args:
      interpret: as `pl.pallas_call` takes it.
      body: rows must not depend on each other: those that fill up the last tile hold anything.
      given: arrays of numbers or bool.
      carry: the first, `[B, features]`.
      options: direction, and steps per iteration of the loop over the steps of a block.

    Returns:
      The last carry `[B, features]`, and the outputs `[T, B, ...]`.
    """
    numbers = jax.tree.map(_stored, given)
    length, count = jax.tree.leaves(given.steps)[0].shape[:2]
    room = _room(given.whole)
    tile, block, outputs = _blocks(body, given, carry, room)
    blocks = pl.cdiv(length, block)
    whole_blocks = length % block == 0

    def place(j: Any) -> Any:
        return blocks - 1 - j if options.reverse else j

    def kernel(given_refs: Given, first: Any, last: Any, output_refs: Any, carried: Any) -> None:
        here = (
            block if whole_blocks else jnp.minimum(block, length - place(pl.program_id(1)) * block)
        )

        def step(i: Any, carry: Any) -> Any:
            t = here - 1 - i if options.reverse else i
            refs = Given(
                _read(given_refs.whole), _read(given_refs.rows), _read(given_refs.steps, t)
            )
            carry, outputs = body(jax.tree.map(_given, given, refs), carry)
            _write(output_refs, outputs, t)
            return carry

        pl.when(pl.program_id(1) == 0)(lambda: _write(carried, _read(first)))
        unroll = min(max(options.unroll, UNROLLED), block) if whole_blocks else None
        _write(carried, jax.lax.fori_loop(0, here, step, _read(carried), unroll=unroll))
        pl.when(pl.program_id(1) == blocks - 1)(lambda: _write(last, _read(carried)))

    def whole(x: Any) -> pl.BlockSpec:
        return pl.BlockSpec(x.shape, lambda i, j: (0,) * x.ndim, pipeline_mode=pl.Buffered(1))

    def rows(x: Any) -> pl.BlockSpec:
        return pl.BlockSpec((tile, *x.shape[1:]), lambda i, j: (i, *(0,) * (len(x.shape) - 1)))

    def steps(x: Any) -> pl.BlockSpec:
        zeros = (0,) * (len(x.shape) - 2)
        return pl.BlockSpec((block, tile, *x.shape[2:]), lambda i, j: (place(j), i, *zeros))

    over_time = jax.tree.map(lambda x: shaped(x, length, count, *x.shape[1:]), outputs)
    cuts = zip((whole, rows, steps), numbers, strict=True)
    result: tuple[Any, Any] = pl.pallas_call(
        kernel,
        out_shape=jax.tree.map(partial(_like, numbers), (carry, over_time)),
        grid=(pl.cdiv(count, tile), blocks),
        in_specs=(Given(*(jax.tree.map(*each) for each in cuts)), jax.tree.map(rows, carry)),
        out_specs=(jax.tree.map(rows, carry), jax.tree.map(steps, over_time)),
        scratch_shapes=(jax.tree.map(lambda x: pltpu.VMEM((tile, *x.shape[1:]), x.dtype), carry),),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=room
        ),
        interpret=interpret,
        name=body.__name__,
    )(numbers, carry)
    return result


def shaped(x: Any, *shape: int) -> jax.ShapeDtypeStruct:
    """What is like x, but has this shape."""
    return jax.ShapeDtypeStruct(shape, x.dtype)  # type: ignore[no-untyped-call]


def fits(whole: Any) -> bool:
    """Whether VMEM holds what is the same at all steps, beside blocks of the rest.

    VMEM is that of this machine's chip; that of the smallest where the default device is no TPU.
    """
    try:
        capacity: int = pltpu.get_tpu_info().vmem_capacity_bytes
    except ValueError:
        capacity = DEFAULT
    return _bytes(whole) <= capacity * 5 // 8


def _room(whole: Any) -> int:
    """The bytes of VMEM that a kernel asks for."""
    return max(DEFAULT, _bytes(whole) * 8 // 5)


def _blocks(body: Body, given: Given, carry: Any, room: int) -> tuple[int, int, Any]:
    """The rows of a tile, the steps of a block, and the shapes of a step's outputs."""
    length, count = jax.tree.leaves(given.steps)[0].shape[:2]
    tile = count
    if count > ROWS:
        tile = _rounded(pl.cdiv(count, pl.cdiv(count, ROWS)), SUBLANES)
    while True:
        rows, steps, first = (
            jax.tree.map(partial(_of_tile, tile, axes), each)
            for axes, each in ((1, given.rows), (2, given.steps), (1, carry))
        )
        outputs = jax.eval_shape(body, Given(given.whole, rows, steps), first)[1]
        # Blocks that move are there twice; the carry comes, goes, and stays.
        left = room * 7 // 8 - _bytes(given.whole) - 2 * _bytes(rows) - 5 * _bytes(first)
        # Next to its block, a step's values are there once more, and what it makes of them.
        block = (left // _bytes((steps, outputs)) - 4) // 2
        if tile <= SUBLANES or block >= min(length, SUBLANES):
            return tile, chunk_length(length, max(1, min(block, length, STEPS))), outputs
        tile = _rounded(tile // 2, SUBLANES)


def _of_tile(tile: int, axes: int, x: Any) -> jax.ShapeDtypeStruct:
    return shaped(x, tile, *x.shape[axes:])


def _bytes(tree: Any) -> int:
    def padded(x: Any) -> int:
        shape: tuple[int, ...] = (1, 1, *x.shape)
        matrix = _rounded(shape[-2], SUBLANES) * _rounded(shape[-1], LANES)
        bytes_each: int = 4 if x.dtype == bool else x.dtype.itemsize
        return math.prod(shape[:-2]) * matrix * bytes_each

    return sum(map(padded, jax.tree.leaves(tree)))


def _stored(x: jax.Array) -> jax.Array:
    """Numbers, and of a vector a matrix: to cut one into blocks JAX needs to know the chip."""
    x = x.astype(jnp.int32) if x.dtype == bool else x
    return x[None] if x.ndim == 1 else x


def _given(x: Any, stored: jax.Array) -> jax.Array:
    """What was stored of x, as it was given."""
    value = stored[0] if len(x.shape) == 1 else stored
    return value != 0 if x.dtype == bool else value


def _rounded(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _like(others: Any, x: Any) -> Any:
    """The shape, varying over those axes of a `shard_map` over which any of the others does."""
    return jax.eval_shape(lambda others: vary_like(jnp.zeros(x.shape, x.dtype), others), others)


def _read(refs: Any, at: Any = ...) -> Any:
    return jax.tree.map(lambda ref: ref[at], refs)


def _write(refs: Any, values: Any, at: Any = ...) -> None:
    jax.tree.map(lambda ref, value: ref.__setitem__(at, value), refs, values)
