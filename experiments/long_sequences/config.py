"""The settings of a run, and the presets."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from experiments.harness.devices import ParallelOptions, ParallelRun
from experiments.harness.settings import (
    DISTINCT,
    GIVEN,
    BatchSize,
    Count,
    LearningRate,
    Length,
    Size,
)

Lengths = Annotated[tuple[Length, ...], DISTINCT]


@dataclass(frozen=True)
class Config:
    """How long the sequences are, and how far back gradients reach."""

    preset: Literal["default", "full"] = "default"
    """Where the other settings' defaults come from."""
    length: Length = 100_000
    """T, the characters of a sequence that is trained on."""
    batch_size: BatchSize = 1
    """Such sequences, one after the other in the text, that are trained on at once."""
    hidden_size: Size = 64
    embedding_size: Size = 32
    measured: Lengths = (1_000, 10_000, 100_000)
    """The lengths at which time and memory of a pass are measured."""
    rounds: Count = 3
    """Timed passes of each; of short sequences a round has more."""
    compared: Length = 20_000
    """The characters over which truncated gradients are compared with the exact one."""
    truncations: Lengths = (1, 4, 10, 40, 100, 400, 1_000, 4_000)
    """The lengths of their segments, which divide that."""
    segments: Lengths = (100, 1_000, 10_000, 100_000)
    """Training makes an update after each segment, by its exact gradient; they divide T. The first
    one is that of truncated backpropagation where time and memory are measured, and once more
    that of training where segments overlap."""
    learning_rates: Annotated[tuple[LearningRate, ...], GIVEN] = (2e-3, 5e-3, 1e-2, 2e-2)
    """At their peaks, one for each of the segments."""
    epochs: Count = 10
    """Passes through whole sequences."""
    run: ParallelOptions = field(default_factory=ParallelRun)


PRESETS = {
    "default": Config(),
    "full": Config(
        preset="full",
        length=1_000_000,
        measured=(1_000, 10_000, 100_000, 1_000_000),
        compared=100_000,
        truncations=(1, 4, 10, 40, 100, 400, 1_000, 4_000, 10_000),
        segments=(100, 1_000, 10_000, 100_000, 1_000_000),
        learning_rates=(2e-3, 5e-3, 1e-2, 2e-2, 5e-2),
    ),
}
