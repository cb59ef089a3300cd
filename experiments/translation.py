"""How is it pronounced, how is it said in Spanish? An encoder, a decoder, and attention.

python -m experiments.translation                    # pronunciations, minutes on two cores
python -m experiments.translation --preset full      # the same, the recorded run
python -m experiments.translation --preset verses    # English to Spanish, recorded too
python -m experiments.translation --dataset tsv --tsv pairs.tsv
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments import records, training, translation_data, translation_plot, translation_scores
from experiments.batches import similar_rows_at
from experiments.translation_data import END, PAD, START, Part, Tokens, decode, encode
from experiments.translation_decode import beam_search, greedy
from experiments.translation_model import (
    BLOCK,
    Batch,
    Model,
    init_model,
    nats_per_token,
    read,
    step,
    token_losses,
    write,
)

SHOWN = 6  # test sequences whose attention is drawn


@dataclass(frozen=True)
class Config:
    """An encoder and a decoder."""

    preset: Literal["default", "full", "verses"] = "default"
    """Where the other settings' defaults come from."""
    dataset: Literal["cmudict", "verses", "tsv"] = "cmudict"
    """Words and their phonemes, verses in English and Spanish, or a file of yours."""
    tsv: str = ""
    """For --dataset tsv: a file with a source, a tab and its target in every line."""
    embedding_size: int = 64
    hidden_size: int = 192
    """Of each direction of the encoder's layers, and of the decoder's layers."""
    encoder_layers: int = 1
    dropout: float = 0.1
    """Rate on the inputs of every layer, one mask for all steps of a sequence."""
    label_smoothing: float = 0.1
    at_least: int = 1
    """How often a token must occur in the training part to be known."""
    longest: int = 20
    """Pairs with more tokens on either side are left out of training; of the test, none is."""
    batch_size: int = 128
    steps: int = 1500
    learning_rate: float = 2e-3
    """At its peak: it rises linearly for a twentieth of the steps, then falls along a cosine."""
    evaluate_every: int = 250
    beam_size: int = 5
    length_penalty: float = 0.0
    """See `translation_decode.beam_search`."""
    run: Annotated[training.Run, tyro.conf.arg(name="")] = field(default_factory=training.Run)


PRESETS = {
    "default": Config(),
    "full": Config(preset="full", hidden_size=256, steps=8000, evaluate_every=500),
    "verses": Config(
        preset="verses",
        dataset="verses",
        embedding_size=128,
        dropout=0.3,
        at_least=3,
        longest=30,
        batch_size=64,
        steps=2000,
        length_penalty=1.0,
    ),
}

# Yao & Zweig 2015, on another split of the dictionary with as many words: bidirectional LSTMs
# that read aligned letters and phonemes; an encoder–decoder of LSTMs (quoted from memory).
PUBLISHED = {
    "cmudict": {
        "aligned LSTM": {"token error": 0.0545, "sequence error": 0.2355},
        "LSTM without attention": {"sequence error": 0.286},
    },
    "verses": {},
    "tsv": {},
}


class Result(NamedTuple):
    """What a run found on the test part."""

    scores: dict[str, dict[str, float]]  # of both ways to decode
    baselines: dict[str, dict[str, float]]
    examples: list[dict[str, Any]]
    fitted: training.Fitted


def loss_of(model: Model, batch: Batch, config: Config, key: jax.Array) -> jax.Array:
    """The mean loss per token in training."""
    read_key, write_key = jax.random.split(key)
    memory, h0 = read(model, batch.sources, config.dropout, read_key)
    logits, _ = write(model, memory, h0, batch.targets, config.dropout, write_key)
    losses = token_losses(logits, batch.targets, config.label_smoothing)
    return jnp.sum(losses) / jnp.sum(batch.targets != PAD)


def batches_of(data: Batch, size: int) -> Callable[[int], Batch]:
    """The batch of an update, from its number: pairs of similar length."""
    lengths = np.maximum(*(np.sum(tokens != PAD, axis=1) for tokens in data))
    limits = np.unique(np.quantile(lengths, (0.25, 0.5, 0.75, 0.9, 1), method="higher")).tolist()

    def batch_at(step: int) -> Batch:
        rows, length = similar_rows_at(step, lengths, limits, size)
        return Batch(data.sources[rows, :length], data.targets[rows, :length])

    return batch_at


def encode_pairs(
    pairs: Sequence[tuple[Tokens, Tokens]], vocabularies: Sequence[list[str]]
) -> Batch:
    """Pairs as numbers, padded to the longest of them."""
    sides = zip(zip(*pairs, strict=True), vocabularies, strict=True)
    return Batch(*(encode(side, words, max(map(len, side)) + 1) for side, words in sides))


