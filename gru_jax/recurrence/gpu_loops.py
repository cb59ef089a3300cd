"""The two loops of the GRU as kernels for NVIDIA GPUs of the Hopper generation.

Each is one launch. What a step reads from global memory is fetched during the step before.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .gpu_block import Block, launch, like, sizes


class Forward(NamedTuple):
    """The arrays of the recurrence of the states; None where there is none."""

    x: jax.Array  # [T, B, 3H], x W_x and all biases but b_hn
    w_h: jax.Array  # [H, 3H]
    b_hn: jax.Array | None  # [H]
    h0: jax.Array  # [B, H]
    mask: jax.Array | None  # bool [T, B], or [T, B, H] for single units
    resets: jax.Array | None  # bool [T, B]
    reset_state: jax.Array | None  # [B, H]; None for zeros
    scale: jax.Array | None  # [B, H]


class Known(NamedTuple):
    """What the factors of the linear recurrence follow from, `[T, B, H]`; None where there is none.

    A kernel computes them from these: as arrays, they would be written and read again.
    """

    h: jax.Array  # before each step, after its reset
    z: jax.Array
    r: jax.Array
    n: jax.Array
    u: jax.Array | None  # with reset="after"
    mask: jax.Array | None  # bool [T, B], or [T, B, H] for single units


class Backward(NamedTuple):
    """The arrays of the transposed recurrence of the tangents; None where there is none."""

    known: Known
    w_h: jax.Array  # [H, 3H]
    last: jax.Array  # [B, H], the cotangent of the last state
    states: jax.Array | None  # [T, B, H], those of all states
    resets: jax.Array | None  # bool [T, B]
    scale: jax.Array | None  # [B, H]


class Cotangents(NamedTuple):
    """The results of the transposed recurrence of the tangents; None where there is none."""

    h: Any  # [T, B, H], of what is added to the tangents of the states
    m: Any  # [T, B, H], of what is added to those of r ∘ h
    first: Any  # [B, H], of the first state
    fresh: Any  # [B, H], of the state after a reset


def forward(
    make: Callable[..., Any],
    inputs: Forward,
    *,
    after: bool,
    gates: bool,
    reverse: bool,
    zoneout: float,
) -> list[jax.Array]:
    """The states `[T, B, H]` and, if asked for, the gates z, r, n and (reset="after") u.

    Args:
      make: see `launch`.
      inputs: the arrays.
      after: whether reset="after".
      gates: whether the gates are returned, as they are before the mask.
      reverse: run from the last step to the first.
      zoneout: the share of its old value that every unit keeps.
    """
    (steps, batch, _), hidden, dtype = inputs.x.shape, inputs.w_h.shape[0], inputs.h0.dtype

    def gru_forward(block: Block, refs: Forward, outs: Sequence[Any]) -> None:
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
    outs = [like(arrays.h0, steps)] * (1 + (3 + after) * gates)
    results = launch(make, gru_forward, pad, arrays, outs)
    return [each[:, :batch, :hidden] for each in results]


def backward(
    make: Callable[..., Any], inputs: Backward, *, reverse: bool, zoneout: float
) -> Cotangents:
    """The transpose of the linear recurrence of the tangents.

    Args:
      make: see `launch`.
      inputs: the arrays.
      reverse: of the recurrence that is transposed.
      zoneout: as in `forward`.
    """
    (steps, batch, hidden), after = inputs.known.h.shape, inputs.known.u is not None
    # Who is late still reads the operands of the step before: they lie in two places in turn, or,
    # where two do not fit, all wait for each other once more in each step.
    size = partial(sizes, batch, hidden, inputs.w_h.dtype)
    pad = size(operands=6 if after else 3)
    places = 2 if after and pad.rows else 1
    pad = pad if pad.rows else size(operands=3)

    def gru_backward(block: Block, refs: Backward, outs: Cotangents) -> None:
        scale, last = block.load(refs.scale), block.load(refs.last)

        def at(i: Any) -> Any:
            return i if reverse else steps - 1 - i

        def fetch(i: Any) -> Any:
            t, (*known, mask) = at(i), refs.known
            gates = [block.load(ref, t) for ref in known]
            flags = block.flags(mask, t), block.flags(refs.resets, t)
            return gates, flags, block.load(refs.states, t)

        def scaled(h: jax.Array) -> jax.Array:
            return h if scale is None else h * scale

        def products_after(i: Any, to_h: jax.Array, factors: Sequence[jax.Array]) -> jax.Array:
            operands = [gate + (i % places) * 3 for gate in range(3)]
            block.publish([(o, factor * to_h) for o, factor in zip(operands, factors, strict=True)])
            block.wait()
            (product,) = block.products(list(enumerate(operands)))
            if places == 1:
                block.publish([])
                block.wait()
            return product

        def products_before(i: Any, to_h: jax.Array, factors: Sequence[jax.Array]) -> jax.Array:
            to_z, to_n, to_m, r = factors
            # All that one barrier lets be read is read before the next: then it may be overwritten.
            block.publish([(0, to_z * to_h), (2, to_n * to_h)])
            block.wait()
            by_z, m = block.products([(0, 0)], [(2, 2)])
            block.publish([(1, to_m * m)])
            block.store(outs.m, m, at(i))
            block.wait()
            (by_r,) = block.products([(1, 1)])
            return by_z + by_r + r * m

        def step(i: Any, carry: Any) -> Any:
            to_h, to_fresh, ((h, z, r, n, u), (mask, resets), state) = carry
            ahead = fetch(jnp.minimum(i + 1, steps - 1))
            to_h = to_h if state is None else to_h + state
            block.store(outs.h, to_h, at(i))
            # the factors, as in `gru`
            z = z if mask is None else jnp.where(mask > 0, z, jnp.zeros_like(z))
            update = z * (1 - zoneout) if zoneout else z
            to_z, to_n = (n - h) * update * (1 - z), update * (1 - n * n)
            if after:
                factors = to_z, to_n * u * r * (1 - r), to_n * r
                product = products_after(i, to_h, factors)
            else:
                product = products_before(i, to_h, (to_z, to_n, scaled(h) * r * (1 - r), r))
            to_h = (1 - update) * to_h + scaled(product)
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

    mask, known = inputs.known.mask, inputs.known._replace(mask=None)
    arrays = Backward(
        known=jax.tree.map(pad.rows_and_units, known)._replace(mask=pad.flags(mask)),
        w_h=pad.tiles(inputs.w_h),
        last=pad.rows_and_units(inputs.last),
        states=pad.rows_and_units(inputs.states),
        resets=pad.flags(inputs.resets),
        scale=pad.rows_and_units(inputs.scale),
    )
    of_steps, of_rows = like(arrays.last, steps), like(arrays.last)
    fresh = None if inputs.resets is None else of_rows
    outs = Cotangents(h=of_steps, m=None if after else of_steps, first=of_rows, fresh=fresh)
    results = launch(make, gru_backward, pad, arrays, outs)
    cut: Cotangents = jax.tree.map(lambda each: each[..., :batch, :hidden], results)
    return cut
