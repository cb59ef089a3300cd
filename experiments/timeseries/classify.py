"""Whose utterance is it? Cross-validation, training on all that there is, and the test."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness import training
from experiments.harness.layouts import Layout
from experiments.harness.runs import OpenRun
from experiments.timeseries import vowels
from experiments.timeseries.baselines import logistic_regression, nearest_neighbour
from experiments.timeseries.config import Config
from experiments.timeseries.models import Classifier, init_classifier, logits_of, nats_of
from experiments.timeseries.vowels import LONGEST, SPEAKERS, Batch

# Ismail Fawaz et al. 2019, "Deep learning for time series classification: a review", the table of
# its repository, github.com/hfawaz/dl-4-tsc: means and deviations of ten runs, in per cent.
PUBLISHED = {
    "MLP": "97.6 ± 0.2 %",
    "FCN": "99.3 ± 0.2 %",
    "ResNet": "99.2 ± 0.3 %",
    "echo state network": "96.5 ± 0.7 %",
}


def init_all(config: Config, key: jax.Array) -> Classifier:
    """Draws the parameters of every seed."""
    sizes = (config.hidden_size,) * config.layers
    keys = jax.random.split(key, config.seeds)
    return jax.vmap(lambda key: init_classifier(key, sizes))(keys)


def train(run: OpenRun, name: str, known: Batch, evaluated: Batch) -> training.Fitted:
    """Trains all seeds, for a number of updates that is chosen beforehand.

    Only the last parameters are evaluated, so that no number of updates is chosen by what they are
    evaluated on.
    """
    config: Config = run.config
    init_key, train_key = jax.random.split(jax.random.key(0))

    def loss(model: Classifier, carry: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        noise_key, dropout_key = jax.random.split(key)
        xs = jnp.asarray(batch.xs)
        noisy = batch._replace(xs=xs + config.noise * jax.random.normal(noise_key, xs.shape))
        return nats_of(model, noisy, config.dropout, dropout_key), carry

    fitted = training.fit(
        training.TrainingConfig(
            steps=config.steps,
            evaluate_every=10 * config.steps,  # never before the end
            optimiser=training.adam(
                config.learning_rate, config.steps, weight_decay=config.weight_decay
            ),
            items_per_step=config.batch_size * config.seeds,
            unit="utterances",
            folder=run.checkpoints / name,
            baseline=float(np.log(SPEAKERS)),
        ),
        jax.random.split(train_key, config.seeds),
        init_all(config, init_key),
        loss=loss,
        batch_at=lambda step: vowels.batch_at(step, known, config.batch_size),
        evaluate=lambda model: nats_of(model, evaluated),
        layout=Layout(run.mesh, batch=Batch(1, 0, 0)),
    )
    run.warnings.extend(f"{name}: {warning}" for warning in fitted.warnings)
    return fitted


@jax.jit
def log_p_of(models: Classifier, batch: Batch) -> jax.Array:
    """Of every seed's model, the log-probabilities of the speakers, `[S, B, 9]`."""
    return jax.nn.log_softmax(jax.vmap(lambda model: logits_of(model, batch))(models))


def accuracies(models: Classifier, batch: Batch) -> list[float]:
    """Of every seed's model."""
    right = np.argmax(log_p_of(models, batch), axis=-1) == batch.labels
    found: list[float] = right.mean(axis=1).tolist()
    return found


def cut_off(batch: Batch, frames: int) -> Batch:
    """Only the beginnings of the utterances."""
    return batch._replace(lengths=np.minimum(batch.lengths, frames))


def classify(run: OpenRun) -> dict[str, Any]:
    """Cross-validates, trains on the whole training part, tests, and saves the models."""
    config: Config = run.config
    data = vowels.load()
    validated, nats, histories = [], [], []
    for fold in range(config.folds):
        print(f"fold {fold + 1} of {config.folds}:", flush=True)
        known, held_out = vowels.fold_of(data.train, fold, config.folds)
        fitted = train(run, f"fold-{fold}", known, held_out)
        validated.append(accuracies(fitted.params, held_out))
        nats.append(fitted.loss.tolist())
        histories.append(fitted.history)
    print("the whole training part:", flush=True)
    fitted = train(run, "whole", data.train, data.train)
    log_p = np.asarray(log_p_of(fitted.params, data.test))
    together = np.argmax(np.logaddexp.reduce(log_p), axis=-1) == data.test.labels
    results = {
        "validation_accuracy": np.mean(validated, axis=0).tolist(),  # of every seed
        "validation_nats": np.mean(nats, axis=0).tolist(),
        "accuracy": accuracies(fitted.params, data.test),
        "ensemble_accuracy": float(together.mean()),
        "accuracy_after_frames": [
            accuracies(fitted.params, cut_off(data.test, frames))
            for frames in range(1, LONGEST + 1)
        ],
        "baselines": {
            "nearest neighbour": nearest_neighbour(data.train, data.test),
            "logistic regression": logistic_regression(data.train, data.test, config.folds),
        },
        "published": PUBLISHED,
        "training": [*histories, fitted.history],
    }
    run.save_model(fitted.params, mean=data.mean.tolist(), deviation=data.deviation.tolist())
    return results
