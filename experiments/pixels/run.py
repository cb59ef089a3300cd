"""Trains and tests on each order of the pixels, and follows the belief in the digits of images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.harness import records, training
from experiments.harness.batches import own_rows
from experiments.harness.layouts import Layout
from experiments.harness.models import opened, params_of
from experiments.harness.runs import OpenRun, begun
from experiments.harness.settings import SettingError, stem_of
from experiments.pixels import data, plot
from experiments.pixels.config import Config
from experiments.pixels.data import PIXELS, ROW, Batch, Data, Order, Part, sequences_of
from experiments.pixels.model import Model, accuracies, beliefs, init_model, loss_of

BLOCK = 250  # images that are evaluated at a time
SEARCHED = 500  # images, among which are the
SHOWN = 3  # whose belief is drawn
CUT_OFF = (PIXELS // 4, PIXELS // 2, 3 * PIXELS // 4)  # whose accuracies `summary` tells


class Result(NamedTuple):
    """What a run found."""

    orders: dict[str, Any]  # by order, what `test` returns


def blocks_of(part: Part, pixels: np.ndarray, config: Config) -> Batch:
    """All images of a part, in blocks of equal size."""
    size = np.gcd(len(part.digits), BLOCK)
    xs, digits = sequences_of(part, pixels, config.pixels_per_step)
    blocks = xs.reshape(len(xs), -1, size, xs.shape[2]).swapaxes(0, 1)
    return Batch(np.ascontiguousarray(blocks), digits.reshape(-1, size))


def train(run: OpenRun, order: Order, parts: Data) -> training.Fitted:
    """Trains all seeds; keeps of each the parameters that err least in validation."""
    config: Config = run.config
    pixels = data.pixels_of(order, config.permutation)
    count = len(parts.train.digits)
    validation = blocks_of(parts.validation, pixels, config)
    init_key, train_key = jax.random.split(jax.random.key(0))
    init_keys, train_keys = (jax.random.split(key, config.seeds) for key in (init_key, train_key))

    def batch_at(step: int) -> Batch:
        rows = own_rows(data.rows_at(step, count, config.batch_size))
        chosen = Part(*(leaf[rows] for leaf in parts.train))
        return sequences_of(chosen, pixels, config.pixels_per_step)

    def loss(model: Model, carry: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        return loss_of(config, model, batch), carry

    return training.fit(
        training.TrainingConfig(
            steps=config.steps,
            evaluate_every=config.evaluate_every,
            optimiser=training.adam(config.learning_rate, config.steps),
            items_per_step=config.batch_size * config.seeds,
            unit="images",
            folder=run.checkpoints / order,
            baseline=float(1 - np.bincount(parts.validation.digits).max() / validation.digits.size),
        ),
        train_keys,
        jax.vmap(lambda key: init_model(key, config))(init_keys),
        loss=loss,
        batch_at=batch_at,
        evaluate=lambda model: 1 - accuracies(model, validation)[-1],
        layout=Layout(run.mesh, batch=Batch(1, 0)),
    )


def test(config: Config, order: Order, fitted: training.Fitted, part: Part) -> dict[str, Any]:
    """What the record says of one order."""
    blocks = blocks_of(part, data.pixels_of(order, config.permutation), config)
    measure = jax.jit(lambda model: accuracies(model, blocks))
    seeds = [training.seed_of(fitted, i) for i in range(config.seeds)]
    curves = np.array([measure(model) for model in seeds], float)
    return {
        "parameters": sum(leaf[0].size for leaf in jax.tree.leaves(fitted.params)),
        "validation_error": fitted.loss.tolist(),
        "accuracy": curves[:, -1].tolist(),
        "accuracy_after_rows": curves.tolist(),
        "history": fitted.history,
    }


def beliefs_of(config: Config, order: Order, model: Model, images: np.ndarray) -> np.ndarray:
    """The probability of each digit after 28, 56, ... 784 pixels of images `[N, 784]`."""
    part = Part(images, np.zeros(len(images), np.int32))
    pixels = data.pixels_of(order, config.permutation)
    xs = sequences_of(part, pixels, config.pixels_per_step).xs
    return np.asarray(jax.jit(beliefs)(model, xs))


def latest_of(belief: np.ndarray, digits: np.ndarray) -> np.ndarray:
    """The rows of `SHOWN` images that are recognised, but later than others."""
    wrong = belief.argmax(axis=-1) != digits
    last = np.max(wrong * np.arange(1, 1 + len(wrong))[:, None], axis=0)  # row after which it was
    return np.argsort(np.where(wrong[-1], 0, -last), kind="stable")[:SHOWN]


def followed(config: Config, models: Mapping[Order, Model], part: Part) -> list[plot.Followed]:
    """What is believed in each order of images that the first model is late to recognise."""
    few = Part(*(leaf[:SEARCHED] for leaf in part))
    shown, found = None, []
    for order, model in models.items():
        belief = beliefs_of(config, order, model, few.images)
        shown = latest_of(belief, few.digits) if shown is None else shown
        for i in shown:
            image = few.images[i].reshape(ROW, ROW)
            found.append(plot.Followed(f"a {few.digits[i]}, {order}", image, belief[:, i]))
    return found


def main(config: Config) -> Result | dict[Order, int]:
    """Trains and tests on each order; writes a record, the models and figures.

    With `config.use`, recognises an image with trained models, and nothing else.
    """
    if config.use is not None:
        return use(config)
    orders: dict[str, Any] = {}
    models: dict[Order, Model] = {}
    with begun(config, data.files) as run:
        parts = data.load()
        for order in config.orders:
            print(f"{order}:", flush=True)
            fitted = train(run, order, parts)
            run.warnings.extend(f"{order}: {warning}" for warning in fitted.warnings)
            models[order] = training.best_seed(fitted)
            orders[order] = test(config, order, fitted, parts.test)
        numbers = summary(run.write_record(orders))
        plot.plot(run.record.with_suffix(".png"), orders)
        run.save_model(models)
        shown = followed(config, models, parts.test)
        plot.plot_beliefs(run.record.with_suffix(".beliefs.png"), shown)
        for label, number in numbers.items():
            print(f"{label:>40}: {number}")
        run.conclude(", ".join(f"{order} {numbers[order]}" for order in orders))
    return Result(orders)


def use(config: Config) -> dict[Order, int]:
    """Recognises a user's image with the models of a finished run, and draws their belief."""
    if config.image is None:
        raise SettingError("--image is missing: --use needs an image of a digit.")
    image, title = data.read_image(config.image), config.image.name
    config, saved = opened(config)
    models = params_of(
        saved, lambda: {order: init_model(jax.random.key(0), config) for order in config.orders}
    )
    digits, shown = {}, []
    for order, model in models.items():
        belief = beliefs_of(config, order, model, image[None])[:, 0]
        shown.append(plot.Followed(f"{title}, {order}", image.reshape(ROW, ROW), belief))
        digits[order] = int(belief[-1].argmax())
        print(f"{order}: {digits[order]}, with probability {belief[-1].max():.4f}")
    path = Path(config.run.output, f"{stem_of(config)}.image.png")
    plot.plot_beliefs(path, shown)
    print(f"The belief row by row: {path}")
    return digits


def summary(record: Mapping[str, Any]) -> dict[str, str]:
    """The numbers of a record that README.md shows: shares of test images that are right."""
    numbers = {}
    for order, found in record["results"].items():
        curves = np.array(found["accuracy_after_rows"])
        numbers[order] = f"{records.spread(found['accuracy'], 2, scale=100)} %"
        for pixels in CUT_OFF:
            accuracy = records.spread(curves[:, pixels // ROW - 1].tolist(), 2, scale=100)
            numbers[f"{order}, after {pixels} pixels"] = f"{accuracy} %"
    return numbers
