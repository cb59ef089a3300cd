"""Trains the language model, compares it with n-grams, and lets it write."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax

import gru_jax
from experiments.harness import records, training
from experiments.harness.figures import plot_losses
from experiments.harness.tokens import Vocabulary, vocabulary_of
from experiments.shakespeare import data
from experiments.shakespeare.config import Config
from experiments.shakespeare.model import Model, evaluate, init_model, loss_of, step
from experiments.shakespeare.ngrams import ngram_baselines

EVALUATION_STREAM = 8192  # characters; long enough for the zero state at its start not to matter

# nanoGPT's README: a transformer of 10.7 million parameters on a GPU, and one of 0.8 million after
# three minutes on a CPU; nats per character of the same validation text.
PUBLISHED = {"plays": {}, "tiny": {"nanoGPT, GPU": 1.4697, "nanoGPT, CPU": 1.88}}


class Result(NamedTuple):
    """What a run found, in nats per character unless said otherwise."""

    validation_loss: float
    baselines: dict[str, float]
    sample: str
    fitted: training.Fitted


def sample(config: Config, key: jax.Array, model: Model, vocabulary: Vocabulary) -> jax.Array:
    """Tokens `[sample_length]` with which the model continues the prompt."""
    prompt, h0s = vocabulary.encode(config.prompt), gru_jax.zero_state(model.stack)
    _, tokens = gru_jax.generate(
        key, step, model, h0s, prompt, config.sample_length, temperature=config.temperature
    )
    return tokens


def main(config: Config) -> Result:
    """Trains, evaluates, compares with n-grams; writes a text, a record and a plot."""
    environment = records.environment()
    text = data.load(config.dataset)
    vocabulary = vocabulary_of(text)
    train, validation = map(vocabulary.encode, text)
    streams = data.streams_of(validation, EVALUATION_STREAM, config.chunk_length)

    init_key, train_key, sample_key = jax.random.split(jax.random.key(config.seed), 3)
    model = init_model(config, init_key, len(vocabulary))
    # a bad prompt or temperature raises now rather than after training
    jax.eval_shape(lambda key: sample(config, key, model, vocabulary), sample_key)
    fitted = training.fit(
        training.TrainingConfig.of(
            config,
            f"shakespeare-{config.preset}.checkpoints",
            steps=config.steps,
            optimiser=training.adam(config.learning_rate, config.steps, b2=0.99),
            items_per_step=config.batch_size * config.chunk_length,
            unit="characters",
            patience=config.patience,
        ),
        train_key,
        model,
        loss=partial(loss_of, config),
        batch_at=lambda step: data.batch_at(
            step, train, config.chunk_length, config.batch_size, config.seed
        ),
        evaluate=lambda model: evaluate(config, model, streams),
        carry=gru_jax.zero_state(model.stack, (config.batch_size,)),
    )
    written = vocabulary.decode(sample(config, sample_key, fitted.params, vocabulary).tolist())
    baselines = ngram_baselines(train, validation, len(vocabulary))
    result = Result(float(fitted.loss), baselines, config.prompt + "".join(written), fitted)
    report(config, environment, result)
    return result


def report(config: Config, environment: Mapping[str, str], result: Result) -> None:
    """Writes the record and the plot, and prints what they say."""
    path = config.run.output / f"shakespeare-{config.preset}.json"
    published = PUBLISHED[config.dataset]
    results = {
        "validation_loss": result.validation_loss,
        "validation_bits_per_character": result.validation_loss / math.log(2),
        "baselines": result.baselines,
        "published": published,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(result.fitted.params)),
        "sample": result.sample,
    }
    history = result.fitted.history
    record = records.write_record(path, config, environment, results, history=history)
    levels, unit = result.baselines | published, "nats per character"
    plot_losses(path.with_suffix(".png"), path.stem, history, unit, baselines=levels)
    print(result.sample, end="\n\n")
    for label, number in (summary(record) | published).items():
        print(f"{label:>16}: {number}")
    print(f"record and plot: {path} and .png")


def summary(record: Mapping[str, Any]) -> dict[str, str]:
    """The numbers of a record that README.md shows, in nats per character."""
    results = record["results"]
    return {
        "validation": f"{results['validation_loss']:.4f}",
        "in bits": f"{results['validation_bits_per_character']:.3f}",
        **{name: f"{loss:.4f}" for name, loss in results["baselines"].items()},
    }
