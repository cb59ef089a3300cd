"""Trains and tests each task, and listens to a few strings as a stream."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness import records, training
from experiments.harness.figures import plot_losses
from experiments.harness.layouts import Layout
from experiments.harness.models import opened, params_of
from experiments.harness.runs import OpenRun, begun
from experiments.harness.settings import SettingError
from experiments.speech import data, plot
from experiments.speech.config import Config, Task
from experiments.speech.data import (
    STRINGS,
    Batch,
    Data,
    Part,
    evaluated,
    evaluated_strings,
    join,
    read_recording,
)
from experiments.speech.decode import prefix_beam, words_of
from experiments.speech.measure import LONGEST, measure_connected, measure_isolated
from experiments.speech.model import (
    Model,
    connected_logits,
    heard,
    init_model,
    isolated_logits,
    loss_of,
)

SHOWN = 3  # strings that are listened to as a stream, and drawn


class Result(NamedTuple):
    """What a run found, by task."""

    tests: dict[str, dict[str, Any]]  # on the test part; a number for each seed
    fitted: dict[str, training.Fitted]


def train(run: OpenRun, task: Task, recordings: Data) -> training.Fitted:
    """Trains all seeds on one task, and keeps of each the parameters best in validation."""
    config: Config = run.config
    validation = evaluated(task, recordings, "validation")
    init_key, train_key = jax.random.split(jax.random.key(0))
    models = jax.vmap(lambda key: init(config, key, task))(jax.random.split(init_key, config.seeds))
    steps = config.isolated_steps if task == "isolated" else config.connected_steps

    def loss(model: Model, carry: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        return loss_of(task, model, batch, config.dropout, key), carry

    silent = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), models)
    return training.fit(
        training.TrainingConfig(
            steps=steps,
            evaluate_every=config.evaluate_every,
            optimiser=training.adam(config.learning_rate, steps, weight_decay=config.weight_decay),
            items_per_step=config.batch_size * config.seeds,
            unit="strings",
            folder=run.checkpoints / task,
            baseline=float(loss_of(task, silent, validation)),  # of every label alike
        ),
        jax.random.split(train_key, config.seeds),
        models,
        loss=loss,
        batch_at=lambda step: data.batch_at(config, task, step, recordings.train),
        evaluate=lambda model: loss_of(task, model, validation),
        layout=Layout(run.mesh, batch=Batch(1, 0, 0)),
    )


def init(config: Config, key: jax.Array, task: Task) -> Model:
    """Draws the parameters of one seed."""
    return init_model(key, task, (config.hidden_size,) * config.layers)


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


def main(config: Config) -> Result | dict[str, str]:
    """Trains and tests each task, listens to a few strings; writes models, record and figures.

    With `config.use`, finds the digits of a recording, and nothing else.
    """
    if config.use is not None:
        return use(config)
    result, models = Result({}, {}), {}
    with begun(config, data.files) as run:
        recordings = data.spoken_digits()
        path = run.record
        for task in config.tasks:
            print(f"{task} digits:", flush=True)
            result.fitted[task] = fitted = train(run, task, recordings)
            run.warnings.extend(f"{task}: {warning}" for warning in fitted.warnings)
            models[task] = training.best_seed(fitted)
            seeds = [training.seed_of(fitted, i) for i in range(config.seeds)]
            if task == "isolated":
                result.tests[task] = measure_isolated(seeds, recordings)
            else:
                result.tests[task] = measure_connected(seeds, recordings, config.width)
                strings = listen_to(seeds[0], recordings.test)
                plot.plot(path.with_suffix(".posteriors.png"), strings)
            title, figure = f"{path.stem}, {task} digits", path.with_suffix(f".{task}.png")
            plot_losses(figure, title, fitted.history, "nats per digit")
        scale = {"mean": recordings.mean.tolist(), "deviation": recordings.deviation.tolist()}
        run.save_model(models, **scale)
        results = {
            task: found | {"history": result.fitted[task].history}
            for task, found in result.tests.items()
        }
        numbers = summary(run.write_record(results))
        for label, number in numbers.items():
            print(f"{label:>40}: {number}")
        run.conclude(", ".join(f"{label} {number}" for label, number in numbers.items()))
    return result


def use(config: Config) -> dict[str, str]:
    """Finds the digits of a user's recording with the models of a finished run."""
    recording = config.recording
    if recording is None:
        raise SettingError("--recording is missing: --use needs a file to listen to.")
    config, saved = opened(config)
    models = params_of(
        saved, lambda: {task: init(config, jax.random.key(0), task) for task in config.tasks}
    )
    frames = read_recording(recording)
    frames = (frames - np.array(saved.knows["mean"])) / np.array(saved.knows["deviation"])
    batch = Batch(frames.astype(np.float32)[:, None], np.array([len(frames)]), None)
    found: dict[str, str] = {}
    for task, model in models.items():
        if task == "isolated":
            found[task] = str(int(jnp.argmax(isolated_logits(model, batch))))
        else:
            logits = connected_logits(model, batch)[:, 0]
            beam = prefix_beam(logits, jnp.ones(len(frames), bool), config.width, LONGEST)
            (found[task],) = words_of(np.asarray(beam.prefixes[:1]))
        print(f"as {task} digits: {found[task]}")
    return found


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
