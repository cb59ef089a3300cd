"""Times every implementation in turns, in one process.

Each round runs every implementation once, in random order; reported are minimum and
median over the rounds, and the ratio of medians to the fastest peer of the same workload and mode.
"forward" gives all states; "train" the gradients of a weighted sum of all states with respect to
all weights and the inputs. Compilation is timed separately.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmark import (
    accelerators,
    chip_report,
    compiling,
    derivatives,
    models,
    parallel,
    pods,
    streaming,
    studies,
)
from experiments.benchmark.config import MODES, WORKLOADS, Config
from experiments.benchmark.ours import OURS
from experiments.benchmark.peers import PEERS
from experiments.benchmark.report import (
    markdown,
    markdown_memory,
    markdown_precision,
    plot,
    plot_models,
    table,
)
from experiments.benchmark.timing import pin_to_cores, timed
from experiments.benchmark.tuning import TUNING, markdown_tuning
from experiments.harness.runs import begun
from experiments.harness.settings import check

PACKAGES = (
    *("flax", "dm-haiku", "equinox", "keras", "torch", "onnxruntime", "numpy"),
    *("jax-cuda12-plugin", "nvidia-cuda-nvcc-cu12", "libtpu"),
)


def main(config: Config) -> dict[str, Any]:
    """Times everything; writes a record and a figure.

    Args:
      config: what is timed.

    Returns:
      The results as they stand in the record.
    """
    check(config)
    pin_to_cores(config.cores)
    with begun(config) as run:
        run.environment = dict(run.environment) | installed(PACKAGES)
        jax.block_until_ready(jax.jit(jnp.sin)(1.0))  # JAX's own start-up is not compile time
        results = MEASURES[config.compare](config)
        record = run.write_record(results)
        if config.compare == "libraries":
            plot(run.record.with_suffix(".png"), results)
        elif config.compare == "models":
            plot_models(run.record.with_suffix(".png"), results["curve"])
        elif config.compare == "accelerators" and results["chips"]:
            chip_report.plot(run.record.with_suffix(".png"), results["chips"])
        print(*summary(record).values(), sep="\n")
        run.conclude(f"measured: {config.compare}")
    return results


def time_workloads(config: Config) -> dict[str, Any]:
    """Times every implementation on every workload."""
    everything = TUNING if config.compare == "tuning" else {**OURS, **PEERS}
    results: dict[str, Any] = {"workloads": {}}
    for name in config.workloads:
        shape = WORKLOADS[name]
        results["workloads"][name] = {"shape": shape._asdict()}
        for mode in MODES:
            entries = timed(f"{name} {mode}", shape, mode, everything, config.rounds)
            results["workloads"][name][mode] = {k: v._asdict() for k, v in entries.items()}
            print(table(f"{name} {mode}", entries), flush=True)
    if config.tables:
        results["sweep"] = studies.sweep(rounds=5)
        results["memory"] = studies.memory()
        results["precision"] = studies.precision(config.rounds)
    return results


MEASURES: Mapping[str, Callable[[Config], dict[str, Any]]] = {
    "libraries": time_workloads,
    "tuning": time_workloads,
    "models": lambda config: models.measure(config.rounds),
    "derivatives": lambda config: derivatives.measure(config.rounds),
    "streaming": lambda config: streaming.measure(config.rounds),
    "compile": lambda config: compiling.measure(config.rounds),
    "devices": lambda config: parallel.measure(config.workloads, config.rounds),
    "accelerators": lambda config: accelerators.measure(config.workloads, config.rounds),
    "pods": lambda config: pods.measure(),
}


TABLES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "tuning": lambda results: markdown_tuning(results["workloads"]),
    "models": lambda results: models.markdown_models(results["workloads"]),
    "derivatives": derivatives.markdown_derivatives,
    "streaming": streaming.markdown_streaming,
    "compile": compiling.markdown_compiling,
    "pods": pods.markdown_pods,
    "devices": parallel.markdown_parallel,
}
"""Of each comparison that has one table."""


def summary(record: Mapping[str, Any]) -> dict[str, str]:
    """The tables of a record that the page shows."""
    results, compare = record["results"], record["settings"].get("compare")
    if compare in TABLES:
        return {compare: TABLES[compare](results)}
    if compare == "accelerators":
        return chip_report.tables(results)
    tables = {"times": markdown(results["workloads"], [*OURS, *PEERS])}
    if record["settings"]["tables"]:
        tables["memory"] = markdown_memory(results["memory"])
        tables["precision"] = markdown_precision(results["precision"])
    return tables


def installed(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are there."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
