"""The figure: learning curves and gradients."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.figures import saved_figure

COLOURS = {"rnn": "C3", "lstm": "C0", "gru": "k"}


def plot(path: Path, tasks: Mapping[str, Any]) -> None:
    """Learning curves, and the gradient's norm by time before and after training, to a PNG."""
    with saved_figure(path, 13, 3.2 * len(tasks)) as figure:
        grid = figure.subplots(len(tasks), 3, squeeze=False)
        for row, (task, found) in zip(grid, tasks.items(), strict=True):
            unit = "squared error" if task.startswith("adding") else "nats per symbol"
            for cell, run in found["cells"].items():
                steps = [entry["step"] for entry in run["history"]]
                curves = np.array([entry["validation_loss"] for entry in run["history"]], float)
                label = f"{cell}, {run['hidden_size']} units"
                row[0].semilogy(steps, curves.mean(axis=1), color=COLOURS[cell], label=label)
                row[0].semilogy(steps, curves, color=COLOURS[cell], alpha=0.25, linewidth=0.8)
                for axes, moment in zip(row[1:], ("before", "after"), strict=True):
                    norms = np.array(run[f"gradient_norms_{moment}"])
                    norms[norms < 1e-18] = np.nan  # whose squares are below what float32 can hold
                    axes.semilogy(
                        np.arange(1, len(norms) + 1), norms, color=COLOURS[cell], label=cell
                    )
            row[0].axhline(found["baseline"], color="grey", linestyle=":", label="without memory")
            row[0].set(title=task, xlabel="updates", ylabel=f"validation, {unit}")
            for axes, moment in zip(row[1:], ("before", "after"), strict=True):
                axes.set(
                    title=f"{task}: gradient {moment} training", xlabel="t", ylabel="|∂loss/∂h_t|"
                )
            for axes in row:
                axes.grid(alpha=0.3)
                axes.legend(frameon=False, fontsize=8)
