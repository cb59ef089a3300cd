"""How far a run has come: a bar on a terminal, elsewhere a line now and then; and its clock."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from tqdm import tqdm

from experiments.harness.files import is_first

INTERVAL = 10.0
"""Seconds between two lines."""


@contextmanager
def progress(total: int, done: int) -> Iterator[Callable[[int, Mapping[str, str]], None]]:
    """Shows the steps of a run on standard error; of several processes the first one does.

    Args:
      total: how many steps there are.
      done: how many of them were done before.

    Yields:
      A function that is told the steps done, and by their names what else is to be shown.
    """
    if not is_first():
        yield lambda step, shown: None
        return
    if sys.stderr.isatty():
        with tqdm(total=total, initial=done, unit="step", dynamic_ncols=True) as bar:

            def move(step: int, shown: Mapping[str, str]) -> None:
                bar.set_postfix(shown, refresh=False)
                bar.update(step - bar.n)

            yield move
        return

    start, last = time.monotonic(), -INTERVAL

    def write(step: int, shown: Mapping[str, str]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < INTERVAL and step < total:
            return
        last = now
        left = tqdm.format_interval((now - start) * (total - step) / max(step - done, 1))
        numbers = "".join(f", {name} {value}" for name, value in shown.items())
        print(f"step {step} of {total}, {left} left{numbers}", file=sys.stderr, flush=True)

    yield write


class Clock:
    """Seconds of training, those before a resumption included."""

    def __init__(self, history: list[dict[str, Any]]) -> None:
        names = ("seconds", "cpu_seconds")
        before = [history[-1][name] for name in names] if history else [0.0, 0.0]
        now = time.perf_counter(), time.process_time()
        self.origins = dict(zip(names, np.subtract(now, before).tolist(), strict=True))

    def read(self) -> dict[str, float]:
        """Seconds of the wall clock and of the processor."""
        return {
            "seconds": time.perf_counter() - self.origins["seconds"],
            "cpu_seconds": time.process_time() - self.origins["cpu_seconds"],
        }
