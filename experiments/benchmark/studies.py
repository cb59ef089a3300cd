"""What the tables show beyond the workloads: growth with each size, memory, and precision."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from tqdm import tqdm

from experiments.benchmark.config import MODES, WORKLOADS
from experiments.benchmark.ours import OURS, ours
from experiments.benchmark.peers import PEERS, flax_linen, plain_scan
from experiments.benchmark.report import DTYPES
from experiments.benchmark.timing import Apply, Shape, draw, on_jax, temporary_bytes, timed

BASE = Shape(steps=128, batch=32, inputs=64, hidden=128)
SWEEP: Mapping[str, tuple[int, ...]] = {
    "steps": (32, 128, 512, 2048),
    "batch": (1, 4, 16, 64, 256),
    "hidden": (32, 64, 128, 256, 512),
}
SWEPT = ("gru_jax", "plain scan", "Flax linen", "PyTorch")
LENGTHS = (1_000, 10_000, 100_000)


def sweep(rounds: int) -> dict[str, Any]:
    """How the time grows with each size, the others fixed."""
    implementations = {name: ({**OURS, **PEERS})[name] for name in SWEPT}
    results: dict[str, Any] = {}
    for axis, sizes in SWEEP.items():
        for mode in MODES:
            for size in sizes:
                shape = BASE._replace(**{axis: size})
                for name, entry in timed(
                    f"{axis} {size} {mode}", shape, mode, implementations, rounds
                ).items():
                    row = results.setdefault(axis, {}).setdefault(mode, {}).setdefault(name, {})
                    row[str(size)] = entry.median_ms
    return results


def memory() -> dict[str, dict[str, int]]:
    """Temporary bytes of the gradient of the last state, by implementation and T; compiled only."""
    results: dict[str, dict[str, int]] = {}
    for steps in LENGTHS:
        shape = Shape(steps, batch=4, inputs=64, hidden=64)
        makes = {
            f'gru_jax save="{save}"': partial(ours, save=save, part=0)
            for save in ("gates", "states", "chunks")
        } | {"plain scan": partial(plain_scan, part=0), "Flax linen": partial(flax_linen, part=0)}
        for name, make in makes.items():
            try:
                weights, apply = make(shape)
            except ImportError as reason:
                tqdm.write(f"memory: {name} is skipped: {reason}")
                continue

            def loss(weights: Any, xs: jax.Array, apply: Apply = apply) -> jax.Array:
                return jnp.sum(apply(weights, xs))

            xs = jax.ShapeDtypeStruct((steps, shape.batch, shape.inputs), jnp.float32)
            program = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(weights, xs).compile()
            results.setdefault(name, {})[str(steps)] = temporary_bytes(program)
    return results


def precision(rounds: int) -> dict[str, dict[str, float]]:
    """bfloat16 weights and inputs with a float32 state, compared with float32 throughout."""
    makes = {name: partial(ours, dtype=name) for name in DTYPES}
    results: dict[str, dict[str, float]] = {}
    for workload in ("rl", "big"):
        shape = WORKLOADS[workload]
        xs = jnp.asarray(draw(shape.steps, shape.batch, shape.inputs))
        found = {}
        for name, make in makes.items():
            params, apply = make(shape)

            def loss(params: Any, apply: Apply = apply, xs: Any = xs) -> Any:
                hs = apply(params, xs)
                return jnp.sum(hs**2), hs

            gradient, hs = jax.jit(jax.grad(loss, has_aux=True))(params)
            found[name] = hs, gradient.w_h.astype(jnp.float32)
        errors = [jnp.max(jnp.abs(a - b)) for a, b in zip(*found.values(), strict=True)]
        results[workload] = {
            "largest_error_of_hs": float(errors[0]),
            "largest_error_of_dw_h": float(errors[1] / jnp.max(jnp.abs(found["float32"][1]))),
        }
        for mode in MODES:
            both = {name: partial(on_jax, make) for name, make in makes.items()}
            for name, entry in timed(f"{workload} {mode}", shape, mode, both, rounds).items():
                results[workload][f"{mode}_{name}_ms"] = entry.median_ms
    return results
