"""The contract table: one row for each cell, and one for each implementation over time.

`test_contract*.py` run over every row. A new cell needs its equations in oracle.py and a row in
CELLS, which also makes a row for `unroll` of its step; a faster implementation needs a row in
IMPLEMENTATIONS, whose `supports` leaves out what it does not support. Kernels run in their
simulator, by `-m simulator`.
"""

import dataclasses
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, partial
from typing import Any, NamedTuple

import gpu_simulator
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from common import B, H, I, T, as_float64, random_inputs, randomised, weighted_sum

import gru_jax
from gru_jax.recurrence import accelerators, platforms, tpu


class Cell(NamedTuple):
    """A cell."""

    init: Callable[..., Any]  # (key, input_size, hidden_size, dtype=...) -> params
    step: Callable[..., Any]  # (params, h, x) -> h'
    oracle: Callable[..., Any]  # the step of one row in NumPy
    gates: int
    optional_bias: bool = True  # whether the biases may be None


CELLS = {
    "gru before": Cell(gru_jax.init_gru, gru_jax.gru_step, oracle.gru_step, 3),
    "gru after": Cell(
        partial(gru_jax.init_gru, reset="after"), gru_jax.gru_step, oracle.gru_step, 3
    ),
    "rnn": Cell(gru_jax.init_rnn, gru_jax.rnn_step, oracle.rnn_step, 1),
    "lstm": Cell(gru_jax.init_lstm, gru_jax.lstm_step, oracle.lstm_step, 4),
    "mgu": Cell(gru_jax.init_mgu, gru_jax.mgu_step, oracle.mgu_step, 2),
    "layer_norm_gru apart": Cell(
        gru_jax.init_layer_norm_gru,
        gru_jax.layer_norm_gru_step,
        oracle.layer_norm_gru_step,
        3,
        optional_bias=False,
    ),
    "layer_norm_gru together": Cell(
        partial(gru_jax.init_layer_norm_gru, norm="together"),
        gru_jax.layer_norm_gru_step,
        oracle.layer_norm_gru_step,
        3,
        optional_bias=False,
    ),
    "min_gru": Cell(gru_jax.init_min_gru, gru_jax.min_gru_step, oracle.min_gru_step, 2),
}

SCAN = frozenset({"mask", "resets", "reset_state", "reverse", "unroll"})
"""What `unroll` supports: keyword arguments, ..."""
NUMBERS = frozenset({"no bias", "float64", "bfloat16", "mixed precision"})
"""... parameters and dtypes, ..."""
TRANSFORMATIONS = frozenset({"vmap", "second derivatives"})
"""... and transformations."""
NOISE = frozenset({"state_scale", "unit_mask", "zoneout"})
"""What `gru_unroll` supports besides."""


def supports(cell):
    """What is supported by `unroll` of a cell's step."""
    return SCAN | TRANSFORMATIONS | NUMBERS - (set() if CELLS[cell].optional_bias else {"no bias"})


class Implementation(NamedTuple):
    """A function over time, `(params, h0, xs, **keywords) -> (h_last, hs)`, of one of the CELLS."""

    cell: str
    run: Callable[..., tuple[Any, Any]]
    supports: frozenset[str]
    platform: Any = None  # what replaces the implementation of the platform CPU, if anything
    marks: tuple[Any, ...] = ()  # of pytest

    @property
    def is_plain(self) -> bool:
        """Whether it is `unroll` of the step, which the others are compared with."""
        return isinstance(self.run, partial) and self.run.func is gru_jax.unroll


def plain(cell):
    """`unroll` of a cell's step."""
    return Implementation(cell, partial(gru_jax.unroll, CELLS[cell].step), supports(cell))


IMPLEMENTATIONS = {f"unroll {cell}": plain(cell) for cell in CELLS}
for reset in ("before", "after"):
    for save in ("gates", "states", "chunks"):
        IMPLEMENTATIONS[f"gru_unroll {reset} {save}"] = Implementation(
            f"gru {reset}",
            partial(gru_jax.gru_unroll, save=save),
            supports(f"gru {reset}") | NOISE,
        )
    IMPLEMENTATIONS[f"gru_unroll {reset}, accelerators"] = Implementation(
        f"gru {reset}",
        gru_jax.gru_unroll,
        supports(f"gru {reset}") | NOISE,
        accelerators.implementation(steps=2),  # T = 5 is two iterations and one step
    )
    IMPLEMENTATIONS[f"gru_unroll {reset}, TPU kernel"] = Implementation(
        f"gru {reset}",
        partial(gru_jax.gru_unroll, implementation="pallas"),
        (supports(f"gru {reset}") | NOISE) - {"float64", "bfloat16"},
        tpu.implementation(interpret=True),
        (pytest.mark.simulator,),
    )
    IMPLEMENTATIONS[f"gru_unroll {reset}, GPU kernel"] = Implementation(
        f"gru {reset}",
        partial(gru_jax.gru_unroll, implementation="pallas"),
        (supports(f"gru {reset}") | NOISE) - {"float64"},
        gpu_simulator.IMPLEMENTATION,
        (pytest.mark.simulator, gpu_simulator.needs_jax),
    )
