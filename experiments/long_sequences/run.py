"""Measures passes through long sequences, trains by them, and compares gradients."""

import itertools
import json
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import gru_jax
from experiments.harness import training
from experiments.harness.batches import own_rows
from experiments.harness.devices import by_first
from experiments.harness.files import write_json
from experiments.harness.layouts import Layout
from experiments.harness.records import markdown_table
from experiments.harness.runs import OpenRun, begun
from experiments.harness.settings import SettingError
from experiments.long_sequences import cost, data, gradients, plot
from experiments.long_sequences.config import Config
from experiments.long_sequences.model import WAYS, Model, Way, chunked, first_carry, init_model
from experiments.shakespeare.ngrams import ngram_baselines

PER_CALL = 100
"""Updates per jitted call, at most."""


class Result(NamedTuple):
    """What a run found; see `main`."""

    costs: dict[str, Any]
    training: dict[str, Any]
    gradients: dict[str, Any]


class Batch(NamedTuple):
    """A segment of each sequence."""

    sequences: Any  # `data.Sequence` [B, T]
    is_first: Any  # []: the sequences begin here


def costs_of(run: OpenRun) -> dict[str, Any]:
    """Time and memory of every way at every length; those of a resumed run are kept.

    Of several processes the first one measures.
    """
    config: Config = run.config
    kept = run.checkpoints / "costs.json"

    def measure() -> None:
        found: dict[str, Any] = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
        for length, name in itertools.product(config.measured, WAYS):
            entries = found.setdefault(name, {})
            if str(length) not in entries:
                print(f"T = {length:,}, {name}", flush=True)
                entries[str(length)] = cost.measured_apart(name, length, config)
                write_json(kept, found)

    by_first(measure)
    costs: dict[str, Any] = json.loads(kept.read_text("utf-8"))
    return costs


def first_model(config: Config, vocabulary: int) -> Model:
    """The parameters that training begins with."""
    return init_model(jax.random.key(0), vocabulary, config.embedding_size, config.hidden_size)


