"""Runs one of the tasks, or uses the models of a finished run."""

import csv
import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.harness import records
from experiments.harness.datasets import hashes, read_text
from experiments.harness.models import Model, opened, params_of
from experiments.harness.runs import begun
from experiments.harness.settings import SettingError
from experiments.timeseries import classify, demand, forecast, plot, vowels
from experiments.timeseries.config import Config
from experiments.timeseries.demand import DAY, WEEK, Scale, windows_of
from experiments.timeseries.models import LEVELS
from experiments.timeseries.vowels import COEFFICIENTS, SPEAKERS

COVERED = (50, 80, 90)  # central intervals, in per cent, whose coverage is told


class Result(NamedTuple):
    """What a run found, or what a finished run's models say of a table."""

    results: dict[str, Any]
    found: list[list[float]]


def main(config: Config) -> Result:
    """Trains, tests beside baselines; writes models, record and figure.

    With `config.use`, classifies an utterance or forecasts a day, and nothing else.
    """
    if config.use is not None:
        return Result({}, use(config))
    source = vowels.AEON if config.task == "vowels" else demand.TSDATA
    with begun(config, lambda: hashes(source)) as run:
        if config.task == "vowels":
            results = classify.classify(run)
            plot.plot_vowels(run.record.with_suffix(".png"), results)
        else:
            results = forecast.forecast(run)
        numbers = summary(run.write_record(results))
        for label, number in numbers.items():
            print(f"\n{number}\n" if "\n" in number else f"{label:>24}: {number}")
        run.conclude(f"{config.task}, {config.seeds} seeds")
    return Result(results, [])


def use(config: Config) -> list[list[float]]:
    """Reads a table and prints, as CSV, what the models of a finished run say of it."""
    config, saved = opened(config)
    text = sys.stdin.read() if config.table == Path("-") else read_text(config.table, "--table")[0]
    try:
        if config.task == "vowels":
            return _classify(config, saved, text)
        return _forecast(config, saved, text)
    except ValueError as error:
        raise SettingError(f"--table is {str(config.table)!r}, but {error}.") from error


def _classify(config: Config, saved: Model, text: str) -> list[list[float]]:
    """The probability of each speaker; the table has the coefficients of a frame in every row."""
    frames = np.array([list(map(float, row)) for row in csv.reader(io.StringIO(text)) if row])
    if frames.ndim != 2 or frames.shape[1] != COEFFICIENTS:
        raise ValueError(f"must have {COEFFICIENTS} numbers in every row")
    frames = (frames - np.array(saved.knows["mean"])) / np.array(saved.knows["deviation"])
    models = params_of(saved, lambda: classify.init_all(config, jax.random.key(0)))
    batch = vowels.Batch(frames.astype(np.float32)[:, None], np.array([len(frames)]), None)
    probabilities = np.exp(classify.log_p_of(models, batch)).mean(axis=0)[0]
    print("speaker,probability")
    for speaker in range(SPEAKERS):
        print(f"{speaker + 1},{probabilities[speaker]:.4f}")
    return [probabilities.tolist()]


def _forecast(config: Config, saved: Model, text: str) -> list[list[float]]:
    """The quantiles of a day's demand; the table's last 48 rows have no Demand yet."""
    series = demand.series_of(text)
    origin = len(series.demand) - DAY
    known = np.isfinite([series.demand[:origin], series.temperature[:origin]])
    if origin < WEEK or not known[:, -WEEK:].all():
        raise ValueError(
            f"must have {WEEK} rows with Demand and Temperature before the last {DAY}, which are "
            "forecast"
        )
    scale = Scale(*map(tuple, saved.knows["scale"]))
    models = params_of(saved, lambda: forecast.init_all(config, jax.random.key(0)))
    windows = windows_of(series, scale, np.array([origin]), config.days)
    quantiles = forecast.megawatts(forecast.predict(models, windows), scale).mean(axis=0)[:, 0]
    quantiles = np.sort(quantiles + np.array(saved.knows["corrections"]), axis=-1)
    print("half-hour", *(f"{level:.2f}" for level in LEVELS), sep=",")
    for i, row in enumerate(quantiles):
        print(i, *(f"{value:.0f}" for value in row), sep=",")
    return [row.tolist() for row in quantiles]


def summary(record: Mapping[str, Any]) -> dict[str, str]:
    """The numbers of a record that README.md shows: accuracies, or a table of forecasts."""
    results = record["results"]
    if record["settings"]["task"] == "vowels":
        return {
            "cross-validated": f"{records.spread(results['validation_accuracy'], 2, scale=100)} %",
            "GRU": f"{records.spread(results['accuracy'], 2, scale=100)} %",
            "mean probabilities": f"{100 * results['ensemble_accuracy']:.2f} %",
            **{name: f"{100 * value:.2f} %" for name, value in results["baselines"].items()},
        }
    rows = {name: [scores] for name, scores in results["baselines"].items()}
    rows["GRU"] = results["seeds"]
    rows["GRU, mean quantiles of the seeds"] = [results["mean quantiles"]]
    rows["GRU, before calibration"] = results["before calibration"]
    head = ["forecast", "MAE, MW", "MAPE, %", "pinball, MW"]
    head += [f"in the {percent} % interval, %" for percent in COVERED]
    return {"a day ahead": records.markdown_table(head, map(_row, rows, rows.values()))}


def _row(name: str, seeds: list[dict[str, Any]]) -> list[str]:
    """A row of the table: means, and deviations where there are several seeds."""
    below = np.array([scores["below"] for scores in seeds])
    columns = [(1, [scores["MAE"] for scores in seeds]), (2, [scores["MAPE"] for scores in seeds])]
    columns.append((1, [scores["pinball"] for scores in seeds]))
    for percent in COVERED:
        low, high = plot.levels_of(percent)
        columns.append((1, (100 * (below[:, high] - below[:, low])).tolist()))
    return [name] + [records.spread(values, digits) for digits, values in columns]
