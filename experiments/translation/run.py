"""Trains the encoder and the decoder, translates the test part, and scores it."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness import records, training
from experiments.harness.figures import plot_losses
from experiments.harness.tokens import Vocabulary, vocabulary_of
from experiments.translation import data, plot
from experiments.translation.config import Config
from experiments.translation.data import END, PAD, SPECIAL, START, Batch, Part
from experiments.translation.model import (
    BLOCK,
    Model,
    decode,
    encode,
    init_model,
    loss_of,
    nats_per_token,
    step,
)
from experiments.translation.scores import baselines_of, scores_of
from experiments.translation.search import beam_search, greedy

SHOWN = 6  # test sequences whose attention is drawn

# Yao & Zweig 2015 (arXiv:1506.00196), on another split of the dictionary with as many words:
# bidirectional LSTMs that read aligned letters and phonemes.
PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "cmudict": {"aligned LSTM": {"token error": 0.0545, "sequence error": 0.2355}},
    "verses": {},
    "tsv": {},
}


class Result(NamedTuple):
    """What a run found on the test part."""

    scores: dict[str, dict[str, float]]  # of both searches
    baselines: dict[str, dict[str, float]]
    examples: list[dict[str, Any]]
    fitted: training.Fitted


def translate(
    model: Model, sources: np.ndarray, length: int, *, size: int, length_penalty: float
) -> np.ndarray:
    """The best target `[N, length]` that a beam finds for each source; of size 1, greedily."""

    @jax.jit
    def run(model: Model, sources: jax.Array) -> jax.Array:
        memory, h0 = encode(model, sources)
        state, start = (h0, jnp.zeros_like(h0)), jnp.full(len(sources), START)
        next_token = partial(step, model, memory)
        if size == 1:
            return greedy(next_token, state, start, end=END, length=length)
        beam = partial(beam_search, end=END, length=length, size=size)
        return beam(next_token, state, start, length_penalty=length_penalty)[0][:, 0]

    order = np.argsort(np.sum(sources != PAD, axis=1), kind="stable")  # a block ends with its rows
    found = np.empty((len(sources), length), np.int32)
    for first in range(0, len(order), BLOCK):
        rows = order[first : first + BLOCK]
        found[rows] = run(model, jnp.asarray(sources[np.resize(rows, BLOCK)]))[: len(rows)]
    return found


def examples_of(
    model: Model, part: Part, sources: np.ndarray, found: np.ndarray, vocabulary: Vocabulary
) -> list[dict[str, Any]]:
    """Sequences, what was found for them, and the attention of each token of that."""
    memory, h0 = encode(model, jnp.asarray(sources))
    _, weights = decode(model, memory, h0, jnp.asarray(found))
    examples = []
    for source, references, row, attention in zip(*part, found, np.asarray(weights), strict=True):
        tokens = data.decode_row(row, vocabulary)
        seen = attention[: len(tokens) + 1, : len(source) + 1].round(4).tolist()
        example = {"source": source, "found": tokens, "references": references, "attention": seen}
        examples.append(example)
    return examples


def train(
    config: Config, pairs: Batch, validation: Batch, vocabularies: Sequence[Vocabulary]
) -> training.Fitted:
    """Trains, and keeps the parameters that are best in validation."""
    init_key, train_key = jax.random.split(jax.random.key(0))
    source_size, target_size = map(len, vocabularies)
    sizes = config.embedding_size, config.hidden_size, config.encoder_layers

    def loss(model: Model, carry: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        rates = {"rate": config.dropout, "smoothing": config.label_smoothing}
        return loss_of(model, batch, key, **rates), carry

    return training.fit(
        training.TrainingConfig.of(
            config,
            f"translation-{config.preset}.checkpoints",
            steps=config.steps,
            optimiser=training.adam(config.learning_rate, config.steps),
            items_per_step=config.batch_size,
            unit="pairs",
        ),
        train_key,
        init_model(init_key, source_size, target_size, *sizes),
        loss=loss,
        batch_at=data.batches_of(pairs, config.batch_size),
        evaluate=lambda model: nats_per_token(model, validation),
    )


def main(config: Config) -> Result:
    """Trains, translates the test part, compares with baselines; writes a record and figures."""
    environment = records.environment()
    corpus = data.load(config.dataset, config.tsv)
    pairs = [pair for pair in corpus.train.pairs() if max(map(len, pair)) <= config.longest]
    vocabularies = [
        vocabulary_of(side, special=SPECIAL, at_least=config.at_least)
        for side in zip(*pairs, strict=True)
    ]
    known, validation = (
        data.encode_pairs(part, vocabularies) for part in (pairs, corpus.validation.pairs())
    )
    fitted = train(config, known, validation, vocabularies)
    test, (source_vocabulary, target_vocabulary) = corpus.test, vocabularies
    sources = data.encode_all(test.sources, source_vocabulary)
    search = partial(
        translate,
        *(fitted.params, sources, known.targets.shape[1]),
        length_penalty=config.length_penalty,
    )
    scores = {}
    for name, size in {"greedy": 1, f"beam of {config.beam_size}": config.beam_size}.items():
        found = search(size=size)
        hypotheses = [data.decode_row(row, target_vocabulary) for row in found]
        scores[name] = scores_of(hypotheses, test.references)
    shown = np.random.default_rng(0).permutation(len(sources))[:SHOWN]
    part = Part([test.sources[i] for i in shown], [test.references[i] for i in shown])
    examples = examples_of(fitted.params, part, sources[shown], found[shown], target_vocabulary)
    result = Result(scores, baselines_of(corpus.train, test), examples, fitted)
    report(config, environment, corpus.separators, result)
    return result


def report(
    config: Config, environment: Mapping[str, str], separators: tuple[str, str], result: Result
) -> None:
    """Writes the record and the figures, and prints what they say."""
    path = config.run.output / f"translation-{config.preset}.json"
    results = {
        "scores": result.scores,
        "baselines": result.baselines,
        "published": PUBLISHED[config.dataset],
        "examples": result.examples,
    }
    history = result.fitted.history
    records.write_record(path, config, environment, results, history=history)
    plot_losses(path.with_suffix(".png"), path.stem, history, "nats per token")
    plot.plot(path.with_suffix(".attention.png"), result.examples)
    for example in result.examples:
        print(plot.as_text(example, separators))
    print()
    for label, scores in (result.scores | result.baselines | PUBLISHED[config.dataset]).items():
        shown = (f"{name} {value:.4f}" for name, value in scores.items())
        print(f"{label:>24}: {', '.join(shown)}")
    print(f"record and figures: {path}, .png and .attention.png")


def summary(record: Mapping[str, Any]) -> dict[str, str]:
    """The numbers of a record that README.md shows: BLEU of verses, error rates of phonemes."""
    scores, baselines = record["results"]["scores"], record["results"]["baselines"]
    if record["settings"]["dataset"] == "verses":
        return {name: f"{found['BLEU']:.2f}" for name, found in (scores | baselines).items()}
    errors = {
        f"{search}, {name}": found[name]
        for search, found in scores.items()
        for name in ("sequence error", "token error")
    }
    errors["token by token, token error"] = baselines["token by token"]["token error"]
    return {name: f"{100 * error:.2f} %" for name, error in errors.items()}
