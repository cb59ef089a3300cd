"""The settings of a run, and the presets."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from experiments.harness.devices import ParallelOptions, ParallelRun
from experiments.harness.settings import (
    DISTINCT,
    Count,
    EvaluateEvery,
    Form,
    Interval,
    NotNegative,
    Seeds,
    Size,
)

Task = Annotated[
    str,
    Form(
        r"t-maze-[1-9]\d{0,3}|repeat-([2-9]|[1-4]\d|5[01])|cart-pole-\d(\.\d+)?",
        "t-maze-N (a corridor of N steps), repeat-k (from 2 to 51) or cart-pole-σ (the noise)",
    ),
]
Policy = Literal["gru", "shifted", "feed-forward"]


@dataclass(frozen=True)
class Config:
    """Which policies learn which tasks."""

    preset: Literal["default", "full", "speed"] = "default"
    """Where the other settings' defaults come from."""
    tasks: Annotated[tuple[Task, ...], DISTINCT] = ("t-maze-20", "repeat-4", "cart-pole-0.1")
    """The environments."""
    policies: Annotated[tuple[Policy, ...], DISTINCT] = ("gru", "feed-forward")
    """With "shifted" a GRU's learner resets one step early: by the dones of the same step."""
    hidden_size: Size = 64
    learned_reset: bool = True
    """Whether the state that an episode begins with is learned; else it is zero."""
    seeds: Seeds = 5
    environments: Annotated[int, Interval("[4, 65536]", multiple_of=4)] = 32
    """Of each seed, run at once; an update's minibatches are four parts of them."""
    steps: Count = 128
    """Of a rollout."""
    evaluations: Count = 20
    """Points of the learning curve."""
    evaluate_every: EvaluateEvery = 20
    learning_rate: Annotated[float, Interval("(0, inf)")] = 1e-3
    """It falls linearly to zero."""
    entropy: NotNegative = 0.01
    """The weight of the entropy bonus."""
    episodes: Count = 1000
    """Of each seed's evaluation after training."""
    rounds: Annotated[int, Interval("[0, 1000]")] = 0
    """Instead of training, time updates beside Flax', so many times each in turns."""
    run: ParallelOptions = field(default_factory=ParallelRun)

    @property
    def updates(self) -> int:
        """Each of one rollout, four times over."""
        return self.evaluations * self.evaluate_every


PRESETS = {
    "default": Config(),
    "full": Config(
        preset="full",
        tasks=("t-maze-100", "repeat-8", "cart-pole-0.1"),
        policies=("gru", "shifted", "feed-forward"),
        environments=128,
        steps=256,
        evaluations=30,
        evaluate_every=10,
        learning_rate=5e-4,
    ),
    "speed": Config(preset="speed", tasks=("repeat-4",), learned_reset=False, rounds=20),
}
