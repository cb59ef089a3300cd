"""The figures: accuracy after so many frames; weeks of forecasts, and their calibration."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.harness.figures import saved_figure
from experiments.timeseries.demand import DAY
from experiments.timeseries.models import LEVELS, MEDIAN

INTERVALS = {50: 0.4, 90: 0.2}  # in per cent, and how dark they are drawn


class Weeks(NamedTuple):
    """Forecasts of the test part, MW."""

    outcomes: np.ndarray  # [48, B]
    quantiles: np.ndarray  # [48, B, 19]
    linear: np.ndarray  # [48, B], those of the linear model


def levels_of(percent: int) -> tuple[int, int]:
    """The places in `LEVELS` of the ends of a central interval."""
    tail = (1 - percent / 100) / 2
    low, high = (int(np.argmin(np.abs(np.array(LEVELS) - p))) for p in (tail, 1 - tail))
    return low, high


def plot_vowels(path: Path, results: Mapping[str, Any]) -> None:
    """Accuracy after so many frames, of every seed and their mean, to a PNG."""
    with saved_figure(path, 7, 4.2) as figure:
        axes = figure.subplots()
        curves = 100 * np.array(results["accuracy_after_frames"])
        frames = np.arange(1, len(curves) + 1)
        axes.plot(frames, curves, color="C0", alpha=0.35, linewidth=0.8)
        axes.plot(frames, curves.mean(axis=1), color="C0", label="GRU, both directions")
        for i, (name, accuracy) in enumerate(results["baselines"].items()):
            label = f"{name}, whole utterance: {100 * accuracy:.1f}"
            axes.axhline(100 * accuracy, color=f"C{i + 1}", linestyle=":", label=label)
        axes.set(title="nine speakers", xlabel="frames heard, at most", ylabel="test, % right")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)


def plot_demand(
    path: Path, weeks: Weeks, results: Mapping[str, Any], dates: Sequence[np.datetime64]
) -> None:
    """The weeks of the highest demand and of the median error, and the calibration, to a PNG.

    Args:
      path: of the PNG.
      weeks: the forecasts.
      results: the scores, as in the record.
      dates: of the days that are forecast, `[B]`.
    """
    errors = np.abs(weeks.quantiles[..., MEDIAN] - weeks.outcomes).mean(axis=0)
    of_weeks = errors[: len(errors) // 7 * 7].reshape(-1, 7).mean(axis=1)
    usual = 7 * int(np.argsort(of_weeks)[len(of_weeks) // 2])
    peak = int(np.clip(weeks.outcomes.max(axis=0).argmax() - 3, 0, len(errors) - 7))
    with saved_figure(path, 13, 7) as figure:
        grid = figure.add_gridspec(2, 2, width_ratios=(2.4, 1))
        for row, (title, first) in enumerate(
            {"The week of the highest demand": peak, "A week of median error": usual}.items()
        ):
            axes = figure.add_subplot(grid[row, 0])
            _week(axes, weeks, first)
            axes.set(title=f"{title}, from {dates[first]}")
            if row == 0:
                axes.legend(frameon=False, fontsize=8, loc="upper left")
        _calibration(figure.add_subplot(grid[:, 1]), results)


def _week(axes: Any, weeks: Weeks, first: int) -> None:
    """Seven forecasts, each made at midnight, with their intervals."""
    outcomes, quantiles, linear = (
        each[:, first : first + 7].swapaxes(0, 1).reshape(7 * DAY, *each.shape[2:])
        for each in weeks
    )
    time = np.arange(7 * DAY) / DAY
    for percent, alpha in INTERVALS.items():
        low, high = levels_of(percent)
        band = quantiles[:, low] / 1000, quantiles[:, high] / 1000
        axes.fill_between(
            time, *band, color="C0", alpha=alpha, linewidth=0, label=f"{percent} % interval"
        )
    axes.plot(time, quantiles[:, MEDIAN] / 1000, "C0", label="median")
    axes.plot(time, linear / 1000, "C1", linewidth=0.9, label="linear model")
    axes.plot(time, outcomes / 1000, "k", linewidth=1.2, label="demand")
    axes.set(xlim=(0, 7), xlabel="days", ylabel="GW")
    axes.grid(alpha=0.3)


def _calibration(axes: Any, results: Mapping[str, Any]) -> None:
    """The share of the outcomes below each quantile over its level."""
    axes.plot([0, 1], [0, 1], "C7:")
    for name, colour in (("before calibration", "C3"), ("seeds", "C0")):
        for i, scores in enumerate(results[name]):
            label = {"seeds": "calibrated"}.get(name, name) if i == 0 else None
            axes.plot(LEVELS, scores["below"], ".-", color=colour, linewidth=0.8, label=label)
    linear = results["baselines"]["linear"]["below"]
    axes.plot(LEVELS, linear, ".-", color="C1", linewidth=0.8, label="linear model")
    axes.set(xlim=(0, 1), ylim=(0, 1), title="calibration, test part", aspect="equal")
    axes.set(xlabel="level of the quantile", ylabel="share of outcomes below it")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
