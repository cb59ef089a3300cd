"""Training steps with the batch spread over CPU devices, of one process or of two."""

import multiprocessing
import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import optax

import gru_jax
from experiments.benchmark.config import WORKLOADS, Workload
from experiments.benchmark.ours import our_params
from experiments.benchmark.timing import Implementation, Mode, Ready, Shape, draw, timed
from experiments.harness import devices
from experiments.harness.layouts import Layout
from experiments.harness.records import markdown_table
from experiments.harness.training import adam

STEPS = 5
"""Updates in one measurement."""
ARRANGEMENTS: Mapping[str, tuple[int, int]] = {
    "1 device": (1, 1),
    "2 devices": (1, 2),
    "2 processes": (2, 1),
}
"""Processes, and devices of each."""


def spread(processes: int, count: int, shape: Shape, mode: Mode) -> Ready:
    """Updates in processes of their own, started here; a call returns the loss that each finds."""
    assert mode == "train"
    run = devices.ParallelRun(devices=count)
    runs = [run]
    if processes > 1:
        run = replace(run, coordinator=f"127.0.0.1:{_free_port()}", processes=processes)
        runs = [replace(run, process=process) for process in range(processes)]
    context = multiprocessing.get_context("spawn")
    ends = []
    for each in runs:
        here, there = context.Pipe()
        context.Process(target=_serve, args=(there, each, shape), daemon=True).start()
        there.close()
        ends.append(here)

    def call() -> list[float]:
        for end in ends:
            end.send(None)
        return [end.recv() for end in ends]

    return Ready(call)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _serve(there: Connection, run: devices.ParallelRun, shape: Shape) -> None:
    """Makes some updates for each message, until the other end is closed."""
    if run.processes and run.process is not None and hasattr(os, "sched_setaffinity"):
        own = sorted(os.sched_getaffinity(0))[run.process :: run.processes]
        os.sched_setaffinity(0, own or os.sched_getaffinity(0))  # as launchers bind them
    mesh = devices.begin(SimpleNamespace(run=run, batch_size=shape.batch))
    layout = Layout(mesh, batch=1)
    optimiser = adam(1e-3, 1000)
    params = our_params(shape)
    state = layout.put((params, optimiser.init(params)), None)
    xs, targets = (
        layout.put(draw(shape.steps, shape.batch, width), layout.batch)
        for width in (shape.inputs, shape.hidden)
    )

    def loss(params: gru_jax.GRUParams, xs: jax.Array, targets: jax.Array) -> jax.Array:
        return jnp.mean((gru_jax.gru_unroll(params, None, xs)[1] - targets) ** 2)

    @partial(jax.jit, donate_argnums=0)
    def update(state: Any, xs: jax.Array, targets: jax.Array) -> tuple[Any, jax.Array]:
        params, before = state
        value, gradients = jax.value_and_grad(loss)(params, xs, targets)
        updates, after = optimiser.update(gradients, before, params)
        return layout.keep((optax.apply_updates(params, updates), after), None), value

    with suppress(EOFError):
        while True:
            there.recv()
            for _ in range(STEPS):
                state, value = update(state, xs, targets)
            there.send(float(value))


def measure(workloads: Iterable[Workload], rounds: int) -> dict[str, Any]:
    """Every arrangement on every workload, in turns."""
    makes: dict[str, Implementation] = {
        name: partial(spread, *counts) for name, counts in ARRANGEMENTS.items()
    }
    results: dict[str, Any] = {}
    for name in workloads:
        shape = WORKLOADS[name]
        entries = timed(f"{name} train", shape, "train", makes, rounds)
        results[name] = {"batch": shape.batch} | {
            label: {"median_ms": entry.median_ms, "min_ms": entry.min_ms}
            for label, entry in entries.items()
        }
    return results


def markdown_parallel(results: Mapping[str, Any]) -> str:
    """The page's table: sequences per second, and relative to one device."""
    rows = []
    for label in ARRANGEMENTS:
        cells = []
        for each in results.values():
            rate = 1e3 * STEPS * each["batch"] / each[label]["median_ms"]
            relative = each["1 device"]["median_ms"] / each[label]["median_ms"]
            cells.append(f"{rate:.1f} ({relative:.2f})")
        rows.append([label, *cells])
    return markdown_table(["sequences per second (relative)", *results], rows)
