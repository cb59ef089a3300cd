"""The tables of README.md, from a record."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from experiments.harness.records import markdown_table
from experiments.time_parallel.launches import CHIP, KERNEL
from experiments.time_parallel.speed import JACOBIANS, MODES, SCAN

EPS = float(jnp.finfo(jnp.float32).eps)
NAMES = {SCAN: "`gru_unroll`", "full": "parallel, full", "diagonal": "parallel, diagonal"}


def summary(record: Mapping[str, Any]) -> dict[str, str]:
    """The tables that README.md shows."""
    results = record["results"]
    tables = {
        "models": models_table(results["models"]),
        "iterations": iterations_table(results["solved"]),
        "residuals": residuals_table(results["solved"]),
        "times": times_table(results["times"]),
    }
    if results["launches"]:
        tables["launches"] = launches_table(results["launches"], results["times"])
    return tables


def models_table(models: Mapping[str, Any]) -> str:
    """How well the language models predict."""
    cells = [f"{model['validation_loss']:.3f}" for model in models.values()]
    return markdown_table(["H", *models], [["nats per character, trained", *cells]])


def iterations_table(solved: Sequence[Mapping[str, Any]]) -> str:
    """Full / diagonal, the most of all draws, by kind of weights and T."""
    lengths = list(solved[0]["lengths"])
    head = ["weights", "H", "exponent", *(f"T = {int(steps):,}" for steps in lengths)]
    rows = []
    for found in solved:
        cells = [
            " / ".join(shown(found["lengths"][steps][jacobian]) for jacobian in JACOBIANS)
            for steps in lengths
        ]
        exponents = found["lyapunov"]
        mean = sum(exponents) / len(exponents)
        rows.append([found["weights"], str(found["hidden_size"]), f"{mean:+.3f}", *cells])
    return markdown_table(head, rows)


def shown(solutions: Mapping[str, Any]) -> str:
    """The most iterations of all draws, or how many draws did not converge."""
    count = len(solutions["converged"])
    failed = count - sum(solutions["converged"])
    most = str(max(solutions["iterations"]))
    return most if not failed else "–" if failed == count else f"{most} ({failed} of {count} –)"


def residuals_table(solved: Sequence[Mapping[str, Any]]) -> str:
    """By T the largest residual, and how far any is above the scan's, in epsilons of float32."""
    rows = []
    for steps in solved[0]["lengths"]:
        entries = [found["lengths"][steps] for found in solved]
        scans = [residual for entry in entries for residual in entry["scan"]]
        cells = []
        for jacobian in JACOBIANS:
            residuals = [each for entry in entries for each in entry[jacobian]["residual"]]
            above = max(a - b for a, b in zip(residuals, scans, strict=True))
            cells.append(f"{max(residuals) / EPS:.1f} ({above / EPS:+.1f})")
        rows.append([f"{int(steps):,}", *cells, f"{max(scans) / EPS:.1f}"])
    return markdown_table(["T", *(NAMES[name] for name in (*JACOBIANS, SCAN))], rows)


def label(shape: Mapping[str, int]) -> str:
    """A column's head."""
    return f"T = {shape['steps']:,}, H = {shape['hidden']}"


def times_table(times: Sequence[Mapping[str, Any]]) -> str:
    """Milliseconds, forward / train."""
    rows = []
    for name, title in NAMES.items():
        cells = [
            " / ".join(f"{each[mode][name]['median_ms']:.1f}" for mode in MODES) for each in times
        ]
        rows.append([title, *cells])
    return markdown_table(["ms, forward / train", *(label(each["shape"]) for each in times)], rows)


def launches_table(counts: Sequence[Mapping[str, Any]], times: Sequence[Mapping[str, Any]]) -> str:
    """Launches of one call with the iterations that the times were measured with."""
    rows = []
    for name, title in {**NAMES, KERNEL: "kernel"}.items():
        cells = []
        for each, timed in zip(counts, times, strict=True):
            iterations = timed["iterations"].get(name, 0)
            cells.append(
                " / ".join(
                    f"{found['outside'] + iterations * found['iteration']:,}" if found else "–"
                    for found in (each[mode].get(name) for mode in MODES)
                )
            )
        rows.append([title, *cells])
    head = f"launches on {CHIP}, forward / train"
    return markdown_table([head, *(label(each["shape"]) for each in counts)], rows)
