"""Which digits were spoken? A GRU on real recordings: one digit, and strings of them by CTC.

python -m experiments.speech                  # both tasks, a few minutes on two cores
python -m experiments.speech --preset full    # the recorded run

Isolated digits: a bidirectional stack reads a recording, its mean state is classified. Connected
digits: a stack that reads forwards, so that it can listen to a stream, learns by connectionist
temporal classification (CTC, Graves et al. 2006) which digits are in a string, not told where.
"""

from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments import records, speech_plot, training
from experiments.speech_data import Batch, Data, Distortion, Part, draw_strings, join, spoken_digits
from experiments.speech_decode import greedy, prefix_beam, word_error, words_of
from experiments.speech_model import (
    Model,
    connected_logits,
    heard,
    init_model,
    isolated_logits,
    loss_of,
    mask_of,
)

LIMITS = {"isolated": 32, "connected": 144}  # frames of a string in training
VALIDATED, TESTED = 500, 1000  # strings
SHOWN = 3  # strings that are listened to as a stream, and drawn
LONGEST = 12  # digits that the beam search finds at most in a string


@dataclass(frozen=True)
class Config:
    """A recogniser of spoken digits."""

    preset: Literal["default", "full"] = "default"
    """Where the other settings' defaults come from."""
    tasks: tuple[Literal["isolated", "connected"], ...] = ("isolated", "connected")
    hidden_size: int = 128
    """Of each direction."""
    layers: int = 2
    dropout: float = 0.3
    """Rate on the states between the layers; 0 where there is only one."""
    speed: float = 1.25
    """How a recording is distorted in training; see `speech_data.Distortion`."""
    offset: float = 0.4
    noise: float = 0.1
    weight_decay: float = 1e-4
    batch_size: int = 32
    isolated_steps: int = 300
    connected_steps: int = 900
    learning_rate: float = 4e-3
    """At its peak: it rises linearly for a twentieth of the steps, then falls along a cosine."""
    evaluate_every: int = 100
    width: int = 8
    """Prefixes that the beam search keeps."""
    seeds: int = 1
    """Trained side by side by vmap."""
    run: Annotated[training.Run, tyro.conf.arg(name="")] = field(default_factory=training.Run)


PRESETS = {
    "default": Config(),
    "full": Config(preset="full", isolated_steps=600, connected_steps=1200, seeds=3),
}


class Result(NamedTuple):
    """What a run found, by task."""

    tests: dict[str, dict[str, Any]]  # on the test part; a number for each seed
    fitted: dict[str, training.Fitted]


def batch_at(step: int, task: str, train: Part, config: Config) -> Batch:
    """The recordings of an update, each played anew: one by one, or in strings."""
    rng = np.random.default_rng([0, step])
    if task == "isolated":
        strings = list(rng.integers(len(train.digits), size=(config.batch_size, 1)))
    else:
        strings = draw_strings(rng, train, config.batch_size)
    distortion = Distortion(rng, config.speed, config.offset, config.noise)
    return join(train, strings, limit=LIMITS[task], distortion=distortion)


def evaluated(task: str, part: Part, count: int) -> Batch:
    """What is evaluated: every recording once, or `count` strings, always the same ones."""
    if task == "isolated":
        return join(part, list(np.arange(len(part.digits))[:, None]))
    return join(part, draw_strings(np.random.default_rng([1, count]), part, count))


def summary_regression(data: Data) -> float:
    """Test accuracy of logistic regression on each recording's mean and standard deviation."""
    from sklearn.linear_model import LogisticRegression

    def summaries(part: Part) -> np.ndarray:
        recordings = np.split(part.frames, part.starts[1:])
        return np.array([np.concatenate([x.mean(axis=0), x.std(axis=0)]) for x in recordings])

    train, validation, test = map(summaries, data)
    models = [LogisticRegression(C=c, max_iter=5000) for c in (0.1, 1, 10, 100)]
    for model in models:
        model.fit(train, data.train.digits)
    best = max(models, key=lambda model: model.score(validation, data.validation.digits))
    return float(best.score(test, data.test.digits))


def measure_isolated(models: list[Model], data: Data) -> dict[str, Any]:
    """The share of test recordings whose digit is found, beside a baseline."""
    batch = evaluated("isolated", data.test, TESTED)
    find = jax.jit(lambda model: jnp.argmax(isolated_logits(model, batch), axis=-1))
    return {
        "recordings": len(data.test.digits),
        "accuracy": [
            float(np.mean(np.asarray(find(model)) == data.test.digits)) for model in models
        ],
        "baselines": {"logistic regression": summary_regression(data)},
    }


