"""Trains every cell on every task, and measures how far gradients reach back."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.harness import records, training
from experiments.harness.batches import own_rows
from experiments.harness.layouts import Layout
from experiments.harness.runs import OpenRun, begun
from experiments.long_memory import plot
from experiments.long_memory.config import Config
from experiments.long_memory.data import Batch, task_of
from experiments.long_memory.model import Model, gradient_norms, init_model, loss_of

NAMES = {"rnn": "tanh RNN", "lstm": "LSTM", "gru": "GRU"}
EVALUATED = 1000  # sequences, for validation and for test each


class Result(NamedTuple):
    """What a run found."""

    tasks: dict[str, Any]  # by task: the baseline, and by cell what `learn` returns


def learn(run: OpenRun, task: str, cell: str) -> dict[str, Any]:
    """Trains one cell on one task with all seeds."""
    config: Config = run.config
    generate, length, baseline = task_of(task)

    def batch_at(part: int, step: int, size: int) -> Batch:
        return generate(np.random.default_rng([part, step]), length, size)

    def training_batch_at(step: int) -> Batch:
        xs, targets = batch_at(0, step, config.batch_size)
        rows = own_rows(np.arange(config.batch_size))
        return Batch(xs[:, rows], targets[..., rows])

    validation, test = batch_at(1, 0, EVALUATED), batch_at(2, 0, EVALUATED)
    keys = jax.random.split(jax.random.key(0), config.seeds)
    models = jax.vmap(lambda key: init_model(key, cell, validation, config.hidden_size))(keys)

    def loss(model: Model, carry: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        return loss_of(cell, model, batch), carry

    fitted = training.fit(
        training.TrainingConfig(
            steps=config.steps,
            evaluate_every=config.evaluate_every,
            optimiser=training.adam(config.learning_rate, config.steps),
            items_per_step=config.batch_size * config.seeds,
            unit="sequences",
            folder=run.checkpoints / f"{task}-{cell}",
            baseline=baseline,
        ),
        keys,
        models,
        loss=loss,
        batch_at=training_batch_at,
        evaluate=lambda model: loss_of(cell, model, validation),
        layout=Layout(run.mesh, batch=Batch(1, -1)),
    )
    run.warnings.extend(f"{task}, {cell}: {warning}" for warning in fitted.warnings)
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
    with begun(config) as run:
        tasks: dict[str, Any] = {}
        for task in config.tasks:
            tasks[task] = {"baseline": task_of(task)[2], "cells": {}}
            for cell in config.cells:
                print(f"{task}, {cell}:", flush=True)
                tasks[task]["cells"][cell] = learn(run, task, cell)
        (table,) = summary(run.write_record(tasks)).values()
        plot.plot(run.record.with_suffix(".png"), tasks)
        print(table)
        run.conclude(f"{', '.join(config.cells)} on {', '.join(config.tasks)}")
    return Result(tasks)


def summary(record: Mapping[str, Any]) -> dict[str, str]:
    """The table of test losses that README.md shows."""
    tasks = record["results"]
    cells = list(next(iter(tasks.values()))["cells"])
    rows = [
        [
            task,
            f"{found['baseline']:.4f}",
            *(records.spread(found["cells"][cell]["test_loss"], 4) for cell in cells),
        ]
        for task, found in tasks.items()
    ]
    head = ["test loss", "remembering nothing", *map(NAMES.__getitem__, cells)]
    return {"test losses": records.markdown_table(head, rows)}
