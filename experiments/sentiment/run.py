"""Trains the classifier, compares it with baselines, and attributes its choices to words."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.harness import records, training
from experiments.harness.averaging import Averaged, averaged
from experiments.harness.datasets import read_lines
from experiments.harness.figures import plot_losses
from experiments.harness.layouts import Layout
from experiments.harness.models import opened, params_of
from experiments.harness.runs import OpenRun, begun
from experiments.harness.tokens import Vocabulary
from experiments.sentiment import data, plot
from experiments.sentiment.baselines import baselines
from experiments.sentiment.config import Config
from experiments.sentiment.data import Batch, encode
from experiments.sentiment.model import (
    Model,
    accuracy_of,
    init_model,
    log_p_of,
    loss_of,
    word_attributions,
)

SHOWN = 8  # sentences whose words are weighed

# Tai et al. 2015 (arXiv 1503.00075), as https://beta.hyper.ai/en/papers/1503.00075 lists it.
PUBLISHED = {"tweets": {}, "sst2": {"two-layer LSTM": 0.863}}


class Result(NamedTuple):
    """What a run found on the test part; a number for each seed."""

    accuracy: list[float]
    ensemble_accuracy: float  # of the seeds' mean probabilities
    baselines: dict[str, float]
    words: list[dict[str, Any]]
    fitted: training.Fitted


def train(run: OpenRun, parts: Mapping[str, Batch], pieces: int, classes: int) -> training.Fitted:
    """Trains all seeds, and keeps of each the averaged parameters that are best in validation."""
    config: Config = run.config
    init_key, train_key = jax.random.split(jax.random.key(0))
    ratios = data.ratios_of(parts["train"], pieces, classes)
    models = jax.vmap(lambda key: init(config, key, ratios))(
        jax.random.split(init_key, config.seeds)
    )
    validation = parts["validation"]
    lengths = data.lengths_of(parts["train"].tokens)

    def loss(both: Averaged, carry: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        rates = {"rate": config.dropout, "piece_rate": config.piece_dropout}
        return loss_of(both.params, batch, key, **rates), carry

    def evaluate(both: Averaged) -> jax.Array:
        log_p = log_p_of(both.average, validation.tokens)
        return 1 - accuracy_of(log_p, validation.labels)

    adam = training.adam(config.learning_rate, config.steps, weight_decay=config.weight_decay)
    fitted = training.fit(
        training.TrainingConfig(
            steps=config.steps,
            evaluate_every=config.evaluate_every,
            optimiser=averaged(adam, config.average_decay),
            items_per_step=config.batch_size * config.seeds,
            unit="sentences",
            folder=run.checkpoints,
            baseline=1 - np.bincount(validation.labels).max() / len(validation.labels),
        ),
        jax.random.split(train_key, config.seeds),
        Averaged(models, models),
        loss=loss,
        batch_at=lambda step: data.batch_at(step, parts["train"], lengths, config.batch_size),
        evaluate=evaluate,
        layout=Layout(run.mesh),
    )
    return fitted._replace(params=fitted.params.average)


def init(config: Config, key: jax.Array, ratios: np.ndarray) -> Model:
    """Draws the parameters of one seed."""
    return init_model(key, ratios, config.embedding_size, config.hidden_size)


def main(config: Config) -> Result | list[str]:
    """Trains, tests, compares with baselines; writes a model, a record and two figures.

    With `config.use`, classifies the lines of a file, and nothing else.
    """
    if config.use is not None:
        return use(config)
    with begun(config, lambda: data.files(config.dataset)) as run:
        corpus = data.load(config.dataset)
        vocabulary = data.pieces_of(
            corpus.train.sentences,
            words_at_least=config.words_at_least,
            pairs_at_least=config.pairs_at_least,
            ngrams_at_least=config.ngrams_at_least,
        )
        parts = {
            name: Batch(encode(part.sentences, vocabulary, config.length), *part[1:])
            for name, part in zip(corpus._fields[1:], corpus[1:], strict=True)
        }
        fitted = train(run, parts, len(vocabulary), len(corpus.classes))
        best = training.best_seed(fitted)
        run.save_model(best, symbols=vocabulary.symbols, classes=corpus.classes)
        test = parts["test"]
        log_p = jax.jit(jax.vmap(lambda model: log_p_of(model, test.tokens)))(fitted.params)
        shown = np.linspace(0, len(test.labels) - 1, SHOWN).astype(int)
        sentences = [corpus.test.sentences[row] for row in shown]
        result = Result(
            [float(accuracy_of(each, test.labels)) for each in log_p],
            float(accuracy_of(jax.nn.logsumexp(log_p, axis=0), test.labels)),
            baselines(corpus),
            word_attributions(
                training.seed_of(fitted, 0), sentences, Batch(*(each[shown] for each in test))
            ),
            fitted,
        )
        report(run, corpus.classes, result)
    return result


def use(config: Config) -> list[str]:
    """Classifies a user's sentences with the model of a finished run."""
    config, saved = opened(config)
    vocabulary, classes = Vocabulary(tuple(saved.knows["symbols"])), saved.knows["classes"]
    ratios = np.zeros((len(vocabulary), len(classes)))
    model = params_of(saved, lambda: init(config, jax.random.key(0), ratios))
    lines = read_lines(config.lines, "--lines")
    tokens = encode([data.words_of(line) for line in lines], vocabulary, config.length)
    probabilities = np.exp(log_p_of(model, tokens))
    found = [classes[row.argmax()] for row in probabilities]
    for line, name, row in zip(lines, found, probabilities, strict=True):
        print(f"{name} {row.max():.2f}\t{line}")
    return found


def report(run: OpenRun, classes: tuple[str, ...], result: Result) -> None:
    """Writes the record and the figures, and prints what they say."""
    path, published = run.record, PUBLISHED[run.config.dataset]
    run.warnings.extend(result.fitted.warnings)
    results = {
        "accuracy": result.accuracy,
        "ensemble_accuracy": result.ensemble_accuracy,
        "baselines": result.baselines,
        "published": published,
        "classes": classes,
        "words": result.words,
    }
    history = result.fitted.history
    numbers = summary(run.write_record(results, history=history))
    plot_losses(path.with_suffix(".png"), path.stem, history, "nats, error rate")
    plot.plot(path.with_suffix(".words.png"), result.words, classes)
    for sentence in result.words:
        print(plot.as_text(sentence, classes))
    print(f"\ntest accuracy, {run.config.seeds} seeds:")
    for label, number in (numbers | published).items():
        print(f"{label:>20}: {number}")
    run.conclude(f"test accuracy {numbers['GRU']}")


def summary(record: Mapping[str, Any]) -> dict[str, str]:
    """The numbers of a record that README.md shows: accuracies."""
    results = record["results"]
    return {
        "GRU": f"{records.spread(results['accuracy'], 2, scale=100)} %",
        "mean probabilities": f"{100 * results['ensemble_accuracy']:.2f} %",
        **{name: f"{100 * accuracy:.2f} %" for name, accuracy in results["baselines"].items()},
    }