def translate(
    model: Model, sources: np.ndarray, length: int, size: int, length_penalty: float
) -> np.ndarray:
    """The best target `[N, length]` that a beam finds for each source; of size 1, greedily."""

    @jax.jit
    def run(model: Model, sources: jax.Array) -> jax.Array:
        memory, h0 = read(model, sources)
        state, start = (h0, jnp.zeros_like(h0)), jnp.full(len(sources), START)
        go_on = partial(step, model, memory)
        if size == 1:
            return greedy(go_on, state, start, end=END, length=length)
        beam = partial(beam_search, end=END, length=length, size=size)
        return beam(go_on, state, start, length_penalty=length_penalty)[0][:, 0]

    order = np.argsort(np.sum(sources != PAD, axis=1), kind="stable")  # a block ends with its rows
    found = np.empty((len(sources), length), np.int32)
    for first in range(0, len(order), BLOCK):
        rows = order[first : first + BLOCK]
        found[rows] = run(model, jnp.asarray(sources[np.resize(rows, BLOCK)]))[: len(rows)]
    return found


def examples_of(
    model: Model, part: Part, sources: np.ndarray, found: np.ndarray, target_words: list[str]
) -> list[dict[str, Any]]:
    """Sequences, what was found for them, and where the decoder looked for each token of that."""
    memory, h0 = read(model, jnp.asarray(sources))
    _, weights = write(model, memory, h0, jnp.asarray(found))
    examples = []
    for source, references, row, attention in zip(*part, found, np.asarray(weights), strict=True):
        tokens = decode(row, target_words)
        seen = attention[: len(tokens) + 1, : len(source) + 1].round(4).tolist()
        example = {"source": source, "found": tokens, "references": references, "attention": seen}
        examples.append(example)
    return examples


def main(config: Config) -> Result:
    """Trains, translates the test part beside the baselines; writes a record and two figures."""
    surroundings = records.surroundings()
    data = translation_data.load(config.dataset, config.tsv)
    pairs = [pair for pair in data.train.pairs() if max(map(len, pair)) <= config.longest]
    words = [
        translation_data.vocabulary_of(side, config.at_least) for side in zip(*pairs, strict=True)
    ]
    train, validation = (encode_pairs(part, words) for part in (pairs, data.validation.pairs()))
    init_key, train_key = jax.random.split(jax.random.key(0))
    sizes = config.embedding_size, config.hidden_size, config.encoder_layers
    name = f"translation-{config.preset}"
    fitted = training.fit(
        lambda model, carry, batch, key: (loss_of(model, batch, config, key), carry),
        init_model(init_key, len(words[0]), len(words[1]), *sizes),
        jnp.zeros(()),
        batches_of(train, config.batch_size),
        lambda model: nats_per_token(model, validation),
        key=train_key,
        optimiser=training.adam(config.learning_rate, config.steps),
        steps=config.steps,
        evaluate_every=config.evaluate_every,
        items_per_step=config.batch_size,
        unit="pairs",
        folder=config.run.output / f"{name}.checkpoints",
        resume=config.run.resume,
        settings=records.settings_of(config),
    )
    test = data.test
    sources = encode(test.sources, words[0], max(map(len, test.sources)) + 1)
    length = train.targets.shape[1]
    scores = {}
    for way, size in {"greedy": 1, f"beam of {config.beam_size}": config.beam_size}.items():
        found = translate(fitted.params, sources, length, size, config.length_penalty)
        hypotheses = [decode(row, words[1]) for row in found]
        scores[way] = translation_scores.scores_of(hypotheses, test.references)
    baselines = translation_scores.baselines_of(data.train, test)
    shown = np.random.default_rng(0).permutation(len(sources))[:SHOWN]
    part = Part([test.sources[i] for i in shown], [test.references[i] for i in shown])
    examples = examples_of(fitted.params, part, sources[shown], found[shown], words[1])
    return report(config, surroundings, data.joints, Result(scores, baselines, examples, fitted))


def report(
    config: Config, surroundings: dict[str, str], joints: tuple[str, str], result: Result
) -> Result:
    """Writes the record and the figures, and prints what they say."""
    path = config.run.output / f"translation-{config.preset}.json"
    published = PUBLISHED[config.dataset]
    results = {
        "scores": result.scores,
        "baselines": result.baselines,
        "published": published,
        "examples": result.examples,
    }
    records.write_record(path, config, surroundings, result.fitted, results)
    unit = "nats per token"
    records.plot_losses(path.with_suffix(".png"), path.stem, result.fitted, {}, unit)
    translation_plot.plot(path.with_suffix(".attention.png"), result.examples)
    for example in result.examples:
        print(translation_plot.as_text(example, joints))
    print()
    for label, scores in (result.scores | result.baselines | published).items():
        shown = (f"{name} {value:.4f}" for name, value in scores.items())
        print(f"{label:>24}: {', '.join(shown)}")
    print(f"record and figures: {path}, .png and .attention.png")
    return result


if __name__ == "__main__":
    training.launch(main, PRESETS)
