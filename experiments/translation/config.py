"""The settings of a run, and the presets."""

from dataclasses import dataclass, field
from typing import Literal

from experiments.harness.command_line import LearningRate, Run, RunOptions


@dataclass(frozen=True)
class Config:
    """An encoder and a decoder."""

    preset: Literal["default", "full", "verses"] = "default"
    """Where the other settings' defaults come from."""
    dataset: Literal["cmudict", "verses", "tsv"] = "cmudict"
    """Words and their phonemes, verses in English and Spanish, or a file of yours."""
    tsv: str = ""
    """For --dataset tsv: a file with a source, a tab and its target in every line."""
    embedding_size: int = 64
    hidden_size: int = 192
    """Of each direction of the encoder's layers, and of the decoder's layers."""
    encoder_layers: int = 1
    dropout: float = 0.1
    """Rate on the inputs of every layer, one mask for all steps of a sequence."""
    label_smoothing: float = 0.1
    at_least: int = 1
    """How often a token must occur in the training part to be known."""
    longest: int = 20
    """Pairs with more tokens on either side are left out of training; of the test, none is."""
    batch_size: int = 128
    steps: int = 1500
    learning_rate: LearningRate = 2e-3
    evaluate_every: int = 250
    beam_size: int = 5
    length_penalty: float = 0.0
    """See `search.beam_search`."""
    run: RunOptions = field(default_factory=Run)


PRESETS = {
    "default": Config(),
    "full": Config(preset="full", hidden_size=256, steps=8000, evaluate_every=500),
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
