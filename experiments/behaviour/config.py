"""The settings of a run, and the presets."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from experiments.harness.devices import ParallelOptions, ParallelRun
from experiments.harness.settings import (
    DISTINCT,
    Count,
    EvaluateEvery,
    Interval,
    LearningRate,
)

Units = Annotated[int, Interval("[1, 64]")]


@dataclass(frozen=True)
class Config:
    """Whose behaviour is fitted, and by which GRUs."""

    preset: Literal["default", "full", "speed"] = "default"
    """Where the other settings' defaults come from."""
    subjects: Annotated[int, Interval("[1, 10000]")] = 100
    """Simulated, each with parameters of its own."""
    trials: Annotated[int, Interval("[20, 10000]")] = 100
    """Of a session."""
    training_sessions: Count = 20
    """Of each subject."""
    validation_sessions: Count = 10
    """They choose among evaluations and restarts."""
    test_sessions: Count = 20
    """Held out."""
    units: Annotated[tuple[Units, ...], DISTINCT] = (1, 2)
    """Of the GRUs."""
    restarts: Count = 3
    """Fits of one subject from different first parameters."""
    evaluations: Count = 10
    """In validation; the parameters of the best one are kept."""
    learning_rate: LearningRate = 3e-2
    evaluate_every: EvaluateEvery = 20
    rounds: Annotated[int, Interval("[0, 1000]")] = 0
    """Instead of fitting, time the fits beside Haiku's, so many times each in turns."""
    run: ParallelOptions = field(default_factory=ParallelRun)

    @property
    def steps(self) -> int:
        """Updates of a fit, each on all of a subject's training sessions."""
        return self.evaluations * self.evaluate_every


PRESETS = {
    "default": Config(),
    "full": Config(preset="full", training_sessions=40, units=(1, 2, 4, 8), evaluations=15),
    "speed": Config(preset="speed", units=(1, 2), evaluations=1, evaluate_every=10, rounds=5),
}
