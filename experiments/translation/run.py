"""Trains the encoder and the decoder, translates the test part, and scores it."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness import training
from experiments.harness.datasets import read_lines
from experiments.harness.figures import plot_losses
from experiments.harness.layouts import Layout
from experiments.harness.models import opened, params_of
from experiments.harness.runs import OpenRun, begun
from experiments.harness.settings import SettingError
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
    run: OpenRun, model: Model, pairs: Batch, validation: Batch, key: jax.Array
) -> training.Fitted:
    """Trains, and keeps the parameters that are best in validation."""
    config: Config = run.config

    def loss(model: Model, carry: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        rates = {"rate": config.dropout, "smoothing": config.label_smoothing}
        return loss_of(model, batch, key, **rates), carry

    return training.fit(
        training.TrainingConfig(
            steps=config.steps,
            evaluate_every=config.evaluate_every,
            optimiser=training.adam(config.learning_rate, config.steps),
            items_per_step=config.batch_size,
            unit="pairs",
            folder=run.checkpoints,
            baseline=math.log(len(model.target_embedding)),  # of every token alike
        ),
        key,
        model,
        loss=loss,
        batch_at=data.batches_of(pairs, config.batch_size),
        evaluate=lambda model: nats_per_token(model, validation),
        layout=Layout(run.mesh),
    )


def init(config: Config, key: jax.Array, vocabularies: Sequence[Vocabulary]) -> Model:
    """Draws the parameters for these vocabularies of sources and targets."""
    sources, targets = map(len, vocabularies)
    sizes = config.embedding_size, config.hidden_size, config.encoder_layers
    return init_model(key, sources, targets, *sizes)


def main(config: Config) -> Result | list[str]:
    """Trains, translates the test part, compares with baselines; writes model, record, figures.

    With `config.use`, translates the lines of a file, and nothing else.
    """
    if config.use is not None:
        return use(config)
    with begun(config, lambda: data.files(config)) as run:
        corpus = data.load(config)
        pairs = [pair for pair in corpus.train.pairs() if max(map(len, pair)) <= config.longest]
        if not pairs:
            raise SettingError(f"--longest is {config.longest}, but every pair is longer.")
        vocabularies = [
            vocabulary_of(side, special=SPECIAL, at_least=config.at_least)
            for side in zip(*pairs, strict=True)
        ]
        known, validation = (
            data.encode_pairs(part, vocabularies) for part in (pairs, corpus.validation.pairs())
        )
        init_key, train_key = jax.random.split(jax.random.key(0))
        model = init(config, init_key, vocabularies)
        fitted = train(run, model, known, validation, train_key)
        length = known.targets.shape[1]
        run.save_model(
            fitted.params,
            symbols=[vocabulary.symbols for vocabulary in vocabularies],
            separators=corpus.separators,
            length=length,
        )
        result = test(config, fitted, corpus, vocabularies, length)
        report(run, corpus.separators, result)
    return result


def test(
    config: Config,
    fitted: training.Fitted,
    corpus: data.Data,
    vocabularies: Sequence[Vocabulary],
    length: int,
) -> Result:
    """Translates the test part by both searches, and scores what they find."""
    part, (source_vocabulary, target_vocabulary) = corpus.test, vocabularies
    sources = data.encode_all(part.sources, source_vocabulary)
    search = partial(
        translate, *(fitted.params, sources, length), length_penalty=config.length_penalty
    )
    scores = {}
    for name, size in {"greedy": 1, f"beam of {config.beam_size}": config.beam_size}.items():
        found = search(size=size)
        hypotheses = [data.decode_row(row, target_vocabulary) for row in found]
        scores[name] = scores_of(hypotheses, part.references)
    shown = np.random.default_rng(0).permutation(len(sources))[:SHOWN]
    some = Part([part.sources[i] for i in shown], [part.references[i] for i in shown])
    examples = examples_of(fitted.params, some, sources[shown], found[shown], target_vocabulary)
    return Result(scores, baselines_of(corpus.train, part), examples, fitted)


def use(config: Config) -> list[str]:
    """Translates a user's lines with the model of a finished run."""
    config, saved = opened(config)
    vocabularies = [Vocabulary(tuple(symbols)) for symbols in saved.knows["symbols"]]
    model = params_of(saved, lambda: init(config, jax.random.key(0), vocabularies))
    before, after = saved.knows["separators"]
    lines = read_lines(config.lines, "--lines")
    tokens = [data.tokens_of(line, config.dataset, before) for line in lines]
    found = translate(
        model,
        data.encode_all(tokens, vocabularies[0]),
        saved.knows["length"],
        size=config.beam_size,
        length_penalty=config.length_penalty,
    )
    translations = [after.join(data.decode_row(row, vocabularies[1])) for row in found]
    for line, translation in zip(lines, translations, strict=True):
        print(f"{line}\t{translation}")
    return translations


def report(run: OpenRun, separators: tuple[str, str], result: Result) -> None:
    """Writes the record and the figures, and prints what they say."""
    path, published = run.record, PUBLISHED[run.config.dataset]
    run.warnings.extend(result.fitted.warnings)
    results = {
        "scores": result.scores,
        "baselines": result.baselines,
        "published": published,
        "examples": result.examples,
    }
    history = result.fitted.history
    run.write_record(results, history=history)
    plot_losses(path.with_suffix(".png"), path.stem, history, "nats per token")
    plot.plot(path.with_suffix(".attention.png"), result.examples)
    for example in result.examples:
        print(plot.as_text(example, separators))
    print()
    lines = {
        label: ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        for label, scores in (result.scores | result.baselines | published).items()
    }
    for label, line in lines.items():
        print(f"{label:>24}: {line}")
    name = list(result.scores)[-1]
    run.conclude(f"{name}: {lines[name]}")


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
