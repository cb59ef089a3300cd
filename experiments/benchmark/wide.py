"""A GRU with more units than one device should hold: they are sharded over the devices of a mesh.

Each device has some units, the same ones of every gate, and those columns of the weights that give
them. A step needs the state of all units: it is gathered, once. Backpropagation has the transpose
of that in each step, the cotangents of all units being summed and scattered to their devices.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import gru_jax

UNITS = "units"
"""The axis of the mesh."""


class PerGate(NamedTuple):
    """The weights of a GRU with reset="after", the units in an axis of their own."""

    w_x: Any  # [I, 3, H]
    w_h: Any  # [H, 3, H]
    b: Any  # [3, H]
    b_hn: Any  # [H]


SPECS = PerGate(P(None, None, UNITS), P(None, None, UNITS), P(None, UNITS), P(UNITS))
ROWS, STEPS = P(None, UNITS), P(None, None, UNITS)
"""How the weights, states `[B, H]` and states `[T, B, H]` are sharded."""


def per_gate(params: gru_jax.GRUParams) -> PerGate:
    """The weights as `unroll` takes them; their last axis is what is sharded."""
    weights: tuple[Any, ...] = params.w_x, params.w_h, params.b
    w_x, w_h, b = (w.reshape(*w.shape[:-1], 3, -1) for w in weights)
    return PerGate(w_x, w_h, b, params.b_hn)


def unroll(
    mesh: Mesh, params: PerGate, h0: jax.Array, xs: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """As `gru_unroll`, over a mesh with the axis `UNITS`.

    Args:
      mesh: its devices, whose number divides H.
      params: sharded as `SPECS`.
      h0: the first state `[B, H]`, its units sharded.
      xs: the inputs `[T, B, I]`, all of them on each device.

    Returns:
      `(h_last, hs)`: the last state `[B, H]` and all states `[T, B, H]`, their units sharded.
    """
    run = jax.shard_map(_unroll, mesh=mesh, in_specs=(SPECS, ROWS, P()), out_specs=(ROWS, STEPS))
    return run(params, h0, xs)


def _unroll(params: PerGate, h0: jax.Array, xs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """With the units of one device, of which there are K, and its weights `[..., 3, K]`."""
    w_x, w_h, b = (w.reshape(*w.shape[:-2], -1) for w in params[:3])
    projections = gru_jax.readout(gru_jax.ReadoutParams(w_x, b), xs)
    return gru_jax.unroll(_step, (w_h, params.b_hn), h0, projections)


def _step(params: tuple[jax.Array, jax.Array], h: jax.Array, x: jax.Array) -> jax.Array:
    w_h, b_hn = params
    x_z, x_r, x_n = jnp.split(x, 3, axis=-1)
    u = jax.lax.all_gather(h, UNITS, axis=-1, tiled=True) @ w_h
    u_z, u_r, u_n = jnp.split(u, 3, axis=-1)
    z, r = jax.nn.sigmoid(x_z + u_z), jax.nn.sigmoid(x_r + u_r)
    n = jnp.tanh(x_n + r * (u_n + b_hn[None]))
    return (1 - z) * h + z * n
