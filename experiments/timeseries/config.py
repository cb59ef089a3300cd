"""The settings of a run, and the presets."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from experiments.harness.devices import ParallelOptions, ParallelRun
from experiments.harness.settings import (
    USAGE,
    BatchSize,
    EvaluateEvery,
    Interval,
    Layers,
    LearningRate,
    NotNegative,
    Rate,
    Seeds,
    Size,
    Steps,
    Use,
)


@dataclass(frozen=True)
class Config:
    """A classifier of utterances, or a forecaster of electricity demand."""

    preset: Literal["default", "demand"] = "default"
    """Where the other settings' defaults come from."""
    task: Literal["vowels", "demand"] = "vowels"
    """Whose utterance is it, or how much electricity will be used on the next day."""
    hidden_size: Size = 64
    """Of each direction of the classifier and of the forecaster's decoder, and of its encoder."""
    layers: Layers = 2
    dropout: Rate = 0.3
    """Rate on the states where they enter the products, one mask for all steps (Gal & Ghahramani
    2016)."""
    noise: NotNegative = 0.4
    """Standard deviation of what is added in training to every normalised frame of an utterance,
    or to all normalised demand that a forecast concerns."""
    days: Annotated[int, Interval("[1, 7]")] = 2
    """That the forecaster's encoder reads."""
    shift: Annotated[int, Interval("[0, 48]")] = 12
    """Half-hours by which the days that it learns from begin before or after midnight, at most."""
    folds: Annotated[int, Interval("[2, 10]")] = 5
    """Of the cross-validation of the classifier."""
    weight_decay: NotNegative = 1e-4
    batch_size: BatchSize = 32
    steps: Steps = 600
    learning_rate: LearningRate = 3e-3
    evaluate_every: EvaluateEvery = 100
    """Of the forecaster."""
    seeds: Seeds = 3
    use: Use = None
    table: Annotated[Path, USAGE] = Path("-")
    """With --use: the file to classify or to forecast from; "-" is standard input."""
    run: ParallelOptions = field(default_factory=ParallelRun)


PRESETS = {
    "default": Config(),
    "demand": Config(
        preset="demand",
        task="demand",
        layers=1,
        noise=0.3,
        weight_decay=1e-2,
        steps=2000,
        evaluate_every=200,
    ),
}
