"""The time before the first step: tracing and compiling a gradient."""

import gc
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import gru_jax
from experiments.benchmark import models
from experiments.benchmark.config import WORKLOADS
from experiments.benchmark.peers import flax_nnx
from experiments.benchmark.timing import Apply, Shape, draw, loss_of
from experiments.harness.records import markdown_table

Make = Callable[[Shape], tuple[Any, Apply]]
PHASES = ("trace", "lower", "compile")
LAYERS = 4


def our_stack(shape: Shape) -> tuple[Any, Apply]:
    """`gru_stack_unroll` of bidirectional layers."""
    stack = gru_jax.init_gru_stack(
        jax.random.key(0), shape.inputs, (shape.hidden,) * LAYERS, bidirectional=True
    )
    return stack, lambda stack, xs: gru_jax.gru_stack_unroll(stack, None, xs)[1]


def linen_stack(shape: Shape) -> tuple[Any, Apply]:
    """`nn.Bidirectional` of `nn.RNN(nn.GRUCell)`, one after the other."""
    from flax import linen as nn

    def layer() -> Any:
        return nn.RNN(nn.GRUCell(shape.hidden), time_major=True)

    layers = nn.Sequential(
        [nn.Bidirectional(layer(), layer(), time_major=True) for _ in range(LAYERS)]
    )
    xs = jnp.zeros((shape.steps, shape.batch, shape.inputs))
    return layers.init(jax.random.key(0), xs), layers.apply


def plain_stack(shape: Shape) -> tuple[Any, Apply]:
    """`unroll(gru_step, ...)` of every layer and direction."""
    stack, _ = our_stack(shape)

    def apply(stack: Any, xs: jax.Array) -> jax.Array:
        for layer in stack.layers:
            run = partial(gru_jax.unroll, gru_jax.gru_step)
            both = run(layer.forward, None, xs), run(layer.backward, None, xs, reverse=True)
            xs = jnp.concatenate([hs for _, hs in both], axis=-1)
        return xs

    return stack, apply


PROGRAMS: Mapping[str, tuple[Shape, Mapping[str, Make]]] = {
    **{name: (WORKLOADS[name], {**models.MAKES, "Flax nnx": flax_nnx}) for name in WORKLOADS},
    f"{LAYERS} bidirectional layers": (
        Shape(128, 64, 64, 128),
        {"gru_jax": our_stack, "plain scan": plain_stack, "Flax linen": linen_stack},
    ),
}


def measure(rounds: int) -> dict[str, Any]:
    """Median seconds of each phase, every program compiled anew in each round."""
    results: dict[str, Any] = {}
    for name, (shape, makes) in PROGRAMS.items():
        made = {}
        for label, make in makes.items():
            try:
                made[label] = make(shape)
            except ImportError as reason:
                tqdm.write(f"{name}: {label} is skipped: {reason}")
        seconds: dict[str, list[list[float]]] = {label: [] for label in made}
        for _ in tqdm(range(rounds), f"{name}: rounds", leave=False, disable=None):
            for label, (weights, apply) in made.items():
                seconds[label].append(_phases(weights, apply, shape))
        results[name] = {
            label: dict(zip(PHASES, np.median(each, axis=0).tolist(), strict=True))
            for label, each in seconds.items()
        }
    return results


def _phases(weights: Any, apply: Apply, shape: Shape) -> list[float]:
    xs = jnp.asarray(draw(shape.steps, shape.batch, shape.inputs))
    width = jax.eval_shape(apply, weights, xs).shape
    out_weights = jnp.asarray(draw(*width))
    jax.clear_caches()
    gc.collect()
    clock = [time.perf_counter()]
    gradient = jax.jit(jax.value_and_grad(loss_of(apply), argnums=(0, 1)))
    traced = gradient.trace(weights, xs, out_weights)
    clock.append(time.perf_counter())
    lowered = traced.lower()
    clock.append(time.perf_counter())
    lowered.compile()
    clock.append(time.perf_counter())
    return np.diff(clock).tolist()


def markdown_compiling(results: Mapping[str, Any]) -> str:
    """The page's table: seconds to trace and lower / to compile."""
    labels = dict.fromkeys(label for each in results.values() for label in each)
    rows = []
    for label in labels:
        cells = [
            f"{each[label]['trace'] + each[label]['lower']:.2f} / {each[label]['compile']:.2f}"
            if label in each
            else "–"
            for each in results.values()
        ]
        rows.append([label, *cells])
    return markdown_table(["s, tracing / compiling", *results], rows)
