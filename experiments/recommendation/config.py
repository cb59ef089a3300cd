"""The settings of a run, and the presets."""

from dataclasses import dataclass, field
from typing import Literal

from experiments.harness.command_line import LearningRate, Run, RunOptions, Seeds


@dataclass(frozen=True)
class Config:
    """A recommender."""

    preset: Literal["default", "full"] = "default"
    """Where the other settings' defaults come from."""
    dataset: Literal["ml100k", "beauty"] = "ml100k"
    """MovieLens-100K or Amazon Beauty."""
    embedding_size: int = 64
    hidden_size: int = 64
    dropout: float = 0.5
    """Rate on the items' vectors and on the states, drawn anew at each step."""
    negatives: int = 0
    """Items that the loss's sum over all items is estimated from; 0 takes all."""
    batch_size: int = 64
    """Rows read in parallel."""
    chunk_length: int = 16
    """Steps to backpropagate through; the states go on from one chunk to the next."""
    steps: int = 1500
    learning_rate: LearningRate = 4e-3
    evaluate_every: int = 150
    seeds: Seeds = 3
    run: RunOptions = field(default_factory=Run)


PRESETS = {
    "default": Config(),
    "full": Config(
        preset="full",
        dataset="beauty",
        hidden_size=128,
        negatives=1024,
        batch_size=128,
        chunk_length=10,
        steps=2400,
        evaluate_every=200,
    ),
}
