"""The two loops of the GRU as kernels for NVIDIA GPUs of the Hopper generation.

Both are one launch, with a grid of blocks as in `gpu_block`. What a step reads from global memory
is fetched during the step before.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .gpu_block import Block, launch, sizes


class Forward(NamedTuple):
    """The arrays of the recurrence of the states; None where there is none."""

    x: jax.Array  # [T, B, 3H], x W_x and all biases but b_hn
    w_h: jax.Array  # [H, 3H]
    b_hn: jax.Array | None  # [H]
    h0: jax.Array  # [B, H]
    mask: jax.Array | None = None  # bool [T, B], or [T, B, H] for single units
    resets: jax.Array | None = None  # bool [T, B]
    reset_state: jax.Array | None = None  # [B, H]; None for zeros
    scale: jax.Array | None = None  # [B, H]


class Backward(NamedTuple):
    """The arrays of the transposed recurrence of the tangents; None where there is none."""

    keep: jax.Array  # [T, B, H]: 1 − z
    factors: tuple[jax.Array, ...]  # [T, B, H] each: C_z, C_r, C_n ∘ r; or C_z, C_n, E, r
    w_h: jax.Array  # [H, 3H]
    last: jax.Array  # [B, H], the cotangent of the last state
    states: jax.Array | None = None  # [T, B, H], those of all states
    resets: jax.Array | None = None  # bool [T, B]
    scale: jax.Array | None = None  # [B, H]


class Cotangents(NamedTuple):
    """The results of the transposed recurrence of the tangents; None where there is none."""

    h: jax.Array  # [T, B, H], of what is added to the tangents of the states
    m: jax.Array | None  # [T, B, H], of what is added to those of r ∘ h
    first: jax.Array  # [B, H], of the first state
    fresh: jax.Array | None  # [B, H], of the state after a reset


def forward(
    inputs: Forward, *, after: bool, gates: bool, reverse: bool, zoneout: float
) -> list[jax.Array]:
    """The states `[T, B, H]` and, if asked for, the gates z, r, n and (reset="after") u.

    Args:
      inputs: the arrays.
      after: whether reset="after".
      gates: whether the gates are returned, as they are before the mask.
      reverse: run from the last step to the first.
      zoneout: the share of its old value that every unit keeps.
    """
    (steps, batch, _), hidden, dtype = inputs.x.shape, inputs.w_h.shape[0], inputs.h0.dtype

    def body(block: Block, refs: Forward, outs: Sequence[Any]) -> None:
        b_hn, scale = block.per_unit(refs.b_hn), block.load(refs.scale)
        fresh = block.load(refs.reset_state)

        def at(i: Any) -> Any:
            return steps - 1 - i if reverse else i

        def fetch(i: Any) -> Any:
            x = [block.load(refs.x, at(i), gate=gate) for gate in range(3)]
            return x, block.flags(refs.mask, at(i)), block.flags(refs.resets, at(i))

        def entering(h: jax.Array) -> jax.Array:
            return h if scale is None else h * scale

        def restarted(h: jax.Array, resets: jax.Array | None) -> jax.Array:
            if resets is None:
                return h
            return jnp.where(resets > 0, jnp.zeros_like(h) if fresh is None else fresh, h)

        def step(i: Any, carry: Any) -> Any:
            h, ((x_z, x_r, x_n), mask, _) = carry
            # The state lies in two places in turn: who is late still reads the other one.
            here, there, m = i % 2, 1 - i % 2, 2
            ahead = fetch(jnp.minimum(i + 1, steps - 1))
            block.wait()
            u_z, u_r, *u_n = block.products(*([(gate, here)] for gate in range(2 + after)))
            z, r = jax.nn.sigmoid(x_z + u_z), jax.nn.sigmoid(x_r + u_r)
            if after:
                u = u_n[0] if b_hn is None else u_n[0] + b_hn
                n = jnp.tanh(x_n + r * u)
            else:
                block.publish([(m, r * entering(h))])
                block.wait()
                (u,) = block.products([(2, m)])
                n = jnp.tanh(x_n + u)
            update = z * (1 - zoneout) if zoneout else z
            new = (1 - update) * h + update * n
            new = new if mask is None else jnp.where(mask > 0, new, h)
            new = new.astype(dtype).astype(jnp.float32)
            h = restarted(new, ahead[2])
            block.publish([(there, entering(h))])
            for out, value in zip(outs, (new, z, r, n, u), strict=False):
                block.store(out, value, at(i))
            return h, ahead

        first = fetch(0)
        h = restarted(block.load(refs.h0), first[2])
        block.publish([(0, entering(h))])
        jax.lax.fori_loop(0, steps, step, (h, first))
        block.wait()

    pad = sizes(batch, hidden, inputs.w_h.dtype, operands=2 if after else 3)
    transposed = inputs.w_h.reshape(hidden, 3, hidden).transpose(2, 1, 0)
    arrays = Forward(
        x=pad.per_gate(inputs.x),
        w_h=pad.tiles(transposed),
        b_hn=pad.per_unit(inputs.b_hn),
        h0=pad.rows_and_units(inputs.h0),
        mask=pad.flags(inputs.mask),
        resets=pad.flags(inputs.resets),
        reset_state=pad.rows_and_units(inputs.reset_state),
        scale=pad.rows_and_units(inputs.scale),
    )
    outs = [jax.ShapeDtypeStruct((steps, *arrays.h0.shape), dtype)] * (1 + (3 + after) * gates)
    results = launch(body, pad, arrays, outs, name="gru_forward")
    return [each[:, :batch, :hidden] for each in results]


def backward(inputs: Backward, *, after: bool, reverse: bool) -> Cotangents:
    """The transpose of the linear recurrence of the tangents.

    Args:
      inputs: the arrays.
      after: whether reset="after".
      reverse: of the recurrence that is transposed.
    """
    (steps, batch, hidden), w_h = inputs.keep.shape, inputs.w_h
    # Who is late still reads the operands of the step before: they lie in two places in turn, or,
    # where two do not fit, all wait for each other once more in each step.
    pad = sizes(batch, hidden, w_h.dtype, operands=6 if after else 3)
    places = 2 if after and pad.rows else 1
    pad = pad if pad.rows else sizes(batch, hidden, w_h.dtype, operands=3)

    def body(block: Block, refs: Backward, outs: Cotangents) -> None:
        scale, last = block.load(refs.scale), block.load(refs.last)

        def at(i: Any) -> Any:
            return i if reverse else steps - 1 - i

        def fetch(i: Any) -> Any:
            factors = [block.load(factor, at(i)) for factor in (refs.keep, *refs.factors)]
            return factors, block.load(refs.states, at(i)), block.flags(refs.resets, at(i))

        def product_after(i: Any, to_h: jax.Array, factors: Sequence[jax.Array]) -> jax.Array:
            gates = range(3)
            operands = [gate + (i % places) * 3 for gate in gates]
            parts = [factor * to_h for factor in factors]
            block.publish(list(zip(operands, parts, strict=True)))
            block.wait()
            (product,) = block.products(list(zip(gates, operands, strict=True)))
            if places == 1:
                block.publish([])
                block.wait()
            return product

        def product_before(i: Any, to_h: jax.Array, factors: Sequence[jax.Array]) -> jax.Array:
            to_z, to_n, to_m, r = factors
            block.publish([(0, to_z * to_h), (2, to_n * to_h)])
            block.wait()
            (m,) = block.products([(2, 2)])
            block.publish([(1, to_m * m)])
            block.store(outs.m, m, at(i))
            block.wait()
            (product,) = block.products([(0, 0), (1, 1)])
            return product + r * m

        def step(i: Any, carry: Any) -> Any:
            to_h, to_fresh, ((keep, *factors), state, resets) = carry
            ahead = fetch(jnp.minimum(i + 1, steps - 1))
            to_h = to_h if state is None else to_h + state
            block.store(outs.h, to_h, at(i))
            product = (product_after if after else product_before)(i, to_h, factors)
            to_h = keep * to_h + (product if scale is None else product * scale)
            if resets is not None:
                zero = jnp.zeros_like(to_h)
                to_fresh = to_fresh + jnp.where(resets > 0, to_h, zero)
                to_h = jnp.where(resets > 0, zero, to_h)
            return to_h, to_fresh, ahead

        to_fresh = None if refs.resets is None else jnp.zeros_like(last)
        to_h, to_fresh, _ = jax.lax.fori_loop(0, steps, step, (last, to_fresh, fetch(0)))
        block.store(outs.first, to_h)
        if to_fresh is not None:
            block.store(outs.fresh, to_fresh)

    arrays = Backward(
        keep=pad.rows_and_units(inputs.keep),
        factors=tuple(map(pad.rows_and_units, inputs.factors)),
        w_h=pad.tiles(w_h),
        last=pad.rows_and_units(inputs.last),
        states=pad.rows_and_units(inputs.states),
        resets=pad.flags(inputs.resets),
        scale=pad.rows_and_units(inputs.scale),
    )
    steps_of, rows_of = (
        jax.ShapeDtypeStruct(x.shape, inputs.last.dtype) for x in (arrays.keep, arrays.last)
    )
    outs = Cotangents(
        h=steps_of,
        m=None if after else steps_of,
        first=rows_of,
        fresh=None if inputs.resets is None else rows_of,
    )
    results = launch(body, pad, arrays, outs, name="gru_backward")
    cut: Cotangents = jax.tree.map(lambda each: each[..., :batch, :hidden], results)
    return cut
