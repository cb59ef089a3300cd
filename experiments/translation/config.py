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
    Interval,
    Layers,
    LearningRate,
    Rate,
    Size,
    Steps,
    Use,
)


@dataclass(frozen=True)
class Config:
    """An encoder and a decoder."""

    preset: Literal["default", "full", "verses"] = "default"
    """Where the other settings' defaults come from."""
    dataset: Literal["cmudict", "verses", "tsv"] = "cmudict"
    """Words and their phonemes, verses in English and Spanish, or a file of yours."""
    tsv: Path | None = None
    """For --dataset tsv: a file with a source, a tab and its target in every line."""
    embedding_size: Size = 64
    hidden_size: Size = 192
    """Of each direction of the encoder's layers, and of the decoder's layers."""
    encoder_layers: Layers = 1
    dropout: Rate = 0.1
    """Rate on the inputs of every layer, one mask for all steps of a sequence."""
    label_smoothing: Rate = 0.1
    at_least: Count = 1
    """How often a token must occur in the training part to be known."""
    longest: Count = 20
    """Pairs with more tokens on either side are left out of training; of the test, none is."""
    batch_size: BatchSize = 128
    steps: Steps = 1500
    learning_rate: LearningRate = 2e-3
    evaluate_every: EvaluateEvery = 250
    use: Use = None
    lines: Annotated[Path, USAGE] = Path("-")
    """With --use: a file with a source in every line; "-" is standard input."""
    beam_size: Annotated[int, Interval("[1, 100]"), USAGE] = 5
    length_penalty: Annotated[float, Interval("[0, 10]"), USAGE] = 0.0
    """See `search.beam_search`."""
    run: ParallelOptions = field(default_factory=ParallelRun)


PRESETS = {
    "default": Config(),
    "full": Config(
        preset="full",
        hidden_size=512,
        dropout=0.2,
        steps=8000,
        evaluate_every=500,
    ),
    "verses": Config(
        preset="verses",
        dataset="verses",
        embedding_size=128,
        dropout=0.3,
        at_least=3,
        longest=30,
        batch_size=64,
        steps=2000,
        length_penalty=1.0,
    ),
}