IMPLEMENTATIONS["min_gru_unroll"] = Implementation(
    "min_gru", gru_jax.min_gru_unroll, supports("min_gru") - {"unroll"}
)


EVERYTHING = "mask resets reset_states"
"""Keyword arguments for `problem`."""


def each_cell(**where):
    """Runs a test for every cell, or for those with these fields."""
    names = [
        name
        for name, cell in CELLS.items()
        if all(getattr(cell, field) == value for field, value in where.items())
    ]
    return pytest.mark.parametrize("cell", names)


def each_implementation(*features):
    """Runs a test for every implementation that supports these features."""
    return pytest.mark.parametrize("name", supporting(*features))


def supporting(*features):
    """The names of the implementations that support these features, with their marks."""
    return [
        pytest.param(name, marks=row.marks)
        for name, row in IMPLEMENTATIONS.items()
        if row.supports.issuperset(features)
    ]


def on_platform(row):
    """While it lasts, a row of IMPLEMENTATIONS runs as on its platform."""
    if row is None or row.platform is None:
        return nullcontext()
    return platforms.replaced("cpu", row.platform)


def random_problem(cell, *, batch=(B,), steps=T, bias=True, dtype=np.float32, state=None, seed=0):
    """Random parameters, no bias zero, with a first state and inputs `[T, *batch, I]`."""
    params = randomised(CELLS[cell].init(jax.random.key(0), I, H, dtype=dtype), seed)
    if not bias:
        names = {"b", "b_hn"} & {field.name for field in dataclasses.fields(params)}
        params = dataclasses.replace(params, **dict.fromkeys(names))
    h0 = randomised(gru_jax.zero_state(params, batch), seed + 1)
    h0 = jax.tree.map(lambda leaf: leaf.astype(state or dtype), h0)
    return params, h0, random_inputs(seed, batch=batch, steps=steps, dtype=dtype)[1]


def random_keywords(names, h0, xs):
    """Values for keyword arguments of an implementation.

    The last row is masked in all steps; `reset_state` has no batch axes, "reset_states" has.
    """
    steps, batch = xs.shape[0], xs.shape[1:-1]
    rng = np.random.default_rng(7)
    mask = rng.random((steps, *batch)) < 0.7
    if batch:
        mask[:, -1] = False
    h = jax.tree.leaves(h0)[0]

    def normal(leaf, first=0):
        return jnp.asarray(rng.normal(size=leaf.shape[first:]), leaf.dtype)

    values = {
        "mask": jnp.asarray(mask),
        "resets": jnp.asarray(rng.random((steps, *batch)) < 0.4),
        "reset_state": jax.tree.map(partial(normal, first=len(batch)), h0),
        "reset_states": jax.tree.map(normal, h0),
        "state_scale": jnp.asarray(rng.integers(0, 2, h.shape) * 2, h.dtype),
        "unit_mask": jnp.asarray(rng.random((steps, *h.shape)) < 0.6),
    }
    return {name.replace("states", "state"): values[name] for name in names.split()}


def problem(name, keywords="", **shapes):
    """An implementation's function, and all its arguments that are arrays, by name."""
    row = IMPLEMENTATIONS[name]
    params, h0, xs = random_problem(row.cell, **shapes)
    return row.run, {"params": params, "h0": h0, "xs": xs} | random_keywords(keywords, h0, xs)


def split(arrays):
    """The arguments that are differentiated, and the others."""
    names = {"params", "h0", "xs", "reset_state"} & set(arrays)
    return (
        {name: arrays[name] for name in sorted(names)},
        {name: value for name, value in arrays.items() if name not in names},
    )


def outputs_and_gradients(run, arrays, **static):
    """`(h_last, hs)`, and the gradients of a weighted sum of both by the name of the argument."""

    def loss(differentiated, others):
        result = run(**differentiated, **others, **static)
        return weighted_sum(result), result

    compiled = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, result), gradients = compiled(*split(arrays))
    return result, gradients


@cache  # compiled once for all faster implementations
def plain_gradients(cell, keywords, reverse=False, **shapes):
    """`outputs_and_gradients` of `unroll` of a cell's step."""
    run, arrays = problem(f"unroll {cell}", keywords, **shapes)
    return outputs_and_gradients(run, arrays, reverse=reverse)


def oracle_outputs(name, arrays, **static):
    """`(h_last, hs)` of NumPy, as leaves."""
    step = CELLS[IMPLEMENTATIONS[name].cell].oracle
    return jax.tree.leaves(oracle.unroll(step, **as_float64(arrays), **static))
