"""Is a sentence happy? A bidirectional GRU over words, and the words that told it.

python -m experiments.sentiment                  # tweets, a few minutes on two cores
python -m experiments.sentiment --preset full    # SST-2, the recorded run
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments import records, sentiment_data, sentiment_plot, training
from experiments.batches import similar_rows_at
from experiments.sentiment_data import PAD, Data, encode
from experiments.sentiment_model import (
    Batch,
    accuracy_of,
    init_model,
    log_p_of,
    loss_of,
    telling_words,
)

LIMITS = (16, 24, 32)  # words, to which shorter sentences are padded in training
SHOWN = 8  # sentences whose words are weighed


@dataclass(frozen=True)
class Config:
    """A classifier of sentences."""

    preset: Literal["default", "full"] = "default"
    """Where the other settings' defaults come from."""
    dataset: Literal["tweets", "sst2"] = "tweets"
    """Tweets in three classes, or the Stanford Sentiment Treebank's sentences in two."""
    embedding_size: int = 128
    hidden_size: int = 128
    """Of each direction."""
    length: int = 40
    """Words of a sentence that are read."""
    at_least: int = 2
    """How often a word must occur to be known."""
    dropout: float = 0.35
    """Rate on the embeddings, one mask for all words of a sentence, and on the pooled states."""
    word_dropout: float = 0.0
    """Rate at which words are replaced by the unknown word."""
    weight_decay: float = 1e-4
    batch_size: int = 64
    steps: int = 800
    learning_rate: float = 2e-3
    """At its peak: it rises linearly for a twentieth of the steps, then falls along a cosine."""
    evaluate_every: int = 100
    seeds: int = 3
    """Trained side by side by vmap."""
    run: Annotated[training.Run, tyro.conf.arg(name="")] = field(default_factory=training.Run)


PRESETS = {
    "default": Config(),
    "full": Config(
        preset="full", dataset="sst2", length=56, dropout=0.5, word_dropout=0.1, steps=1000
    ),
}

# Tai et al. 2015, table 2: test accuracy with pretrained GloVe vectors and all phrases.
PUBLISHED = {"tweets": {}, "sst2": {"LSTM with GloVe": 0.849, "bidirectional": 0.875}}


class Result(NamedTuple):
    """What a run found on the test part; a number for each seed."""

    accuracy: list[float]
    together: float  # of the seeds' mean probabilities
    baselines: dict[str, float]
    words: list[dict[str, Any]]
    fitted: training.Fitted


def batch_at(step: int, data: Batch, size: int) -> Batch:
    """The batch of an update: sentences of similar length."""
    longest = data.tokens.shape[1]
    limits = [*(limit for limit in LIMITS if limit < longest), longest]
    lengths = np.sum(data.tokens != PAD, axis=1)
    rows, length = similar_rows_at(step, lengths, limits, size)
    return Batch(data.tokens[rows, :length], data.labels[rows])


def bag_of_words(data: Data) -> float:
    """Test accuracy of logistic regression on which words occur; its penalty by validation."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = CountVectorizer(analyzer=lambda sentence: sentence, binary=True)
    train = vectorizer.fit_transform(data.train.sentences)
    validation, test = (
        vectorizer.transform(part.sentences) for part in (data.validation, data.test)
    )
    models = [LogisticRegression(C=c, max_iter=1000) for c in (0.03, 0.1, 0.3, 1, 3)]
    for model in models:
        model.fit(train, data.train.labels)
    best = max(models, key=lambda model: model.score(validation, data.validation.labels))
    return float(best.score(test, data.test.labels))


def main(config: Config) -> Result:
    """Trains, tests beside the baselines, weighs words; writes a record and two figures."""
    surroundings = records.surroundings()
    load = {"tweets": sentiment_data.tweets, "sst2": sentiment_data.sst2}[config.dataset]
    data = load()
    vocabulary = sentiment_data.vocabulary_of(data.train.sentences, config.at_least)
    train, validation, test = (
        Batch(encode(part.sentences, vocabulary, config.length), part.labels) for part in data[1:]
    )
    init_key, train_key = jax.random.split(jax.random.key(0))
    sizes = len(vocabulary), len(data.classes), config.embedding_size, config.hidden_size
    models = jax.vmap(lambda key: init_model(key, *sizes))(jax.random.split(init_key, config.seeds))
    name = f"sentiment-{config.preset}"
    fitted = training.fit(
        lambda model, carry, batch, key: (
            loss_of(model, batch, config.dropout, config.word_dropout, key),
            carry,
        ),
        models,
        jnp.zeros(config.seeds),
        lambda step: batch_at(step, train, config.batch_size),
        lambda model: 1 - accuracy_of(log_p_of(model, validation.tokens), validation.labels),
        key=jax.random.split(train_key, config.seeds),
        optimiser=training.adam(
            config.learning_rate, config.steps, weight_decay=config.weight_decay
        ),
        steps=config.steps,
        evaluate_every=config.evaluate_every,
        items_per_step=config.batch_size * config.seeds,
        unit="sentences",
        folder=config.run.output / f"{name}.checkpoints",
        resume=config.run.resume,
        settings=records.settings_of(config),
    )
    log_p = jax.jit(jax.vmap(lambda model: log_p_of(model, test.tokens)))(fitted.params)
    accuracy = [float(accuracy_of(each, test.labels)) for each in log_p]
    together = float(accuracy_of(jax.nn.logsumexp(log_p, axis=0), test.labels))
    most_frequent = np.bincount(train.labels).argmax()
    baselines = {
        "most frequent class": float(np.mean(test.labels == most_frequent)),
        "bag of words": bag_of_words(data),
    }
    first = jax.tree.map(lambda leaf: leaf[0], fitted.params)
    shown = np.linspace(0, len(test.labels) - 1, SHOWN).astype(int)
    sentences = [data.test.sentences[row] for row in shown]
    words = telling_words(first, sentences, Batch(test.tokens[shown], test.labels[shown]))
    return report(
        config, surroundings, data.classes, Result(accuracy, together, baselines, words, fitted)
    )


def report(
    config: Config, surroundings: dict[str, str], classes: tuple[str, ...], result: Result
) -> Result:
    """Writes the record and the figures, and prints what they say."""
    path = config.run.output / f"sentiment-{config.preset}.json"
    published = PUBLISHED[config.dataset]
    results = {
        "accuracy": result.accuracy,
        "accuracy_together": result.together,
        "baselines": result.baselines,
        "published": published,
        "classes": classes,
        "words": result.words,
    }
    records.write_record(path, config, surroundings, result.fitted, results)
    records.plot_losses(path.with_suffix(".png"), path.stem, result.fitted, {}, "nats, error rate")
    sentiment_plot.plot(path.with_suffix(".words.png"), result.words, classes)
    for sentence in result.words:
        print(sentiment_plot.as_text(sentence, classes))
    mean, spread = np.mean(result.accuracy), np.std(result.accuracy)
    print(f"\n{'test accuracy':>20}: {mean:.4f} ± {spread:.4f} over {config.seeds} seeds")
    print(f"{'seeds together':>20}: {result.together:.4f}")
    for label, value in (result.baselines | published).items():
        print(f"{label:>20}: {value:.4f}")
    print(f"record and figures: {path}, .png and .words.png")
    return result


if __name__ == "__main__":
    training.launch(main, PRESETS)
