"""How fast is it? Our GRU and every peer, timed in turns in one process.

python -m experiments.benchmark                   # a quarter of an hour on two cores
python -m experiments.benchmark --preset quick    # a minute

Each round runs every implementation once, in random order; reported are minimum and
median over the rounds, and the ratio of medians to the fastest peer of the same workload and mode.
"forward" gives all states; "train" the gradients of a weighted sum of all states with respect to
all weights and the inputs. Compilation is timed apart.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import tyro
from tqdm import tqdm

from experiments import records
from experiments.benchmark_report import (
    DTYPES,
    markdown,
    markdown_memory,
    markdown_precision,
    plot,
    table,
)
from experiments.ours import OURS, ours
from experiments.peers import PEERS, flax_linen, plain_scan
from experiments.timing import Apply, Mode, Shape, draw, keep_to, on_jax, temporary_bytes, timed
from experiments.training import Run, launch

WORKLOADS = {
    "rl": Shape(128, 64, 64, 128),
    "mid": Shape(256, 32, 128, 256),
    "one": Shape(1000, 1, 64, 256),
    "big": Shape(128, 64, 512, 512),
    "long": Shape(8192, 4, 64, 64),
}
MODES: tuple[Mode, ...] = ("train", "forward")
BASE = Shape(steps=128, batch=32, inputs=64, hidden=128)
SWEEP: Mapping[str, tuple[int, ...]] = {
    "steps": (32, 128, 512, 2048),
    "batch": (1, 4, 16, 64, 256),
    "hidden": (32, 64, 128, 256, 512),
}
LENGTHS = (1_000, 10_000, 100_000)
SWEPT = ("gru_jax", "plain scan", "Flax linen", "PyTorch")
PACKAGES = ("flax", "dm-haiku", "equinox", "keras", "torch", "onnxruntime", "numpy")


@dataclasses.dataclass(frozen=True)
class Config:
    """What is timed."""

    preset: str = "default"
    """The defaults of everything else: "default" is the published benchmark, "quick" a glance."""
    workloads: tuple[str, ...] = tuple(WORKLOADS)
    """Which of rl, mid, one, big, long."""
    rounds: int = 20
    """How often each implementation runs."""
    cores: int = 2
    """The process keeps to this many cores; "gru_jax devices" has a CPU device for each."""
    tables: bool = True
    """Also how the time grows with T, B and H, what memory training takes, and bfloat16."""
    run: Annotated[Run, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Run)


PRESETS = {
    "default": Config(),
    "quick": Config(preset="quick", workloads=("rl", "one"), rounds=5, tables=False),
}


def main(config: Config) -> dict[str, Any]:
    """Times everything; writes a record and a figure.

    Args:
      config: what is timed.

    Returns:
      The results as they stand in the record.
    """
    keep_to(config.cores)
    surroundings = records.surroundings() | installed(PACKAGES)
    jax.block_until_ready(jax.jit(jnp.sin)(1.0))  # JAX's start is nobody's compile time
    everything = {**OURS, **PEERS}
    results: dict[str, Any] = {"workloads": {}}
    for name in config.workloads:
        shape = WORKLOADS[name]
        results["workloads"][name] = {"shape": shape._asdict()}
        for mode in MODES:
            entries = timed(f"{name} {mode}", shape, mode, everything, config.rounds)
            results["workloads"][name][mode] = {k: v._asdict() for k, v in entries.items()}
            print(table(f"{name} {mode}", entries))
    if config.tables:
        results["sweep"] = sweep(rounds=5)
        results["memory"] = memory()
        results["precision"] = precision(config.rounds)
    path = config.run.output / f"benchmark-{config.preset}.json"
    settings = records.settings_of(config)
    records.write_json(
        path, {"settings": settings, "surroundings": surroundings, "results": results}
    )
    plot(path.with_suffix(".png"), results)
    print(markdown(results["workloads"]))
    if config.tables:
        print(
            markdown_memory(results["memory"]), markdown_precision(results["precision"]), sep="\n"
        )
    return results


def installed(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are there."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def sweep(rounds: int) -> dict[str, Any]:
    """How the time grows with each size, the others held."""
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
    """bfloat16 weights and inputs with a float32 state, beside float32 throughout."""
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


if __name__ == "__main__":
    launch(main, PRESETS)
