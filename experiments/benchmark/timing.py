"""Timing implementations of one function in turns, in one process."""

import gc
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

Mode = Literal["forward", "train"]


class Shape(NamedTuple):
    """The sizes of one workload."""

    steps: int
    batch: int
    inputs: int
    hidden: int


class Ready(NamedTuple):
    """An implementation ready to be timed."""

    call: Callable[[], object]  # one run, finished when it returns
    compile_seconds: float | None = None
    temporary_bytes: int | None = None


class Problem(NamedTuple):
    """What is compiled of an implementation."""

    function: Callable[..., Any]
    args: tuple[Any, ...]


class Entry(NamedTuple):
    """One implementation's result on one workload."""

    median_ms: float
    min_ms: float
    ratio: float  # of medians, to the fastest peer
    compile_seconds: float | None
    temporary_bytes: int | None


class UnsupportedError(Exception):
    """An implementation that cannot run this workload here; its message says why."""


Apply = Callable[[Any, jax.Array], jax.Array]
"""`(weights, xs) -> hs`, in the implementation's own layout."""
Implementation = Callable[[Shape, Mode], Ready]


def draw(*shape: int) -> np.ndarray:
    """The same normal numbers for every implementation."""
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def problem(
    apply: Apply, weights: Any, xs: jax.Array, out_weights: jax.Array, mode: Mode
) -> Problem:
    """The forward pass, or the gradient with respect to the weights and the inputs."""

    def forward(weights: Any, xs: jax.Array, out_weights: jax.Array) -> jax.Array:
        return apply(weights, xs)

    function = forward if mode == "forward" else jax.value_and_grad(loss_of(apply), argnums=(0, 1))
    return Problem(function, (weights, xs, out_weights))


def loss_of(apply: Apply) -> Callable[[Any, jax.Array, jax.Array], jax.Array]:
    """`(weights, xs, out_weights)`: a weighted sum of all states."""
    return lambda weights, xs, out_weights: jnp.sum(apply(weights, xs) * out_weights)


def ready(function: Callable[..., Any], *args: Any) -> Ready:
    """Traces and compiles a function."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*args).compile()
    seconds = time.perf_counter() - start
    return Ready(lambda: jax.block_until_ready(program(*args)), seconds, temporary_bytes(program))


def temporary_bytes(program: Any) -> int:
    """The memory that a compiled program needs besides its arguments and results."""
    size: int = program.memory_analysis().temp_size_in_bytes
    return size


def time_major(make: Callable[[Shape], tuple[Any, Apply]], shape: Shape, mode: Mode) -> Problem:
    """What is compiled of a time-major implementation."""
    weights, apply = make(shape)
    xs = jnp.asarray(draw(shape.steps, shape.batch, shape.inputs))
    out_weights = jnp.asarray(draw(shape.steps, shape.batch, shape.hidden))
    return problem(apply, weights, xs, out_weights, mode)


def on_jax(make: Callable[[Shape], tuple[Any, Apply]], shape: Shape, mode: Mode) -> Ready:
    """A time-major implementation on one device."""
    return compiled(partial(time_major, make), shape, mode)


def compiled(made: Callable[[Shape, Mode], Problem], shape: Shape, mode: Mode) -> Ready:
    """An implementation on one device."""
    function, args = made(shape, mode)
    return ready(function, *args)


def pin_to_cores(cores: int) -> None:
    """Binds the process, and those it starts, to some of its cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def timed(
    title: str, shape: Shape, mode: Mode, implementations: Mapping[str, Implementation], rounds: int
) -> dict[str, Entry]:
    """Compiles all implementations, then runs each once per round, in random order."""
    made: dict[str, Ready] = {}
    for name, make in tqdm(
        implementations.items(), f"{title}: compiling", leave=False, disable=None
    ):
        try:
            made[name] = make(shape, mode)
        except (ImportError, UnsupportedError) as reason:
            tqdm.write(f"{title}: {name} is skipped: {reason}")
    for each in made.values():
        each.call()
    names = list(made)
    times: dict[str, list[float]] = {name: [] for name in names}
    shuffler = np.random.default_rng(0)
    for _ in tqdm(range(rounds), f"{title}: rounds", leave=False, disable=None):
        # in another order each time: some libraries' idle threads spin on into their successor's
        for name in shuffler.permutation(names):
            start = time.perf_counter()
            made[name].call()
            times[name].append(1e3 * (time.perf_counter() - start))
    medians = {name: float(np.median(times[name])) for name in names}
    foreign = [medians[name] for name in names if not name.startswith("gru_jax")]
    fastest = min(foreign, default=float("nan"))
    entries = {
        name: Entry(
            medians[name],
            min(times[name]),
            medians[name] / fastest,
            made[name].compile_seconds,
            made[name].temporary_bytes,
        )
        for name in names
    }
    made.clear()
    gc.collect()
    return entries
