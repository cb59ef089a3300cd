"""Streaming: the time of one step, a call of its own, one row at a time."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import gru_jax
from experiments.benchmark.ours import our_params
from experiments.benchmark.peers import onnx_session
from experiments.benchmark.timing import Implementation, Mode, Ready, Shape, draw, timed
from experiments.harness.records import markdown_table

SIZES = (64, 256, 1024)
"""I = H."""
CALLS = 100
"""Steps of one measurement, each from the state of the one before."""
Step = Callable[[Any, jax.Array, jax.Array], jax.Array]
"""`(weights, h [1, H], x [1, I]) -> h'`."""
Make = Callable[[Shape], tuple[Any, Step]]


def our_step(shape: Shape, **options: Any) -> tuple[Any, Step]:
    """`gru_step`."""
    return our_params(shape, **options), gru_jax.gru_step


def our_stack_step(shape: Shape) -> tuple[Any, Step]:
    """`gru_stack_step` of one layer."""
    stack = gru_jax.GRUStack((our_params(shape),))

    def step(stack: Any, h: jax.Array, x: jax.Array) -> jax.Array:
        return gru_jax.gru_stack_step(stack, (h,), x)[1]

    return stack, step


def flax_cell(shape: Shape) -> tuple[Any, Step]:
    """`nn.GRUCell` of Flax linen."""
    from flax import linen as nn

    cell = nn.GRUCell(shape.hidden)
    h, x = jnp.zeros((1, shape.hidden)), jnp.zeros((1, shape.inputs))
    return cell.init(jax.random.key(0), h, x), lambda weights, h, x: cell.apply(weights, h, x)[0]


def equinox_cell(shape: Shape) -> tuple[Any, Step]:
    """`eqx.nn.GRUCell`, which takes a row without a batch axis."""
    import equinox as eqx

    cell = eqx.nn.GRUCell(shape.inputs, shape.hidden, key=jax.random.key(0))
    weights, rest = eqx.partition(cell, eqx.is_array)
    return weights, lambda weights, h, x: eqx.combine(weights, rest)(x[0], h[0])[None]


def on_jax(make: Make, closed: bool, shape: Shape, mode: Mode) -> Ready:
    """A step under jit, its weights closed over or its first argument."""
    assert mode == "forward"
    weights, step = make(shape)
    run = jax.jit(partial(step, weights)) if closed else partial(jax.jit(step), weights)
    x = jnp.asarray(draw(1, shape.inputs))

    def call() -> object:
        h = jnp.zeros((1, shape.hidden))
        for _ in range(CALLS):
            h = run(h, x)
        return jax.block_until_ready(h)

    return Ready(call)


def torch_cell(shape: Shape, mode: Mode) -> Ready:
    """`torch.nn.GRUCell`."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    cell = torch.nn.GRUCell(shape.inputs, shape.hidden)
    x = torch.from_numpy(draw(1, shape.inputs))

    def call() -> object:
        h = torch.zeros(1, shape.hidden)
        with torch.inference_mode():
            for _ in range(CALLS):
                h = cell(x, h)
        return h

    return Ready(call)


def onnx_step(shape: Shape, mode: Mode) -> Ready:
    """A GRU node with T = 1."""
    session, x = onnx_session(shape), draw(1, 1, shape.inputs)

    def call() -> object:
        h = draw(1, 1, shape.hidden)
        for _ in range(CALLS):
            (h,) = session.run(["Y_h"], {"X": x, "initial_h": h})
        return h

    return Ready(call)


MAKES: Mapping[str, Make] = {
    "gru_jax": our_step,
    "gru_jax before": partial(our_step, reset="before"),
    "gru_jax stack": our_stack_step,
    "Flax linen": flax_cell,
    "Equinox": equinox_cell,
}
OTHERS: Mapping[str, Implementation] = {"PyTorch": torch_cell, "onnxruntime": onnx_step}
"""Those that hold their weights themselves."""


def measure(rounds: int) -> dict[str, Any]:
    """Every size by every implementation, weights closed over and as arguments."""
    results: dict[str, Any] = {}
    for hidden in SIZES:
        for weights in ("closed over", "arguments"):
            everything: dict[str, Implementation] = {
                name: partial(on_jax, make, weights == "closed over")
                for name, make in MAKES.items()
            }
            name, shape = f"H = {hidden}, {weights}", Shape(1, 1, hidden, hidden)
            entries = timed(name, shape, "forward", {**everything, **OTHERS}, rounds)
            results[name] = {label: entry._asdict() for label, entry in entries.items()}
    return results


def markdown_streaming(results: Mapping[str, Any]) -> str:
    """The page's table: microseconds per step."""
    rows = []
    for label in (*MAKES, *OTHERS):
        cells = [
            f"{1e3 * each[label]['median_ms'] / CALLS:.1f}" if label in each else "–"
            for each in results.values()
        ]
        rows.append([label, *cells])
    return markdown_table(["µs per step", *results], rows)
