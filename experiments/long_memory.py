"""Why gates? A tanh RNN, an LSTM and a GRU of equal size where a long memory is rewarded.

python -m experiments.long_memory                  # a few minutes on two cores
python -m experiments.long_memory --preset full    # the recorded run
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

import gru_jax
from experiments import long_memory_plot, records, training
from experiments.long_memory_data import COPIED, SYMBOLS, Batch, task_of

EVALUATED = 1000  # sequences, for validation and for test each


@dataclass(frozen=True)
class Config:
    """Which cells learn which tasks."""

    preset: Literal["default", "full"] = "default"
    """Where the other settings' defaults come from."""
    tasks: tuple[str, ...] = ("adding-100", "copy-30")
    """A task is adding-T or copy-delay."""
    cells: tuple[str, ...] = ("rnn", "lstm", "gru")
    hidden_size: int = 64
    """Of the GRU; the others get the size with the nearest number of parameters."""
    seeds: int = 2
    """Trained side by side by vmap."""
    batch_size: int = 32
    steps: int = 1500
    learning_rate: float = 2e-3
    """At its peak: it rises linearly for a twentieth of the steps, then falls along a cosine."""
    evaluate_every: int = 250
    run: Annotated[training.Run, tyro.conf.arg(name="")] = field(default_factory=training.Run)


PRESETS = {
    "default": Config(),
    "full": Config(
        preset="full",
        tasks=("adding-200", "adding-600", "copy-100", "copy-500"),
        seeds=3,
        steps=2000,
    ),
}


class Result(NamedTuple):
    """What a run found."""

    tasks: dict[str, Any]  # by task: the baseline, and by cell what `learn` returns


class Model(NamedTuple):
    """The parameters: a cell and a linear read-out of its state."""

    cell: Any
    head: gru_jax.ReadoutParams


class Cell(NamedTuple):
    """What is compared."""

    init: Callable[..., Any]
    step: Callable[..., Any]
    keeps: tuple[int, ...]  # per gate, whether to keep (1) or to overwrite (-1) the state


CELLS: Mapping[str, Cell] = {
    "rnn": Cell(gru_jax.init_rnn, gru_jax.rnn_step, (0,)),
    "lstm": Cell(gru_jax.init_lstm, gru_jax.lstm_step, (-1, 1, 0, 0)),
    "gru": Cell(gru_jax.init_gru, gru_jax.gru_step, (-1, 0, 0)),
}


def size_of(cell: str, inputs: int, gru_size: int) -> int:
    """The hidden size with as many parameters as a GRU of `gru_size`, as nearly as can be."""
    gates = len(CELLS[cell].keeps)
    wanted = 3 * gru_size * (gru_size + inputs + 1)
    return min(range(1, 4 * gru_size), key=lambda h: abs(gates * h * (h + inputs + 1) - wanted))


def init_model(key: jax.Array, cell: str, batch: Batch, gru_size: int) -> Model:
    """Draws the parameters for such batches.

    The gates' biases let the units keep their state for 1 to T steps at first (Tallec & Ollivier
    2018, "chrono initialization"); a tanh RNN has no gate for that.
    """
    steps, _, inputs = batch.xs.shape
    outputs = 1 if batch.targets.ndim == 1 else SYMBOLS
    size = size_of(cell, inputs, gru_size)
    cell_key, bias_key, head_key = jax.random.split(key, 3)
    params = CELLS[cell].init(cell_key, inputs, size)
    times = jax.random.uniform(bias_key, (size,), minval=1.0, maxval=steps - 1.0)
    b = jnp.concatenate([keep * jnp.log(times) for keep in CELLS[cell].keeps])
    return Model(dataclasses.replace(params, b=b), gru_jax.init_readout(head_key, size, outputs))


def answer_loss(head: gru_jax.ReadoutParams, hs: Any, targets: jax.Array) -> jax.Array:
    """Squared error of the sum, or nats per copied symbol, from all states `[T, B, H]`."""
    hs = jax.tree.leaves(hs)[0]  # of an LSTM's state the output
    if targets.ndim == 1:
        return jnp.mean((gru_jax.readout(head, hs[-1])[:, 0] - targets) ** 2)
    logits = gru_jax.readout(head, hs[-COPIED:])
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, targets))


