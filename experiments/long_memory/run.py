"""Trains every cell on every task, and measures how far gradients reach back."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.harness import records, training
from experiments.long_memory import plot
from experiments.long_memory.config import Config
from experiments.long_memory.data import Batch, task_of
from experiments.long_memory.model import Model, gradient_norms, init_model, loss_of

EVALUATED = 1000  # sequences, for validation and for test each


class Result(NamedTuple):
    """What a run found."""

    tasks: dict[str, Any]  # by task: the baseline, and by cell what `learn` returns


def learn(config: Config, task: str, cell: str) -> dict[str, Any]:
    """Trains one cell on one task with all seeds."""
    generate, length, _ = task_of(task)

    def batch_at(part: int, step: int, size: int) -> Batch:
        return generate(np.random.default_rng([part, step]), length, size)

    validation, test = batch_at(1, 0, EVALUATED), batch_at(2, 0, EVALUATED)
    keys = jax.random.split(jax.random.key(0), config.seeds)
    models = jax.vmap(lambda key: init_model(key, cell, validation, config.hidden_size))(keys)

    def loss(model: Model, carry: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        return loss_of(cell, model, batch), carry

    fitted = training.fit(
        training.TrainingConfig.of(
            config,
            f"long_memory-{config.preset}.checkpoints/{task}-{cell}",
            steps=config.steps,
            optimiser=training.adam(config.learning_rate, config.steps),
            items_per_step=config.batch_size * config.seeds,
            unit="sequences",
        ),
        keys,
        models,
        loss=loss,
        batch_at=lambda step: batch_at(0, step, config.batch_size),
        evaluate=lambda model: loss_of(cell, model, validation),
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
    environment = records.environment()
    baselines = {task: task_of(task)[2] for task in config.tasks}  # a bad name raises now
    tasks: dict[str, Any] = {}
    for task in config.tasks:
        tasks[task] = {"baseline": baselines[task], "cells": {}}
        for cell in config.cells:
            print(f"{task}, {cell}:")
            tasks[task]["cells"][cell] = learn(config, task, cell)
    path = config.run.output / f"long_memory-{config.preset}.json"
    record = records.write_record(path, config, environment, tasks)
    plot.plot(path.with_suffix(".png"), tasks)
    for label, number in summary(record).items():
        print(f"{label:>40}: {number}")
    print(f"record and figure: {path} and .png")
    return Result(tasks)


def summary(record: Mapping[str, Any]) -> dict[str, str]:
    """The numbers of a record that README.md shows: test losses."""
    numbers = {}
    for task, found in record["results"].items():
        numbers[f"{task}, remembering nothing"] = f"{found['baseline']:.4f}"
        for cell, run in found["cells"].items():
            numbers[f"{task}, {cell}"] = records.spread(run["test_loss"], 4)
    return numbers
