"""Figures: one way to save them, and the curve of losses."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.files import replacing


@contextmanager
def saved_figure(path: Path, width: float, height: float) -> Iterator[Any]:
    """A matplotlib `Figure`, in inches, that is saved as a PNG when the block ends.

    Args:
      path: of the PNG, which is written whole or not at all.
      width: of the figure.
      height: of the figure.
    """
    from matplotlib.figure import Figure  # without pyplot: no window system is asked for

    figure = Figure(figsize=(width, height), layout="constrained")
    yield figure
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def plot_losses(
    path: Path,
    title: str,
    history: Sequence[Mapping[str, Any]],
    unit: str,
    *,
    baselines: Mapping[str, float] | None = None,
) -> None:
    """Draws training and validation loss over the updates, baselines as level lines, to a PNG.

    Args:
      path: of the PNG.
      title: of the figure.
      history: one entry per evaluation, as `fit` returns it; several seeds are several lines.
      unit: of the losses.
      baselines: levels by name.
    """
    with saved_figure(path, 7, 4.2) as figure:
        axes = figure.subplots()
        steps = [entry["step"] for entry in history]
        for name, colour in (("training_loss", "C7"), ("validation_loss", "C0")):
            curves = np.array([entry[name] for entry in history], float).reshape(len(steps), -1)
            labels = [name.replace("_", " ")] + [None] * (curves.shape[1] - 1)
            axes.plot(steps, curves, colour, label=labels)
        for i, (name, level) in enumerate((baselines or {}).items()):
            axes.axhline(level, color=f"C{i + 1}", linestyle=":", label=f"{name} {level:.3f}")
        axes.set(title=title, xlabel="updates", ylabel=unit)
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
