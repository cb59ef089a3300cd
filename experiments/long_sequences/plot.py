"""The figure: memory and time by T, gradients by truncation, and learning curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.figures import saved_figure
from experiments.long_sequences.cost import microseconds_per_step

LIMIT = 2048
"""MiB."""


def plot(path: Path, results: Mapping[str, Any]) -> None:
    """Draws the figure to a PNG.

    Args:
      path: of the PNG.
      results: those of a record.
    """
    with saved_figure(path, 16, 4.2) as figure:
        memory, time, gradients, learning = figure.subplots(1, 4)
        for i, (name, entries) in enumerate(results["costs"].items()):
            lengths = [int(length) for length in entries]
            peaks = [entry["peak_mebibytes"] for entry in entries.values()]
            times = [microseconds_per_step(e, int(n)) for n, e in entries.items()]
            memory.loglog(lengths, peaks, "o-", color=f"C{i}", markersize=4, label=name)
            time.semilogx(lengths, times, "o-", color=f"C{i}", markersize=4, label=name)
        memory.axhline(LIMIT, color="grey", linestyle=":", label="2 GiB")
        memory.set(title="peak resident memory of a process", xlabel="T", ylabel="MiB")
        time.set(title="a pass", xlabel="T", ylabel="µs of CPU per step", ylim=(0, None))
        _gradients(gradients, results["gradients"])
        for i, (segment, found) in enumerate(results["training"].items()):
            history = found["history"]
            epochs = np.arange(1, len(history) + 1)
            losses = [entry["validation_loss"] for entry in history]
            label = f"after every {segment}"
            learning.plot(epochs, losses, "o-", color=f"C{i}", markersize=4, label=label)
        level = results["baselines"]["trigram"]
        learning.axhline(level, color="grey", linestyle=":", label="trigram")
        learning.set(title="an update", xlabel="epochs", ylabel="validation, nats per character")
        for axes in (memory, time, gradients, learning):
            axes.grid(alpha=0.3)
            place = "lower left" if axes is gradients else "best"
            axes.legend(frameon=False, fontsize=8, loc=place)


def _gradients(axes: Any, found: Mapping[str, Any]) -> None:
    """The relative error of truncated gradients by the length of the segments."""
    for colour, (model, ways) in zip(("C7", "C0"), found.items(), strict=True):
        for style, (way, entries) in zip(("o-", "s--"), ways.items(), strict=True):
            errors = [entry["relative_error"] for entry in entries.values()]
            lengths = [int(length) for length in entries]
            axes.loglog(lengths, errors, style, color=colour, markersize=4, label=f"{model}, {way}")
    axes.set(title="error of the gradient", xlabel="steps of a segment", ylabel="relative")
