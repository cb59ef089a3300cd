"""The settings of a run, and the presets."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from experiments.harness.devices import ParallelOptions, ParallelRun
from experiments.harness.settings import (
    DISTINCT,
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

Task = Literal["isolated", "connected"]


@dataclass(frozen=True)
class Config:
    """A recogniser of spoken digits."""

    preset: Literal["default", "full"] = "default"
    """Where the other settings' defaults come from."""
    tasks: Annotated[tuple[Task, ...], DISTINCT] = ("isolated", "connected")
    hidden_size: Size = 128
    """Of each direction."""
    layers: Layers = 2
    dropout: Rate = 0.3
    """Rate on the states between the layers; 0 where there is only one."""
    speed: Annotated[float, Interval("[1, 10]")] = 1.25
    """How a recording is distorted in training; see `data.Distortion`."""
    offset: NotNegative = 0.4
    noise: NotNegative = 0.1
    weight_decay: NotNegative = 1e-4
    batch_size: BatchSize = 32
    isolated_steps: Steps = 300
    connected_steps: Steps = 900
    learning_rate: LearningRate = 4e-3
    evaluate_every: EvaluateEvery = 100
    seeds: Seeds = 1
    use: Use = None
    recording: Annotated[Path | None, USAGE] = None
    """With --use: the recording whose digits are to be found; see `data.read_recording`."""
    width: Annotated[int, Interval("[1, 100]"), USAGE] = 8
    """Prefixes that the beam search keeps."""
    run: ParallelOptions = field(default_factory=ParallelRun)


PRESETS = {
    "default": Config(),
    "full": Config(preset="full", isolated_steps=600, connected_steps=1200, seeds=3),
}
