"""Trains and tests each task, and listens to a few strings as a stream."""

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.harness import records, training
from experiments.harness.figures import plot_losses
from experiments.speech import data, plot
from experiments.speech.config import Config, Task
from experiments.speech.data import STRINGS, Batch, Data, Part, evaluated, evaluated_strings, join
from experiments.speech.decode import words_of
from experiments.speech.measure import measure_connected, measure_isolated
from experiments.speech.model import Model, connected_logits, heard, init_model, loss_of

SHOWN = 3  # strings that are listened to as a stream, and drawn


class Result(NamedTuple):
    """What a run found, by task."""

    tests: dict[str, dict[str, Any]]  # on the test part; a number for each seed
    fitted: dict[str, training.Fitted]


def train(config: Config, task: Task, recordings: Data) -> training.Fitted:
    """Trains all seeds on one task, and keeps of each the parameters best in validation."""
    validation = evaluated(task, recordings, "validation")
    init_key, train_key = jax.random.split(jax.random.key(0))
    sizes = (config.hidden_size,) * config.layers
    models = jax.vmap(lambda key: init_model(key, task, sizes))(
        jax.random.split(init_key, config.seeds)
    )
    steps = config.isolated_steps if task == "isolated" else config.connected_steps

    def loss(model: Model, carry: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        return loss_of(task, model, batch, config.dropout, key), carry

    return training.fit(
        training.TrainingConfig.of(
            config,
            f"speech-{config.preset}.checkpoints/{task}",
            steps=steps,
            optimiser=training.adam(config.learning_rate, steps, weight_decay=config.weight_decay),
            items_per_step=config.batch_size * config.seeds,
            unit="strings",
        ),
        jax.random.split(train_key, config.seeds),
        models,
        loss=loss,
        batch_at=lambda step: data.batch_at(config, task, step, recordings.train),
        evaluate=lambda model: loss_of(task, model, validation),
    )


def listen_to(model: Model, part: Part) -> list[plot.Heard]:
    """Plays the first of the test strings to a model, frame by frame, and prints what it hears."""
    strings = evaluated_strings(part, STRINGS["test"])[:SHOWN]
    batch = join(part, strings)
    all_posteriors = jax.nn.softmax(connected_logits(model, batch), axis=-1)
    found = []
    for i, (rows, said) in enumerate(zip(strings, words_of(batch.labels), strict=True)):
        frames = batch.xs[: batch.lengths[i], i]
        print(f"said {said}, heard", end="")
        digits = []
        for t, digit in heard(model, frames):
            print(f" {digit} (frame {t})", end="", flush=True)
            digits.append((t, digit))
        print()
        ends = np.cumsum(part.lengths[rows]).tolist()
        posteriors = np.asarray(all_posteriors[: len(frames), i])
        found.append(plot.Heard(frames, ends, said, posteriors, digits))
    return found


def main(config: Config) -> Result:
    """Trains and tests each task, listens to a few strings; writes a record and figures."""
    environment = records.environment()
    recordings = data.spoken_digits()
    path = config.run.output / f"speech-{config.preset}.json"
    result = Result({}, {})
    for task in config.tasks:
        print(f"{task} digits:")
        result.fitted[task] = fitted = train(config, task, recordings)
        models = [jax.tree.map(itemgetter(i), fitted.params) for i in range(config.seeds)]
        if task == "isolated":
            result.tests[task] = measure_isolated(models, recordings)
        else:
            result.tests[task] = measure_connected(models, recordings, config.width)
            strings = listen_to(models[0], recordings.test)
            plot.plot(path.with_suffix(".posteriors.png"), strings)
        title, figure = f"{path.stem}, {task} digits", path.with_suffix(f".{task}.png")
        plot_losses(figure, title, fitted.history, "nats per digit")
    results = {
        task: found | {"history": result.fitted[task].history}
        for task, found in result.tests.items()
    }
    record = records.write_record(path, config, environment, results)
    for label, number in summary(record).items():
        print(f"{label:>40}: {number}")
    print(f"record and figures: {path} and .*.png")
    return result


def summary(record: Mapping[str, Any]) -> dict[str, str]:
    """The numbers of a record that README.md shows: accuracy, and word error rates."""
    numbers, results = {}, record["results"]
    if found := results.get("isolated"):
        accuracy = {"GRU": f"{records.spread(found['accuracy'], 2, scale=100)} %"}
        baselines = {name: f"{100 * value:.2f} %" for name, value in found["baselines"].items()}
        for name, number in (accuracy | baselines).items():
            numbers[f"isolated, accuracy, {name}"] = number
    if found := results.get("connected"):
        for decoder in ("greedy", "prefix beam"):
            rates = [errors["rate"] for errors in found[decoder]]
            spread = records.spread(rates, 2, scale=100)
            numbers[f"connected, word error rate, {decoder}"] = f"{spread} %"
    return numbers
