"""Trains the language model, compares it with n-grams, and lets it write."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import gru_jax
from experiments.harness import training
from experiments.harness.figures import plot_losses
from experiments.harness.layouts import Layout
from experiments.harness.models import opened, params_of
from experiments.harness.runs import OpenRun, begun
from experiments.harness.settings import SettingError
from experiments.harness.tokens import Vocabulary
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
    key = jax.random.fold_in(key, config.sample_seed)
    _, tokens = gru_jax.generate(
        key, step, model, h0s, prompt, config.sample_length, temperature=config.temperature
    )
    return tokens


def write(config: Config, key: jax.Array, model: Model, vocabulary: Vocabulary) -> str:
    """The prompt, and what the model continues it with."""
    written = vocabulary.decode(sample(config, key, model, vocabulary).tolist())
    return config.prompt + "".join(written)


def check_prompt(config: Config, vocabulary: Vocabulary) -> None:
    """Refuses a prompt with characters that the model does not know."""
    if strange := sorted(set(config.prompt) - set(vocabulary.symbols)):
        raise SettingError(
            f"--prompt is {config.prompt!r}, but the model does not know {strange}, only "
            f"{''.join(vocabulary.symbols)!r}."
        )


def main(config: Config) -> Result | str:
    """Trains, evaluates, compares with n-grams; writes a text, a model, a record and a plot.

    With `config.use`, lets a trained model write, and nothing else.
    """
    if config.use is not None:
        return use(config)
    with begun(config, lambda: data.files(config)) as run:
        train_tokens, validation, vocabulary = data.encoded(config)
        check_prompt(config, vocabulary)
        init_key, train_key, sample_key = keys_of(config)
        model = init_model(config, init_key, len(vocabulary))
        baselines = ngram_baselines(train_tokens, validation, len(vocabulary))
        parts = train_tokens, validation
        fitted = train(run, train_key, model, parts, baseline=baselines["unigram"])
        run.save_model(fitted.params, symbols=vocabulary.symbols)
        written = write(config, sample_key, fitted.params, vocabulary)
        result = Result(float(fitted.loss), baselines, written, fitted)
        report(run, result)
    return result


def keys_of(config: Config) -> jax.Array:
    """The keys of the first parameters, of training, and of the sample."""
    return jax.random.split(jax.random.key(config.seed), 3)


def train(
    run: OpenRun,
    key: jax.Array,
    model: Model,
    parts: tuple[np.ndarray, np.ndarray],
    *,
    baseline: float,
) -> training.Fitted:
    """Trains on the first part, and keeps the parameters that are best on the second."""
    config: Config = run.config
    tokens, validation = parts
    streams = data.streams_of(validation, EVALUATION_STREAM, config.chunk_length)
    return training.fit(
        training.TrainingConfig(
            steps=config.steps,
            evaluate_every=config.evaluate_every,
            optimiser=optimiser_of(config),
            items_per_step=config.batch_size * config.chunk_length,
            unit="characters",
            folder=run.checkpoints,
            baseline=baseline,
            patience=config.patience,
        ),
        key,
        model,
        loss=partial(loss_of, config),
        batch_at=lambda step: data.batch_at(
            step, tokens, config.chunk_length, config.batch_size, config.seed
        ),
        evaluate=lambda model: evaluate(config, model, streams),
        carry=gru_jax.zero_state(model.stack, (config.batch_size,)),
        layout=Layout(run.mesh, batch=data.Batch(1, None), carry=0),
    )


def optimiser_of(config: Config) -> optax.GradientTransformation:
    """What updates the parameters."""
    return training.adam(config.learning_rate, config.steps, b2=0.99)


def use(config: Config) -> str:
    """Lets the model of a finished run write."""
    config, saved = opened(config)
    vocabulary = Vocabulary(tuple(saved.knows["symbols"]))
    check_prompt(config, vocabulary)
    init_key, _, sample_key = keys_of(config)
    model = params_of(saved, lambda: init_model(config, init_key, len(vocabulary)))
    written = write(config, sample_key, model, vocabulary)
    print(written)
    return written


def report(run: OpenRun, result: Result) -> None:
    """Writes the record and the plot, and prints what they say."""
    published = PUBLISHED[run.config.dataset] if run.config.text is None else {}
    run.warnings.extend(result.fitted.warnings)
    results = {
        "validation_loss": result.validation_loss,
        "validation_bits_per_character": result.validation_loss / math.log(2),
        "baselines": result.baselines,
        "published": published,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(result.fitted.params)),
        "sample": result.sample,
    }
    history = result.fitted.history
    record = run.write_record(results, history=history)
    levels, unit = result.baselines | published, "nats per character"
    plot_losses(run.record.with_suffix(".png"), run.record.stem, history, unit, baselines=levels)
    print(result.sample, end="\n\n")
    for label, number in (summary(record) | published).items():
        print(f"{label:>16}: {number}")
    run.conclude(f"{result.validation_loss:.4f} nats per character")


def summary(record: Mapping[str, Any]) -> dict[str, str]:
    """The numbers of a record that README.md shows, in nats per character."""
    results = record["results"]
    return {
        "validation": f"{results['validation_loss']:.4f}",
        "in bits": f"{results['validation_bits_per_character']:.3f}",
        **{name: f"{loss:.4f}" for name, loss in results["baselines"].items()},
    }
