"""The settings of a run, and the presets."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from experiments.harness.devices import ParallelOptions, ParallelRun
from experiments.harness.settings import (
    USAGE,
    BatchSize,
    EvaluateEvery,
    Interval,
    LearningRate,
    Length,
    Rate,
    Seeds,
    Size,
    Steps,
    Use,
)


@dataclass(frozen=True)
class Config:
    """A recommender."""

    preset: Literal["default", "full"] = "default"
    """Where the other settings' defaults come from."""
    dataset: Literal["ml100k", "beauty"] = "ml100k"
    """MovieLens-100K or Amazon Beauty."""
    embedding_size: Size = 64
    hidden_size: Size = 64
    dropout: Rate = 0.5
    """Rate on the items' vectors and on the states, drawn anew at each step."""
    negatives: Annotated[int, Interval("[0, 1000000]")] = 0
    """Items that the loss's sum over all items is estimated from; 0 takes all."""
    batch_size: BatchSize = 64
    """Rows read in parallel."""
    chunk_length: Length = 16
    """Steps to backpropagate through; the states go on from one chunk to the next."""
    steps: Steps = 1500
    learning_rate: LearningRate = 4e-3
    evaluate_every: EvaluateEvery = 150
    seeds: Seeds = 3
    use: Use = None
    items: Annotated[tuple[str, ...], USAGE] = ()
    """With --use: what you have chosen, in order: films by their titles or a part of them, products
    by their numbers."""
    run: ParallelOptions = field(default_factory=ParallelRun)


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