def loss_of(cell: str, model: Model, batch: Batch) -> jax.Array:
    """The loss of a batch."""
    h0 = gru_jax.zero_state(model.cell, batch.xs.shape[1:2])
    step = CELLS[cell].step
    unroll = gru_jax.gru_unroll if cell == "gru" else partial(gru_jax.unroll, step)
    _, hs = unroll(model.cell, h0, batch.xs)
    return answer_loss(model.head, hs, jnp.asarray(batch.targets))


def gradient_norms(cell: str, model: Model, batch: Batch) -> jax.Array:
    """The norm of the gradient of one sequence's loss with respect to its state, `[T]`, averaged.

    A zero is added to the state after every step; the gradient is the one with respect to that.
    """

    def moved(params: Any, h: Any, inputs: Any) -> Any:
        x, nothing = inputs
        return jax.tree.map(jnp.add, CELLS[cell].step(params, h, x), nothing)

    count = batch.xs.shape[1]
    h0 = gru_jax.zero_state(model.cell, (count,))
    nothing = jax.tree.map(lambda h: jnp.zeros((len(batch.xs), *h.shape)), h0)

    def loss(nothing: Any) -> jax.Array:
        _, hs = gru_jax.unroll(moved, model.cell, h0, (batch.xs, nothing))
        # of all sequences, so that each state has its own sequence's gradient
        return jnp.sum(count * answer_loss(model.head, hs, jnp.asarray(batch.targets)))

    leaves = jax.tree.leaves(jax.grad(loss)(nothing))
    squares = [jnp.sum(leaf**2, axis=-1) for leaf in leaves]
    return jnp.mean(jnp.sqrt(jnp.sum(jnp.stack(squares), axis=0)), axis=1)


def learn(config: Config, task: str, cell: str) -> dict[str, Any]:
    """Trains one cell on one task with all seeds."""
    generate, length, _ = task_of(task)

    def batch_at(part: int, step: int, size: int) -> Batch:
        return generate(np.random.default_rng([part, step]), length, size)

    validation, test = batch_at(1, 0, EVALUATED), batch_at(2, 0, EVALUATED)
    keys = jax.random.split(jax.random.key(0), config.seeds)
    models = jax.vmap(lambda key: init_model(key, cell, validation, config.hidden_size))(keys)
    fitted = training.fit(
        lambda model, carry, batch, key: (loss_of(cell, model, batch), carry),
        models,
        jnp.zeros(config.seeds),
        lambda step: batch_at(0, step, config.batch_size),
        lambda model: loss_of(cell, model, validation),
        key=keys,
        optimiser=training.adam(config.learning_rate, config.steps),
        steps=config.steps,
        evaluate_every=config.evaluate_every,
        items_per_step=config.batch_size * config.seeds,
        unit="sequences",
        folder=config.run.output / f"long_memory-{config.preset}.checkpoints" / f"{task}-{cell}",
        resume=config.run.resume,
        settings=records.settings_of(config),
    )
    few = batch_at(2, 1, 100)
    norms = jax.jit(jax.vmap(lambda model: gradient_norms(cell, model, few)))
    return {
        "hidden_size": models.head.w.shape[1],
        "parameters": sum(leaf[0].size for leaf in jax.tree.leaves(models)),
        "test_loss": jax.jit(jax.vmap(lambda m: loss_of(cell, m, test)))(fitted.params).tolist(),
        "gradient_norms_before": norms(models).mean(axis=0).tolist(),
        "gradient_norms_after": norms(fitted.params).mean(axis=0).tolist(),
        "history": fitted.history,
    }


def main(config: Config) -> Result:
    """Trains every cell on every task; writes a record and a figure."""
    surroundings = records.surroundings()
    baselines = {task: task_of(task)[2] for task in config.tasks}  # refuses a bad name now
    tasks: dict[str, Any] = {}
    for task in config.tasks:
        tasks[task] = {"baseline": baselines[task], "cells": {}}
        for cell in config.cells:
            print(f"{task}, {cell}:")
            tasks[task]["cells"][cell] = found = learn(config, task, cell)
            losses = np.array(found["test_loss"])
            print(
                f"{task}, {cell}: test loss {losses.mean():.4f} ± {losses.std():.4f} "
                f"(remembering nothing: {baselines[task]:.4f})"
            )
    path = config.run.output / f"long_memory-{config.preset}.json"
    record = {"settings": records.settings_of(config), "surroundings": surroundings}
    records.write_json(path, record | {"results": tasks})
    long_memory_plot.plot(path.with_suffix(".png"), tasks)
    print(f"record and figure: {path} and .png")
    return Result(tasks)


if __name__ == "__main__":
    training.launch(main, PRESETS)
