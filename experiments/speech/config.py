"""The settings of a run, and the presets."""

from dataclasses import dataclass, field
from typing import Literal

from experiments.harness.command_line import LearningRate, Run, RunOptions, Seeds

Task = Literal["isolated", "connected"]


@dataclass(frozen=True)
class Config:
    """A recogniser of spoken digits."""

    preset: Literal["default", "full"] = "default"
    """Where the other settings' defaults come from."""
    tasks: tuple[Task, ...] = ("isolated", "connected")
    hidden_size: int = 128
    """Of each direction."""
    layers: int = 2
    dropout: float = 0.3
    """Rate on the states between the layers; 0 where there is only one."""
    speed: float = 1.25
    """How a recording is distorted in training; see `data.Distortion`."""
    offset: float = 0.4
    noise: float = 0.1
    weight_decay: float = 1e-4
    batch_size: int = 32
    isolated_steps: int = 300
    connected_steps: int = 900
    learning_rate: LearningRate = 4e-3
    evaluate_every: int = 100
    width: int = 8
    """Prefixes that the beam search keeps."""
    seeds: Seeds = 1
    run: RunOptions = field(default_factory=Run)


PRESETS = {
    "default": Config(),
    "full": Config(preset="full", isolated_steps=600, connected_steps=1200, seeds=3),
}
