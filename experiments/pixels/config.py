"""The settings of a run, and the presets."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from experiments.harness.devices import ParallelOptions, ParallelRun
from experiments.harness.settings import (
    DISTINCT,
    USAGE,
    EvaluateEvery,
    Interval,
    LearningRate,
    NotNegative,
    Seeds,
    Size,
    Steps,
    Use,
)
from experiments.pixels.data import Order


@dataclass(frozen=True)
class Config:
    """A GRU that is shown an image a few pixels at a time."""

    preset: Literal["default", "full", "permuted"] = "default"
    """Where the other settings' defaults come from."""
    orders: Annotated[tuple[Order, ...], DISTINCT] = ("sequential", "permuted")
    """The pixels row by row from the top, or in an order drawn once for all images."""
    permutation: Annotated[int, Interval("[0, 4294967295]")] = 0
    """Seed of that order."""
    pixels_per_step: Literal[1, 2, 4, 7, 14, 28] = 28
    """1 makes sequences of 784 steps, 28 of the image's 28 rows."""
    hidden_size: Size = 128
    row_weight: NotNegative = 0.3
    """Of the mean loss after 28, 56, ... 784 pixels, which is added to that after the last one."""
    batch_size: Annotated[int, Interval("[1, 55000]")] = 100
    """Images in an update."""
    steps: Steps = 2200
    learning_rate: LearningRate = 4e-3
    evaluate_every: EvaluateEvery = 550
    seeds: Seeds = 3
    use: Use = None
    image: Annotated[Path | None, USAGE] = None
    """With --use: an image of one digit, which is to be recognised; see `data.read_image`."""
    run: ParallelOptions = field(default_factory=ParallelRun)


PRESETS = {
    "default": Config(),
    "full": Config(
        preset="full",
        orders=("sequential",),
        pixels_per_step=1,
        steps=11000,
        learning_rate=6e-3,
        seeds=1,
    ),
    "permuted": Config(
        preset="permuted",
        orders=("permuted",),
        pixels_per_step=1,
        steps=12100,
        learning_rate=6e-3,
        seeds=1,
    ),
}
