"""The settings of a run."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from experiments.harness.devices import ParallelOptions, ParallelRun
from experiments.harness.settings import (
    DISTINCT,
    BatchSize,
    Count,
    EvaluateEvery,
    Interval,
    LearningRate,
    Steps,
)

Gain = Annotated[float, Interval("(0, 1000]")]
Length = Annotated[int, Interval("[2, 100000]")]
Units = Annotated[int, Interval("[1, 256]")]


@dataclass(frozen=True)
class Config:
    """Which recurrences are solved for all steps at once."""

    preset: Literal["default"] = "default"
    """Where the other settings' defaults come from."""
    lengths: Annotated[tuple[Length, ...], DISTINCT] = (100, 1000, 10_000, 100_000)
    """T."""
    timed_lengths: Annotated[tuple[Length, ...], DISTINCT] = (1000, 10_000)
    """T of which there are times and launches."""
    hidden_sizes: Annotated[tuple[Units, ...], DISTINCT] = (8, 32)
    """H, of the random weights and of the language models."""
    gains: Annotated[tuple[Gain, ...], DISTINCT] = (1.0, 2.0, 3.0, 4.0, 8.0)
    """What random recurrent weights, orthogonal per gate, are multiplied by."""
    draws: Count = 2
    """Of random weights and inputs."""
    max_iterations: Count = 50
    """Of Newton's method."""
    steps: Steps = 1000
    """Updates of the language models."""
    batch_size: BatchSize = 32
    """Streams of the text that they read in parallel."""
    learning_rate: LearningRate = 1e-2
    evaluate_every: EvaluateEvery = 250
    rounds: Annotated[int, Interval("[1, 10000]")] = 5
    """How often each implementation is timed."""
    run: ParallelOptions = field(default_factory=ParallelRun)


PRESETS = {"default": Config()}
