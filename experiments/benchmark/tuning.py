"""What each item of the library's tuning for XLA on CPU gains: `--preset tuning`."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from experiments.benchmark.ours import ours
from experiments.benchmark.timing import Implementation, Mode, Ready, Shape, on_jax
from experiments.harness.records import markdown_table
from gru_jax.recurrence import cpu, platforms, scan
from gru_jax.recurrence import interface as library

ALL = "gru_jax"


def by(implementation: library.Implementation, shape: Shape, mode: Mode) -> Ready:
    """`gru_unroll` compiled with another implementation of the recurrence."""
    with platforms.replaced("cpu", implementation):
        return on_jax(ours, shape, mode)


TUNING: Mapping[str, Implementation] = {
    ALL: partial(by, cpu.tuned()),
    **{
        f"without {item}": partial(by, cpu.tuned(cpu.ALL._replace(**{item: False})))
        for item in cpu.Tuning._fields
    },
    "without all": partial(by, scan.SCAN),
}
"""The library, and the library without one item of its tuning."""


def markdown_tuning(workloads: Mapping[str, Any]) -> str:
    """The page's table: the time without an item, relative to that with all of them."""
    rows = []
    for name in TUNING:
        if name == ALL:
            continue
        cells = [
            " / ".join(
                f"{modes[mode][name]['median_ms'] / modes[mode][ALL]['median_ms']:.2f}"
                for mode in ("train", "forward")
            )
            for modes in workloads.values()
        ]
        rows.append([name, *cells])
    return markdown_table(["train / forward, relative", *workloads], rows)
