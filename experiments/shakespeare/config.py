"""The settings of a run, and the presets."""

from dataclasses import dataclass, field
from typing import Literal

from experiments.harness.command_line import LearningRate, Run, RunOptions


@dataclass(frozen=True)
class Config:
    """A character-level GRU language model of Shakespeare."""

    preset: Literal["default", "full"] = "default"
    """Where the other settings' defaults come from."""
    dataset: Literal["plays", "tiny"] = "plays"
    """38 whole plays, or tiny Shakespeare with nanoGPT's split."""
    layers: int = 1
    hidden_size: int = 384
    embedding_size: int = 64
    batch_size: int = 32
    """Streams read in parallel."""
    chunk_length: int = 64
    """Characters per stream and update; gradients stop at a chunk's beginning, states do not."""
    steps: int = 1000
    learning_rate: LearningRate = 4e-3
    dropout: float = 0.0
    """Rate between the layers, and on the last one's output with one mask for a whole chunk."""
    weight_dropout: float = 0.0
    """Rate on the recurrent weights (Merity et al. 2018, "weight-dropped")."""
    evaluate_every: int = 250
    patience: int | None = None
    """Stop after so many evaluations without improvement."""
    seed: int = 0
    prompt: str = "\n"
    sample_length: int = 1000
    temperature: float = 0.8
    run: RunOptions = field(default_factory=Run)


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