def measure_connected(models: list[Model], data: Data, width: int) -> dict[str, Any]:
    """Word errors in the test strings, for both ways to decode."""
    batch = evaluated("connected", data.test, TESTED)
    mask = mask_of(batch)

    @jax.jit
    def decode(model: Model) -> tuple[jax.Array, jax.Array]:
        logits = connected_logits(model, batch)
        search = partial(prefix_beam, width=width, longest=LONGEST)
        return greedy(logits, mask), jax.vmap(search, 1)(logits, mask).prefixes[:, 0]

    said = words_of(batch.labels)
    found = [[words_of(np.asarray(rows)) for rows in decode(model)] for model in models]
    return {
        "strings": len(said),
        "greedy": [word_error(said, words) for words, _ in found],
        "prefix beam": [word_error(said, words) for _, words in found],
    }


def listen_to(model: Model, part: Part) -> list[speech_plot.Heard]:
    """Plays the first of the test strings to a model, frame by frame, and prints what it hears."""
    strings = draw_strings(np.random.default_rng([1, TESTED]), part, TESTED)[:SHOWN]
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
        found.append(speech_plot.Heard(frames, ends, said, posteriors, digits))
    return found


def learn(config: Config, task: str, data: Data) -> training.Fitted:
    """Trains all seeds on one task."""
    validation = evaluated(task, data.validation, VALIDATED)
    init_key, train_key = jax.random.split(jax.random.key(0))
    sizes = (config.hidden_size,) * config.layers
    models = jax.vmap(lambda key: init_model(key, task, sizes))(
        jax.random.split(init_key, config.seeds)
    )
    steps = config.isolated_steps if task == "isolated" else config.connected_steps
    return training.fit(
        lambda model, carry, batch, key: (loss_of(task, model, batch, config.dropout, key), carry),
        models,
        jnp.zeros(config.seeds),
        lambda step: batch_at(step, task, data.train, config),
        lambda model: loss_of(task, model, validation),
        key=jax.random.split(train_key, config.seeds),
        optimiser=training.adam(config.learning_rate, steps, weight_decay=config.weight_decay),
        steps=steps,
        evaluate_every=config.evaluate_every,
        items_per_step=config.batch_size * config.seeds,
        unit="strings",
        folder=config.run.output / f"speech-{config.preset}.checkpoints" / task,
        resume=config.run.resume,
        settings=records.settings_of(config),
    )


def main(config: Config) -> Result:
    """Trains and tests each task, listens to a few strings; writes a record and figures."""
    surroundings = records.surroundings()
    data = spoken_digits()
    path = config.run.output / f"speech-{config.preset}.json"
    result = Result({}, {})
    for task in config.tasks:
        print(f"{task} digits:")
        result.fitted[task] = fitted = learn(config, task, data)
        models = [jax.tree.map(itemgetter(i), fitted.params) for i in range(config.seeds)]
        if task == "isolated":
            result.tests[task] = measure_isolated(models, data)
        else:
            result.tests[task] = measure_connected(models, data, config.width)
            speech_plot.plot(path.with_suffix(".posteriors.png"), listen_to(models[0], data.test))
        title, figure = f"{path.stem}, {task} digits", path.with_suffix(f".{task}.png")
        records.plot_losses(figure, title, fitted, {}, "nats per digit")
    tasks = {
        task: found | {"history": result.fitted[task].history}
        for task, found in result.tests.items()
    }
    record = {"settings": records.settings_of(config), "surroundings": surroundings}
    records.write_json(path, record | {"results": tasks})
    report(result)
    print(f"record and figures: {path} and .*.png")
    return result


def report(result: Result) -> None:
    """Prints the numbers."""
    if found := result.tests.get("isolated"):
        accuracy = found["accuracy"]
        print(f"isolated digits, accuracy on {found['recordings']} test recordings:")
        print(f"{'GRU':>20}: {np.mean(accuracy):.4f} ± {np.std(accuracy):.4f}")
        for label, value in found["baselines"].items():
            print(f"{label:>20}: {value:.4f}")
    if found := result.tests.get("connected"):
        print(f"connected digits, word error rate on {found['strings']} test strings:")
        for label in ("greedy", "prefix beam"):
            rates = [errors["rate"] for errors in found[label]]
            print(f"{label:>20}: {np.mean(rates):.4f} ± {np.std(rates):.4f}")


if __name__ == "__main__":
    training.launch(main, PRESETS)