def train(run: OpenRun, text: data.Text, segment: int, rate: float, *, way: Way) -> training.Fitted:
    """Trains with an update after each segment, whose state is handed on."""
    config: Config = run.config
    sequences, validation = data.rows_of(text.train, config.batch_size), text.validation
    count = config.length // segment
    per_call = next(n for n in range(min(PER_CALL, count), 0, -1) if count % n == 0)
    model = first_model(config, len(text.vocabulary))
    zeros = jax.tree.map(
        lambda leaf: jnp.repeat(leaf[None], config.batch_size, axis=0),
        first_carry(model, way, segment),
    )

    def loss(model: Model, carry: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        carry = jax.tree.map(partial(jnp.where, batch.is_first), zeros, carry)
        nats, carry = jax.vmap(partial(way.loss, model))(carry, batch.sequences)
        return jnp.mean(nats) / segment, carry

    def batch_at(step: int) -> Batch:
        start = step % count * segment
        here = jax.tree.map(lambda x: own_rows(x[:, start : start + segment]), sequences)
        return Batch(here, np.array(start == 0))

    def evaluate(model: Model) -> jax.Array:
        nats, _ = chunked(model, gru_jax.zero_state(model.gru), validation)
        return nats / len(validation.inputs)

    return training.fit(
        training.TrainingConfig(
            steps=config.epochs * count,
            evaluate_every=count,
            optimiser=training.adam(rate, config.epochs * count),
            items_per_step=config.batch_size * segment,
            unit="characters",
            folder=run.checkpoints / (f"{segment}-overlap" if way.overlaps else str(segment)),
            steps_per_call=per_call,
        ),
        jax.random.key(1),
        model,
        loss=loss,
        batch_at=batch_at,
        evaluate=evaluate,
        carry=zeros,
        layout=Layout(run.mesh, batch=Batch(0, None)),
    )


def check_lengths(config: Config) -> None:
    """Refuses segments that do not divide what they are cut from.

    Raises:
      SettingError: it names the option.
    """
    pairs = ("--segments", config.segments, "--length", config.length)
    others = ("--truncations", config.truncations, "--compared", config.compared)
    for option, lengths, whole, total in (pairs, others):
        for length in lengths:
            if total % length:
                raise SettingError(f"{option} has {length}, but must divide {whole} = {total}.")
    for length in config.measured:
        if length % min(length, config.segments[0]):
            raise SettingError(
                f"--measured has {length}, but must be multiples of the first of --segments = "
                f"{config.segments[0]}."
            )
    if len(config.learning_rates) != len(config.segments):
        raise SettingError(
            f"--learning-rates has {len(config.learning_rates)} values, but must have one for each "
            f"of the {len(config.segments)} --segments."
        )


def trained(run: OpenRun, text: data.Text) -> tuple[dict[str, Any], Model]:
    """By length of the segments what training found; and the model that is best in validation."""
    config: Config = run.config
    found: dict[str, Any] = {}
    fits = []
    pairs = zip(config.segments, config.learning_rates, strict=True)
    plans = [(segment, rate, "chunked_loss") for segment, rate in pairs]
    plans.append((config.segments[0], config.learning_rates[0], "truncated, overlap"))
    for segment, rate, name in plans:
        label = f"{segment:,}" + ", overlap" * WAYS[name].overlaps
        print(f"an update after every {label}:", flush=True)
        fitted = train(run, text, segment, rate, way=WAYS[name])
        run.warnings.extend(f"segments of {label}: {warning}" for warning in fitted.warnings)
        fits.append(fitted)
        found[label] = {
            "updates": config.epochs * config.length // segment,
            "learning_rate": rate,
            "validation_loss": float(fitted.loss),
            "history": fitted.history,
        }
    return found, min(fits, key=lambda fitted: float(fitted.loss)).params


def main(config: Config) -> Result:
    """Measures, trains and compares; writes a record and a figure.

    Returns:
      By way and T the costs of a pass; by length of the segments what training found; by model,
      way and length of the segments how far truncated gradients are from the exact one.
    """
    with begun(config, data.files) as run:
        check_lengths(config)
        text = data.load()
        size = len(text.vocabulary)
        compared = data.first(text.train, config.compared, "--compared")
        characters = config.batch_size * config.length
        learned = data.first(text.train, characters, "--batch-size × --length")
        costs = costs_of(run)
        found, model = trained(run, text._replace(train=learned))
        models = {"untrained": first_model(config, size), "trained": model}
        deviations = gradients.compare(models, compared, config.truncations)
        results = {
            "costs": costs,
            "training": found,
            "gradients": deviations,
            "baselines": ngram_baselines(learned.inputs, text.validation.inputs, size),
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(model)),
            "peak_mebibytes": cost.peak_mebibytes(),
        }
        record = run.write_record(results)
        plot.plot(run.record.with_suffix(".png"), record["results"])
        for title, table in summary(record).items():
            print(f"\n{title}:\n{table}")
        run.conclude(f"T up to {max(config.measured):,}")
    return Result(costs, found, deviations)


def summary(record: Mapping[str, Any]) -> dict[str, str]:
    """The numbers of a record that README.md shows: its tables."""
    results, settings = record["results"], record["settings"]
    lengths = [str(length) for length in settings["measured"]]
    head = ["way", *(f"T = {int(length):,}" for length in lengths)]
    times, memory = [], []
    for name, entries in results["costs"].items():
        here = [(length, entries[length]) for length in lengths]
        times.append([name, *(f"{cost.microseconds_per_step(e, int(n)):.1f}" for n, e in here)])
        numbers = [(e["temporary_mebibytes"], e["peak_mebibytes"]) for _, e in here]
        memory.append([name, *(f"{temporary:.1f} / {peak:.0f}" for temporary, peak in numbers)])
    rows = []
    for length in map(str, settings["truncations"]):
        found = [
            results["gradients"][model][way][length]
            for model in ("untrained", "trained")
            for way in gradients.TRUNCATED
        ]
        cells = [f"{each['relative_error']:.1e}, {each['cosine']:.6f}" for each in found]
        rows.append([f"{int(length):,}", *cells])
    ways = ["untrained", "untrained, overlap", "trained", "trained, overlap"]
    learned = []
    for segment, found in results["training"].items():
        seconds, loss = found["history"][-1]["cpu_seconds"], f"{found['validation_loss']:.4f}"
        rate = f"{found['learning_rate']:g}"
        learned.append([segment, f"{found['updates']:,}", rate, loss, f"{seconds:.0f}"])
    columns = ["segment", "updates", "learning rate", "nats per character", "s of CPU"]
    return {
        "microseconds of CPU per step": markdown_table(head, times),
        "MiB, temporary by XLA / peak resident": markdown_table(head, memory),
        "relative error and cosine": markdown_table(["segment", *ways], rows),
        "validation": markdown_table(columns, learned),
        "peak": f"{results['peak_mebibytes']:.0f} MiB",
        "trigram": f"{results['baselines']['trigram']:.4f}",
    }
