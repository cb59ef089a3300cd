"""The settings of a run, and the presets."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from experiments.harness.devices import ParallelOptions, ParallelRun
from experiments.harness.settings import (
    DISTINCT,
    BatchSize,
    EvaluateEvery,
    Form,
    LearningRate,
    Seeds,
    Size,
    Steps,
)

Cell = Literal["rnn", "lstm", "gru"]
Task = Annotated[
    str, Form("(adding|copy)-([2-9]|[1-9][0-9]{1,5})", "adding-T or copy-delay, from 2 to 999999")
]


@dataclass(frozen=True)
class Config:
    """Which cells learn which tasks."""

    preset: Literal["default", "full", "copy"] = "default"
    """Where the other settings' defaults come from."""
    tasks: Annotated[tuple[Task, ...], DISTINCT] = ("adding-100", "copy-30")
    """A task is adding-T or copy-delay."""
    cells: Annotated[tuple[Cell, ...], DISTINCT] = ("rnn", "lstm", "gru")
    hidden_size: Size = 64
    """Of the GRU; the others get the size with the nearest number of parameters."""
    seeds: Seeds = 2
    batch_size: BatchSize = 32
    steps: Steps = 1500
    learning_rate: LearningRate = 2e-3
    evaluate_every: EvaluateEvery = 250
    run: ParallelOptions = field(default_factory=ParallelRun)


PRESETS = {
    "default": Config(),
    "full": Config(
        preset="full",
        tasks=("adding-200", "adding-600", "copy-100", "copy-500"),
        seeds=3,
        steps=2000,
    ),
    "copy": Config(
        preset="copy",
        tasks=("copy-100",),
        cells=("lstm", "gru"),
        hidden_size=128,
        seeds=3,
        steps=30_000,
        learning_rate=3e-3,
        evaluate_every=1000,
    ),
}
