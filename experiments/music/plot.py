"""The figures: learning curves, and piano rolls."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.harness.figures import saved_figure
from experiments.music.data import CORPORA

COLOURS = {"rnn": "C3", "lstm": "C0", "gru": "k"}
LEVELS = {"GRU (Chung et al. 2014)": "-", "TCN": "--"}
"""Which published losses are drawn, and how."""


class Continued(NamedTuple):
    """A piece whose opening was given."""

    title: str
    opening: np.ndarray  # [P, 88]
    written: np.ndarray  # [T, 88]


def plot(path: Path, datasets: Mapping[str, Any]) -> None:
    """The validation loss over the updates, of every data set and cell, to a PNG."""
    with saved_figure(path, 6.5 * len(datasets), 4.2) as figure:
        row = figure.subplots(1, len(datasets), squeeze=False)[0]
        for axes, (name, found) in zip(row, datasets.items(), strict=True):
            best = min(found["published"].values())
            for cell, run in found["cells"].items():
                steps = [entry["step"] for entry in run["history"]]
                curves = np.array([entry["validation_loss"] for entry in run["history"]], float)
                best = min(best, np.nanmin(curves))
                label = f"{cell}, {run['hidden_size']} units"
                axes.plot(steps, curves.mean(axis=1), color=COLOURS[cell], label=label)
                axes.plot(steps, curves, color=COLOURS[cell], alpha=0.25, linewidth=0.8)
            for label, style in LEVELS.items():
                level = found["published"][label]
                axes.axhline(level, color="grey", linestyle=style, label=f"{label}, test: {level}")
            axes.set(ylim=(best - 0.1, best + 1.4), xlabel="updates")
            axes.set(title=name, ylabel="validation, nats per frame")
            axes.grid(alpha=0.3)
            axes.legend(frameon=False, fontsize=8)


def plot_rolls(path: Path, pieces: Mapping[str, Continued]) -> None:
    """The openings in grey and what was written after them in colour, beats below, to a PNG."""
    with saved_figure(path, 11, 3.6 * len(pieces)) as figure:
        column = figure.subplots(len(pieces), 1, squeeze=False)[:, 0]
        for axes, (name, piece) in zip(column, pieces.items(), strict=True):
            beat, lowest = CORPORA[name].frames_per_beat, CORPORA[name].lowest
            given = len(piece.opening)
            for roll, start, colour in (
                (piece.opening, 0, "0.45"),
                (piece.written, given, "C0"),
            ):
                frames, notes = np.nonzero(roll)
                left = (frames + start) / beat
                axes.barh(notes + lowest, 1 / beat, left=left, height=0.9, color=colour)
            axes.axvline(given / beat, color="C3", linewidth=1)
            octaves = range(24, 109, 12)
            axes.set_yticks(octaves, [f"C{octave // 12 - 1}" for octave in octaves])
            sounding = np.nonzero(np.concatenate([piece.opening, piece.written]))[1] + lowest
            low, high = (sounding.min(), sounding.max()) if len(sounding) else (60, 72)
            axes.set(xlim=(0, (given + len(piece.written)) / beat), ylim=(low - 2, high + 2))
            axes.set(title=piece.title, xlabel="beats")
            axes.grid(alpha=0.3)
