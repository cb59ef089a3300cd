"""The settings of a run, and the presets."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from experiments.harness.devices import ParallelOptions, ParallelRun
from experiments.harness.settings import (
    USAGE,
    BatchSize,
    Count,
    EvaluateEvery,
    Form,
    Interval,
    Layers,
    LearningRate,
    Length,
    Rate,
    Size,
    Steps,
    Use,
)

Seed = Interval("[0, 4294967295]")


@dataclass(frozen=True)
class Config:
    """A character-level GRU language model of Shakespeare."""

    preset: Literal["default", "full"] = "default"
    """Where the other settings' defaults come from."""
    dataset: Literal["plays", "tiny"] = "plays"
    """38 whole plays, or tiny Shakespeare with nanoGPT's split."""
    text: Path | None = None
    """A text file of yours instead; its last tenth is for validation."""
    layers: Layers = 1
    hidden_size: Size = 384
    embedding_size: Size = 64
    batch_size: BatchSize = 32
    """Streams read in parallel."""
    chunk_length: Length = 64
    """Characters per stream and update; gradients stop at a chunk's beginning, states do not."""
    steps: Steps = 1000
    learning_rate: LearningRate = 4e-3
    dropout: Rate = 0.0
    """Rate between the layers, and on the last one's output with one mask for a whole chunk."""
    weight_dropout: Rate = 0.0
    """Rate on the recurrent weights (Merity et al. 2018, "weight-dropped")."""
    evaluate_every: EvaluateEvery = 250
    patience: Count | None = None
    """Stop after so many evaluations without improvement."""
    seed: Annotated[int, Seed] = 0
    use: Use = None
    prompt: Annotated[str, Form(".+", "of one character or more"), USAGE] = "\n"
    """What the sample continues."""
    sample_length: Annotated[int, Interval("[0, 1000000]"), USAGE] = 1000
    """Characters that the model writes."""
    sample_seed: Annotated[int, Seed, USAGE] = 0
    """Another one draws another sample."""
    temperature: Annotated[float, Interval("[0, 1000]"), USAGE] = 0.8
    """0 takes the most probable character, 1 draws from the model's distribution."""
    run: ParallelOptions = field(default_factory=ParallelRun)


PRESETS = {
    "default": Config(),
    "full": Config(
        preset="full",
        dataset="tiny",
        hidden_size=768,
        batch_size=64,
        chunk_length=128,
        steps=1500,
        learning_rate=3e-3,
        dropout=0.4,
        weight_dropout=0.3,
        evaluate_every=100,
    ),
}
