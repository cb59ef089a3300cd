"""The settings of a run, and the presets."""

from dataclasses import dataclass, field
from typing import Literal

from experiments.harness.command_line import LearningRate, Run, RunOptions, Seeds


@dataclass(frozen=True)
class Config:
    """A classifier of sentences."""

    preset: Literal["default", "full"] = "default"
    """Where the other settings' defaults come from."""
    dataset: Literal["tweets", "sst2"] = "tweets"
    """Tweets in three classes, or the Stanford Sentiment Treebank's sentences in two."""
    embedding_size: int = 128
    hidden_size: int = 128
    """Of each direction."""
    length: int = 40
    """Words of a sentence that are read."""
    at_least: int = 2
    """How often a word must occur to be known."""
    dropout: float = 0.35
    """Rate on the embeddings, one mask for all words of a sentence, and on the pooled states."""
    word_dropout: float = 0.0
    """Rate at which words are replaced by the unknown word."""
    weight_decay: float = 1e-4
    batch_size: int = 64
    steps: int = 800
    learning_rate: LearningRate = 2e-3
    evaluate_every: int = 100
    seeds: Seeds = 3
    run: RunOptions = field(default_factory=Run)


PRESETS = {
    "default": Config(),
    "full": Config(
        preset="full", dataset="sst2", length=56, dropout=0.5, word_dropout=0.1, steps=1000
    ),
}
