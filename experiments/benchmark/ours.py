"""Our GRU in the variants that the benchmark times."""

import multiprocessing
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import gru_jax
from experiments.benchmark.timing import (
    Apply,
    Implementation,
    Mode,
    Ready,
    Shape,
    UnsupportedError,
    draw,
    on_jax,
    problem,
    ready,
)
from experiments.harness.records import cores


def ours(
    shape: Shape,
    reset: Literal["before", "after"] = "after",
    save: Literal["gates", "states", "chunks"] = "gates",
    dtype: Any = jnp.float32,
    part: int = 1,
    implementation: Literal["scan", "pallas"] | None = None,
) -> tuple[Any, Apply]:
    """`gru_unroll` with a batch axis; weights and inputs in `dtype`, the state in float32.

    All states are part 1 of what it returns, the last one is part 0.
    """
    h0 = jnp.zeros((shape.batch, shape.hidden))

    def apply(params: gru_jax.GRUParams, xs: jax.Array) -> jax.Array:
        xs = xs.astype(dtype)
        return gru_jax.gru_unroll(params, h0, xs, save=save, implementation=implementation)[part]

    return our_params(shape, reset, dtype), apply


def ours_by_vmap(shape: Shape) -> tuple[Any, Apply]:
    """`gru_unroll` of one sequence, mapped over the batch."""

    def one(params: gru_jax.GRUParams, xs: jax.Array) -> jax.Array:
        return gru_jax.gru_unroll(params, gru_jax.zero_state(params), xs)[1]

    return our_params(shape), jax.vmap(one, in_axes=(None, 1), out_axes=1)


def our_params(
    shape: Shape, reset: Literal["before", "after"] = "after", dtype: Any = jnp.float32
) -> gru_jax.GRUParams:
    """Weights and biases, none of them zero."""
    key = jax.random.key(0)
    return gru_jax.init_gru(
        key, shape.inputs, shape.hidden, reset=reset, preset="torch", dtype=dtype
    )


def ours_on_devices(shape: Shape, mode: Mode) -> Ready:
    """`gru_unroll` with the batch spread over one CPU device per core.

    In a process of its own, whose turns come with everyone else's: the number of devices is one
    per process, and two of them slow the others down.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    context.Process(target=_serve, args=(there, shape, mode), daemon=True).start()
    there.close()
    answer = here.recv()
    if isinstance(answer, UnsupportedError):
        raise answer

    def call() -> object:
        here.send(None)
        return here.recv()

    return Ready(call, *answer)


def _serve(there: Connection, shape: Shape, mode: Mode) -> None:
    """Runs once for each message, until the other end is closed."""
    devices = cores()
    if devices < 2 or shape.batch % devices:
        there.send(
            UnsupportedError(f"a batch of {shape.batch} does not spread over {devices} device(s)")
        )
        return
    jax.config.update("jax_num_cpu_devices", devices)
    mesh = Mesh(np.array(jax.devices()), ("batch",))
    rows, columns = P("batch"), P(None, "batch")
    unroll = jax.shard_map(
        lambda params, h0, xs: gru_jax.gru_unroll(params, h0, xs)[1],
        mesh=mesh,
        in_specs=(P(), rows, columns),
        out_specs=columns,
    )

    def put(array: Any, spec: P) -> Any:
        return jax.device_put(array, NamedSharding(mesh, spec))

    h0 = put(jnp.zeros((shape.batch, shape.hidden)), rows)
    function, args = problem(
        lambda params, xs: unroll(params, h0, xs),
        put(our_params(shape), P()),
        put(draw(shape.steps, shape.batch, shape.inputs), columns),
        put(draw(shape.steps, shape.batch, shape.hidden), columns),
        mode,
    )
    made = ready(function, *args)
    there.send((made.compile_seconds, made.temporary_bytes))
    with suppress(EOFError):
        while True:
            there.recv()
            made.call()
            there.send(None)


OURS: Mapping[str, Implementation] = {
    "gru_jax": partial(on_jax, ours),
    "gru_jax before": partial(on_jax, partial(ours, reset="before")),
    "gru_jax states": partial(on_jax, partial(ours, save="states")),
    "gru_jax chunks": partial(on_jax, partial(ours, save="chunks")),
    "gru_jax vmap": partial(on_jax, ours_by_vmap),
    "gru_jax devices": ours_on_devices,
}
