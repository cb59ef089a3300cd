"""The settings of a run, and the presets."""

from dataclasses import dataclass, field
from typing import Literal

from experiments.harness.command_line import LearningRate, Run, RunOptions, Seeds


@dataclass(frozen=True)
class Config:
    """Which cells learn which tasks."""

    preset: Literal["default", "full"] = "default"
    """Where the other settings' defaults come from."""
    tasks: tuple[str, ...] = ("adding-100", "copy-30")
    """A task is adding-T or copy-delay."""
    cells: tuple[str, ...] = ("rnn", "lstm", "gru")
    hidden_size: int = 64
    """Of the GRU; the others get the size with the nearest number of parameters."""
    seeds: Seeds = 2
    batch_size: int = 32
    steps: int = 1500
    learning_rate: LearningRate = 2e-3
    evaluate_every: int = 250
    run: RunOptions = field(default_factory=Run)


PRESETS = {
    "default": Config(),
    "full": Config(
        preset="full",
        tasks=("adding-200", "adding-600", "copy-100", "copy-500"),
        seeds=3,
        steps=2000,
    ),
}
