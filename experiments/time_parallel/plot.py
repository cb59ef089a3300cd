"""The figure: iterations by Lyapunov exponent, residuals by iteration, and times by T."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.figures import saved_figure
from experiments.time_parallel.speed import JACOBIANS, SCAN

COLOURS = {"full": "C0", "diagonal": "C1", SCAN: "k"}
MARKERS = "ov^sDP*"


def plot(path: Path, results: Mapping[str, Any]) -> None:
    """Draws a record's results to a PNG."""
    solved = results["solved"]
    hidden = max(found["hidden_size"] for found in solved)
    with saved_figure(path, 12, 8.4) as figure:
        (first, second), (third, fourth) = figure.subplots(2, 2)
        _iterations(first, solved)
        _times(second, results["times"])
        for axes, jacobian in zip((third, fourth), JACOBIANS, strict=True):
            _curves(axes, [f for f in solved if f["hidden_size"] == hidden], jacobian)
            axes.set_title(f"{jacobian}, H = {hidden}; dotted: without safeguard")
        for axes in (first, second, third, fourth):
            axes.grid(alpha=0.3)
            axes.legend(frameon=False, fontsize=8)


def _iterations(axes: Any, solved: Sequence[Mapping[str, Any]]) -> None:
    """Every draw a point, hollow where the iterations did not suffice."""
    lengths = list(solved[0]["lengths"])
    for found in solved:
        for marker, steps in zip(MARKERS, lengths, strict=False):
            for jacobian in JACOBIANS:
                entry, colour = found["lengths"][steps][jacobian], COLOURS[jacobian]
                style = {"marker": marker, "color": colour, "markersize": 5, "alpha": 0.8}
                for x, y, converged in zip(
                    found["lyapunov"], entry["iterations"], entry["converged"], strict=True
                ):
                    face = colour if converged else "none"
                    axes.plot([x], [y], linestyle="none", markerfacecolor=face, **style)
    for jacobian in JACOBIANS:
        axes.plot([], [], "s", color=COLOURS[jacobian], label=jacobian)
    for marker, steps in zip(MARKERS, lengths, strict=False):
        axes.plot([], [], marker, color="C7", label=f"T = {int(steps):,}")
    axes.plot([], [], "o", color="C7", markerfacecolor="none", label="not converged")
    axes.axvline(0, color="C7", linewidth=0.8)
    axes.set(xlabel="largest Lyapunov exponent, per step", ylabel="iterations")
    axes.set_ylim(bottom=0)


def _curves(axes: Any, solved: Sequence[Mapping[str, Any]], jacobian: str) -> None:
    """The residual before each iteration; what is not finite is missing."""
    for i, found in enumerate(solved):
        curves = found["curves"][jacobian]
        for name, style, label in (("safeguarded", "-", found["weights"]), ("plain", ":", None)):
            residuals = np.array(curves[name], float)  # null is NaN
            axes.semilogy(residuals, style, color=f"C{i}", label=label)
    axes.set(xlabel="iteration", ylabel="residual", ylim=(1e-8, 1e2))


def _times(axes: Any, times: Sequence[Mapping[str, Any]]) -> None:
    """Of the forward pass, relative to `gru_unroll`."""
    labels = [f"{each['shape']['steps']:,}\nH = {each['shape']['hidden']}" for each in times]
    for i, jacobian in enumerate(JACOBIANS):
        for mode, alpha in (("forward", 1.0), ("train", 0.5)):
            ratios = [
                each[mode][jacobian]["median_ms"] / each[mode][SCAN]["median_ms"] for each in times
            ]
            places = np.arange(len(times)) + 0.4 * i + 0.2 * (mode == "train")
            label = f"{jacobian}, {mode}"
            axes.bar(places, ratios, 0.18, color=COLOURS[jacobian], alpha=alpha, label=label)
    axes.axhline(1, color="k", linewidth=0.8, label=SCAN)
    axes.set_xticks(np.arange(len(times)) + 0.3, labels)
    axes.set(
        yscale="log", ylabel="time on this processor / gru_unroll's", xlabel="T", ylim=(0.5, 1000)
    )
