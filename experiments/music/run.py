"""Trains every cell on every data set, and lets the GRU continue a piece."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.harness import records, training
from experiments.harness.layouts import Layout
from experiments.harness.models import opened, params_of
from experiments.harness.runs import OpenRun, begun
from experiments.harness.settings import SettingError, stem_of
from experiments.music import data, plot
from experiments.music.baselines import baselines_of, frequencies_of
from experiments.music.config import Config
from experiments.music.continuation import Notes, continue_pieces, openings_of
from experiments.music.data import NOTES, Batch, Data
from experiments.music.midi import read_midi
from experiments.music.model import Model, evaluate, init_model, loss_of

# Nats per frame of the test part. Chung et al. 2014, "Empirical Evaluation of Gated Recurrent
# Neural Networks on Sequence Modeling", as commonly reported (of the LSTM on the tunes, reports
# differ); Bai et al. 2018, "An Empirical Evaluation of Generic Convolutional and Recurrent Networks
# for Sequence Modeling", as listed by paperswithcode.com.
PUBLISHED = {
    "jsb": {
        "tanh RNN (Chung et al. 2014)": 9.10,
        "LSTM (Chung et al. 2014)": 8.67,
        "GRU (Chung et al. 2014)": 8.54,
        "TCN": 8.10,
    },
    "nottingham": {
        "tanh RNN (Chung et al. 2014)": 3.13,
        "GRU (Chung et al. 2014)": 3.23,
        "TCN": 3.07,
    },
}


class Result(NamedTuple):
    """What a run found."""

    datasets: dict[str, Any]  # by data set: baselines, and by cell what `learn` returns
    continued: dict[str, Notes]  # by data set, the keys of each frame


def learn(run: OpenRun, name: str, cell: str, parts: Data) -> tuple[dict[str, Any], Model]:
    """Trains one cell on one data set with all seeds; returns the best seed's parameters, too."""
    config: Config = run.config
    frequencies = frequencies_of(parts.train)
    keys = jax.random.split(jax.random.key(0), config.seeds)
    init = jax.vmap(lambda key: init_model(key, cell, config.hidden_size, frequencies))
    validation, test = (data.blocks_of(name, part) for part in parts[1:])

    def loss(model: Model, carry: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        return loss_of(config, cell, model, batch, key), carry

    fitted = training.fit(
        training.TrainingConfig(
            steps=config.steps,
            evaluate_every=config.evaluate_every,
            optimiser=training.adam(config.learning_rate, config.steps),
            items_per_step=config.batch_size * config.seeds,
            unit="pieces",
            folder=run.checkpoints / f"{name}-{cell}",
            baseline=baselines_of(parts.train, parts.validation)["frame before"],
        ),
        keys,
        init(keys),
        loss=loss,
        batch_at=lambda step: data.batch_at(step, name, parts.train, config.batch_size),
        evaluate=lambda model: evaluate(config, cell, model, validation),
        layout=Layout(run.mesh, batch=Batch(1, 0)),
    )
    run.warnings.extend(f"{name}, {cell}: {warning}" for warning in fitted.warnings)
    tested = jax.jit(jax.vmap(lambda model: evaluate(config, cell, model, test)))
    found = {
        "hidden_size": fitted.params.head.w.shape[1],
        "parameters": sum(leaf[0].size for leaf in jax.tree.leaves(fitted.params.cell)),
        "validation_loss": fitted.loss.tolist(),
        "test_loss": tested(fitted.params).tolist(),
        "history": fitted.history,
    }
    return found, training.best_seed(fitted)


def main(config: Config) -> Result | dict[str, Notes]:
    """Trains every cell on every data set; writes a record, models, figures and MIDI files.

    With `config.use`, continues a piece with a trained model, and nothing else.
    """
    if config.use is not None:
        return use(config)
    with begun(config, lambda: data.files(config.datasets)) as run:
        if config.prompt is not None:
            for name in config.datasets:
                read_midi(config.prompt, data.CORPORA[name])  # refused now, not after the training
        datasets: dict[str, Any] = {}
        models: dict[str, Model] = {}
        openings: dict[str, list[Notes]] = {}
        for name in config.datasets:
            parts = data.load(name)
            datasets[name] = {
                "baselines": baselines_of(parts.train, parts.test),
                "published": PUBLISHED[name],
                "cells": {},
            }
            for cell in config.cells:
                print(f"{name}, {cell}:", flush=True)
                datasets[name]["cells"][cell], model = learn(run, name, cell, parts)
                if cell == "gru":
                    models[name], openings[name] = model, openings_of(parts.test)
        run.save_model(models, openings=openings)
        continued = continue_pieces(config, models, openings, run.record.with_suffix(""))
        record = run.write_record(datasets, continued=continued)
        plot.plot(run.record.with_suffix(".png"), datasets)
        for label, number in summary(record).items():
            print(f"{label:>40}: {number}")
        run.conclude(f"{', '.join(config.cells)} on {', '.join(config.datasets)}")
    return Result(datasets, continued)


def use(config: Config) -> dict[str, Notes]:
    """Continues a piece with the GRUs of a finished run."""
    config, saved = opened(config)
    if "gru" not in config.cells:
        raise SettingError(f"--use is {str(config.use)!r}, whose cells are {config.cells}: no gru.")
    init = partial(init_model, jax.random.key(0), "gru", config.hidden_size, np.full(NOTES, 0.5))
    models = params_of(saved, lambda: {str(name): init() for name in config.datasets})
    stem = Path(config.run.output, f"{stem_of(config)}.continued")
    return continue_pieces(config, models, saved.knows["openings"], stem)


def summary(record: Mapping[str, Any]) -> dict[str, str]:
    """The numbers of a record that README.md shows: test losses in nats per frame."""
    numbers = {}
    for name, found in record["results"].items():
        for baseline, loss in found["baselines"].items():
            numbers[f"{name}, {baseline}"] = f"{loss:.2f}"
        for cell, run in found["cells"].items():
            numbers[f"{name}, {cell}"] = records.spread(run["test_loss"], 2)
    return numbers
