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
    LearningRate,
    Length,
    NotNegative,
    Rate,
    Seeds,
    Size,
    Steps,
    Use,
)


@dataclass(frozen=True)
class Config:
    """A classifier of sentences."""

    preset: Literal["default", "full"] = "default"
    """Where the other settings' defaults come from."""
    dataset: Literal["tweets", "sst2"] = "tweets"
    """Tweets in three classes, or the Stanford Sentiment Treebank's sentences in two."""
    embedding_size: Size = 128
    hidden_size: Size = 128
    """Of each direction."""
    length: Length = 40
    """Words of a sentence that are read."""
    words_at_least: Count = 2
    """How often a word must occur to be known."""
    pairs_at_least: Count = 3
    """How often a word must follow another for their pair to be known."""
    ngrams_at_least: Count = 20
    """How often an n-gram of letters must occur to be known."""
    dropout: Rate = 0.35
    """Rate on the embeddings, one mask for all words of a sentence, and on the pooled states."""
    piece_dropout: Rate = 0.5
    """Rate on the pieces of words: each is left out of its word's vector at this rate."""
    weight_decay: NotNegative = 1e-4
    average_decay: Rate = 0.99
    """Of the moving average of the parameters, which is evaluated and kept in their place."""
    batch_size: BatchSize = 64
    steps: Steps = 1200
    learning_rate: LearningRate = 2e-3
    evaluate_every: EvaluateEvery = 100
    seeds: Seeds = 3
    use: Use = None
    lines: Annotated[Path, USAGE] = Path("-")
    """With --use: a file with a sentence in every line; "-" is standard input."""
    run: ParallelOptions = field(default_factory=ParallelRun)


PRESETS = {
    "default": Config(),
    "full": Config(
        preset="full",
        dataset="sst2",
        hidden_size=64,
        length=56,
        pairs_at_least=2,
        ngrams_at_least=5,
        dropout=0.6,
        piece_dropout=0.7,
        steps=1000,
    ),
}
