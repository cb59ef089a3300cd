"""Sequences that reward a long memory: the adding problem and copy memory.

The adding problem (Hochreiter & Schmidhuber 1997; lengths and baseline as in Le et al. 2015): T
random numbers, two of them marked, one in each half; the answer is their sum. Copy memory (Arjovsky
et al. 2016): ten symbols, a long delay, then the same ten symbols again.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

SYMBOLS = 8  # to be copied; two more are a blank and the sign to begin
COPIED = 10


class Batch(NamedTuple):
    """Sequences and what to answer to them."""

    xs: Any  # [T, B, I]
    targets: Any  # numbers [B], or symbols [10, B]


def adding(rng: np.random.Generator, steps: int, batch_size: int) -> Batch:
    """Numbers in [0, 1) and marks `[T, B, 2]`; the sum of the two marked ones `[B]`."""
    numbers = rng.random((steps, batch_size), np.float32)
    marks = np.zeros_like(numbers)
    rows = np.arange(batch_size)
    marks[rng.integers(0, steps // 2, batch_size), rows] = 1
    marks[rng.integers(steps // 2, steps, batch_size), rows] = 1
    return Batch(np.stack([numbers, marks], axis=-1), np.sum(numbers * marks, axis=0))


def copy(rng: np.random.Generator, delay: int, batch_size: int) -> Batch:
    """One-hot `[20 + delay, B, 10]`: ten symbols, blanks, the sign to begin, blanks."""
    symbols = rng.integers(0, SYMBOLS, (COPIED, batch_size))
    tokens = np.full((delay + 2 * COPIED, batch_size), SYMBOLS)
    tokens[:COPIED] = symbols
    tokens[COPIED + delay - 1] = SYMBOLS + 1
    return Batch(np.eye(SYMBOLS + 2, dtype=np.float32)[tokens], symbols)


def task_of(name: str) -> tuple[Callable[..., Batch], int, float]:
    """A task's generator, its length, and the expected loss of remembering nothing."""
    kind, _, length = name.partition("-")
    # the sum of two uniform numbers has variance 1/6; the best guess of a symbol is each with 1/8
    return (adding, int(length), 1 / 6) if kind == "adding" else (copy, int(length), math.log(8))
