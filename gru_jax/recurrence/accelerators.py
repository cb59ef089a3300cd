"""The scan for XLA on GPUs and TPUs, whose loops take their time from the number of operations.

Each is a kernel that is launched, however little it computes. How many there are is counted by
`python -m experiments.benchmark --preset accelerators`, in programs that were compiled, not run.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from .._checks import is_symbolic
from .._ops import product
from . import scan
from .chunks import chunk_length
from .interface import Implementation, PerGate

STEPS = 8
"""Steps per iteration, or more if `unroll` asks for them. The counter of the loop and the copies
into the arrays of all steps, one for each of them, are made once for all steps of an iteration."""


def _slots(w: jax.Array, gates: int) -> PerGate:
    """One gradient per gate: else XLA copies the cotangents of all gates next to each other."""
    return tuple(jnp.split(w, gates, axis=1))


def _slotted(x: jax.Array, w: PerGate, dtype: DTypeLike) -> PerGate:
    return tuple(product(x, each, dtype) for each in w)


PRODUCTS = scan.PRODUCTS._replace(slots=_slots, slotted=_slotted)


def implementation(steps: int = STEPS) -> Implementation:
    """The scan with at least so many steps per iteration."""

    def run(recurrence: Callable[..., scan.Stretch], *args: Any) -> tuple[Any, Any]:
        cell, options, weights, carry, inputs = args
        length = jax.tree.leaves(inputs)[0].shape[0]
        if not is_symbolic(length):
            unroll = max(options.unroll, chunk_length(length, steps))
            options = replace(options, unroll=unroll)
        return recurrence(PRODUCTS, cell, options, weights)(carry, inputs)

    return Implementation(partial(run, scan.states), partial(run, scan.tangents))


SCAN = implementation()
