"""Simulated behaviour: learners of known equations choose between two arms that reverse.

The learner has values Q and a trace C of its choices, of each arm and from zero in each session. It
chooses arm 1 with the probability σ(β (Q_1 − Q_0) + φ (C_1 − C_0)), and learns by the chosen arm's
reward r:

    Q ← Q + α (r − Q)   of the chosen arm        C ← C + τ (1 − C)
    Q ← (1 − f) Q       of the other             C ← (1 − τ) C

Learning rate α and forgetting rate f as in the DF-Q model of Ito & Doya 2009 and in Katahira 2015,
"The relation between reinforcement learning parameters and the influence of reinforcement history
on choice behavior", which also adds φ C, with τ = 1, for perseveration; a trace that decays as in
Akam et al. 2021. With f = α the choice would be a logistic regression on the past (Katahira).
"""

from typing import NamedTuple

import numpy as np

EVENTS = 4
"""What can happen in a trial: 2 · choice + reward."""
NAMES = ("arm 0, no reward", "arm 0, reward", "arm 1, no reward", "arm 1, reward")

REWARDED = 0.8  # the probability of the better arm's reward; of the other arm's 0.2
REVERSAL = 0.03  # the probability that the arms change places, in each trial


class Learner(NamedTuple):
    """The parameters of a learner, or of many, each an array."""

    learning: np.ndarray  # α
    forgetting: np.ndarray  # f
    value: np.ndarray  # β
    tracing: np.ndarray  # τ
    perseveration: np.ndarray  # φ


RANGES = Learner((0.2, 0.8), (0.0, 0.2), (1.5, 4.5), (0.2, 0.8), (-0.5, 1.5))  # type: ignore[arg-type]
"""Between which the parameters of the subjects are drawn."""


class Sessions(NamedTuple):
    """What a subject did, time-major; with a leading axis, several subjects."""

    choices: np.ndarray  # [T, S], 0 or 1
    xs: np.ndarray  # [T, S, EVENTS], one-hot: the trial before; zero before the first
    logits: np.ndarray  # [T, S], of the learner: what arm 1 is chosen with


def draw_learners(rng: np.random.Generator, subjects: int) -> Learner:
    """Parameters of subjects, `[N]` each."""
    return Learner(*(rng.uniform(low, high, subjects) for low, high in RANGES))


def simulate(rng: np.random.Generator, learners: Learner, sessions: int, trials: int) -> Sessions:
    """Behaviour of N learners: arrays `[N, T, S]`."""
    alpha, forget, beta, tau, phi = (p[:, None, None] for p in learners)
    count = len(learners.learning)
    q, trace = np.zeros((2, count, sessions, 2))
    better = rng.integers(0, 2, (count, sessions))
    xs = np.zeros((count, trials, sessions, EVENTS), np.float32)
    choices = np.zeros((count, trials, sessions), np.int8)
    logits = np.zeros((count, trials, sessions), np.float32)
    for t in range(trials):
        both = beta * q + phi * trace
        logits[:, t] = both[..., 1] - both[..., 0]
        choices[:, t] = rng.random((count, sessions)) < 1 / (1 + np.exp(-logits[:, t]))
        probability = np.where(choices[:, t] == better, REWARDED, 1 - REWARDED)
        rewards = rng.random((count, sessions)) < probability
        better ^= rng.random((count, sessions)) < REVERSAL
        if t + 1 < trials:
            xs[:, t + 1] = np.eye(EVENTS)[2 * choices[:, t] + rewards]
        chosen = np.eye(2)[choices[:, t]]
        q += chosen * alpha * (rewards[..., None] - q) - (1 - chosen) * forget * q
        trace += tau * (chosen - trace)
    return Sessions(choices, xs, logits)


def parts(sessions: Sessions, sizes: tuple[int, ...]) -> tuple[Sessions, ...]:
    """The first sessions of every subject, the next ones, and so on."""
    ends = np.cumsum(sizes)
    return tuple(
        Sessions(*(array[:, :, end - size : end] for array in sessions))
        for size, end in zip(sizes, ends, strict=True)
    )
