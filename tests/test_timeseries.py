"""The time-series experiment: utterances, demand, what a forecast knows, and runs in small."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import assert_close, randomised

from experiments import timeseries
from experiments.harness.datasets import DatasetError
from experiments.harness.settings import Run, SettingError
from experiments.timeseries import baselines, demand, forecast, models, vowels
from experiments.timeseries.config import Config
from experiments.timeseries.demand import DAY, HOLIDAY, WEEK, series_of, windows_of
from experiments.timeseries.vowels import LONGEST, Batch, fold_of, padded, read

pytestmark = pytest.mark.usefixtures("jax_defaults")
START = np.datetime64("2013-06-09T14:00", "m")  # midnight in Melbourne


def utterances(count, seed=0):
    """Of nine speakers, each with a mean of its own."""
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(7).standard_normal((9, 12))
    labels = np.repeat(np.arange(9), count).astype(np.int32)
    frames = [
        (means[label] + 0.3 * rng.standard_normal((rng.integers(7, LONGEST), 12))).astype("f4")
        for label in labels
    ]
    return padded(frames, labels)


def table(days, unknown=0):
    """Demand with a daily cycle, as CSV; that of the last half-hours is not known yet."""
    rng = np.random.default_rng(1)
    rows = ["Time,Demand,Temperature,Date,Holiday"]
    for i in range(days * DAY):
        time = START + 30 * i
        date = (time + np.timedelta64(10, "h")).astype("datetime64[D]")
        numbers = 5000 + 900 * np.sin(2 * np.pi * i / DAY) + 50 * rng.random(), 15 + rng.random()
        known = ",".join(map(str, numbers)) if i < days * DAY - unknown else ","
        rows.append(f"{time}:00Z,{known},{date},{'TRUE' if date.astype(int) % 9 == 0 else 'FALSE'}")
    return "\n".join(rows)


def test_the_sets_have_their_published_sizes():
    try:
        parts, series = vowels.load()[:2], demand.load()
    except DatasetError as error:
        pytest.skip(str(error))
    assert [len(part.labels) for part in parts] == [270, 370]
    np.testing.assert_array_equal(np.bincount(parts[0].labels), 30)
    np.testing.assert_array_equal(
        np.bincount(parts[1].labels), [31, 35, 88, 44, 29, 24, 40, 50, 29]
    )
    assert parts[1].lengths.min() == 7
    assert parts[1].lengths.max() == 29
    assert len(series.demand) == 3 * 365 * DAY + DAY
    assert np.isfinite([series.demand, series.temperature]).all()
    assert [len(part) for part in demand.parts_of(series)] == [540, 184, 365]
    holidays = np.unique(series.dates[series.calendar[:, HOLIDAY] == 1]).astype(str)
    assert "2014-12-25" in holidays
    assert len(holidays) < 40


def test_a_file_of_utterances_is_read():
    channels = [[f"{10 * c + t}" for t in range(3)] for c in range(12)]
    line = ":".join(",".join(each) for each in channels)
    frames, labels = read(f"@classLabel true 1 2\n@data\n{line}:2\n{line}:9\n")
    assert [each.shape for each in frames] == [(3, 12)] * 2
    np.testing.assert_array_equal(frames[0][2], 10 * np.arange(12) + 2)
    np.testing.assert_array_equal(labels, [1, 8])


def test_folds_have_every_utterance_once_and_all_speakers_alike():
    train = utterances(6)
    held_out = [fold_of(train, fold, 3)[1] for fold in range(3)]
    for known, held in ((fold_of(train, fold, 3)[0], held_out[fold]) for fold in range(3)):
        np.testing.assert_array_equal(np.bincount(held.labels), 2)
        np.testing.assert_array_equal(np.bincount(known.labels), 4)
    found = np.concatenate([held.xs for held in held_out], axis=1)
    assert sorted(map(bytes, found.swapaxes(0, 1))) == sorted(map(bytes, train.xs.swapaxes(0, 1)))


def test_an_utterance_is_classified_alike_whatever_is_beside_it_and_after_it():
    model = randomised(models.init_classifier(jax.random.key(0), (5,)))
    batch = utterances(1)
    found = models.logits_of(model, batch)
    for i, length in enumerate(batch.lengths[:1]):
        alone = Batch(batch.xs[:length, i : i + 1], batch.lengths[i : i + 1], None)
        assert_close(found[i], models.logits_of(model, alone)[0], rtol=1e-5, atol=1e-6)
    noise = np.where(np.arange(LONGEST)[:, None, None] >= batch.lengths[:, None], np.inf, batch.xs)
    assert_close(models.logits_of(model, batch._replace(xs=noise.astype("f4"))), found)


def test_warped_distances_are_those_of_a_plain_loop():
    first, second = utterances(1), utterances(1, seed=3)
    found = baselines.warped_distances(first, second)
    for a, b in ((0, 0), (2, 5), (8, 1)):
        x, y = first.xs[: first.lengths[a], a], second.xs[: second.lengths[b], b]
        least = np.full((len(x) + 1, len(y) + 1), np.inf)
        least[0, 0] = 0
        for i, j in itertools.product(range(len(x)), range(len(y))):
            before = min(least[i, j], least[i, j + 1], least[i + 1, j])
            least[i + 1, j + 1] = np.sum((x[i] - y[j]) ** 2) + before
        np.testing.assert_allclose(found[a, b], least[-1, -1], rtol=1e-4)


def test_the_calendar_is_the_local_one_wherever_a_table_begins():
    series = series_of(table(16))
    clock = np.arctan2(series.calendar[:, 0], series.calendar[:, 4]) * DAY / 2 / np.pi
    np.testing.assert_allclose(clock % DAY, np.arange(16 * DAY) % DAY, atol=1e-3)
    weekday = series.calendar[:, 8:15].argmax(axis=1)
    np.testing.assert_array_equal(weekday, np.arange(16 * DAY) // DAY % 7)  # 10 June was a Monday
    head, *rows = table(16).split("\n")
    later = series_of("\n".join([head, *rows[31:]]))
    np.testing.assert_array_equal(later.calendar, series.calendar[31:])


def test_a_forecast_knows_nothing_of_the_day_but_its_calendar():
    series = series_of(table(16))
    scale = demand.scale_of(series, 400)
    origins = np.array([WEEK, WEEK + 100, WEEK + 31])
    windows = windows_of(series, scale, origins, 2)
    mean, deviation = scale.demand
    for b, origin in enumerate(origins):
        later = np.arange(len(series.demand)) >= origin
        cut = series._replace(
            demand=np.where(later, np.nan, series.demand),
            temperature=np.where(later, np.nan, series.temperature),
        )
        alone = windows_of(cut, scale, origins[b : b + 1], 2)
        for all_of_them, one in zip(windows[:3], alone[:3], strict=True):
            np.testing.assert_array_equal(all_of_them[:, b], one[:, 0])
        read = mean + deviation * windows.past[:, b, 0]
        np.testing.assert_allclose(read, series.demand[origin - 2 * DAY : origin], rtol=1e-5)
        known = series.demand[origin - WEEK : origin - WEEK + DAY]
        np.testing.assert_allclose(mean + deviation * windows.coming[:, b, 1], known, rtol=1e-5)
        calendar = series.calendar[origin : origin + DAY]
        np.testing.assert_array_equal(windows.coming[:, b, 5:], calendar)
        coming = mean + deviation * windows.demand[:, b]
        np.testing.assert_allclose(coming, series.demand[origin : origin + DAY], rtol=1e-5)


def test_a_raised_level_is_that_of_a_series_with_more_demand():
    series = series_of(table(16))
    scale, origins = demand.scale_of(series, 400), np.array([WEEK, WEEK + 31])
    more = series._replace(demand=series.demand + 0.7 * scale.demand[1])
    found = demand.raised(windows_of(series, scale, origins, 2), jnp.full(2, 0.7))
    for each, expected in zip(found, windows_of(more, scale, origins, 2), strict=True):
        assert_close(each, expected, atol=1e-5)


def test_the_quantile_loss_is_least_at_the_quantiles():
    outcomes = jnp.asarray(np.random.default_rng(0).standard_normal(2001), jnp.float32)
    best = jnp.quantile(outcomes, jnp.asarray(models.LEVELS))
    loss = models.pinball(jnp.tile(best, (2001, 1)), outcomes)
    for shift in (-0.1, 0.1):
        assert models.pinball(jnp.tile(best + shift, (2001, 1)), outcomes) > loss
    same = jnp.full((2001, 19), 0.3)  # the mean over the levels of either weight is a half
    assert_close(models.pinball(same, outcomes), jnp.mean(jnp.abs(outcomes - 0.3)) / 2, rtol=1e-4)


def test_calibrated_quantiles_have_their_share_of_the_outcomes_below():
    rng = np.random.default_rng(0)
    outcomes = rng.gumbel(size=(48, 50))
    quantiles = np.sort(rng.standard_normal((48, 50, 1)) + 0.1 * np.arange(19), axis=-1)
    shifted = quantiles + forecast.corrections_of(quantiles, outcomes)
    below = np.mean(outcomes[..., None] <= shifted, axis=(0, 1))
    np.testing.assert_allclose(below, models.LEVELS, atol=1e-3)


def test_baselines_of_a_series_that_repeats_itself(monkeypatch):
    monkeypatch.setattr(demand, "VALIDATION", np.datetime64("2013-06-30"))
    monkeypatch.setattr(demand, "TEST", np.datetime64("2013-07-07"))
    series = series_of(table(35))
    clock = np.arange(len(series.demand)) % DAY
    series = series._replace(demand=5000.0 + 100 * clock)
    parts = demand.parts_of(series)
    assert list(map(len, parts)) == [13, 7, 8]
    found = baselines.forecasts(series, demand.scale_of(series, parts[1][0]), parts, models.LEVELS)
    outcomes = np.broadcast_to(5000.0 + 100 * np.arange(DAY)[:, None], (DAY, 8))
    for name in ("same half-hour of yesterday", "same half-hour a week ago", "linear"):
        np.testing.assert_allclose(found[name].point, outcomes, rtol=1e-3)
        spread = np.ptp(found[name].quantiles, axis=-1)
        np.testing.assert_allclose(spread, 0, atol=5)
    np.testing.assert_array_equal(found["persistence"].point, 5000.0 + 100 * 47)
    scores = forecast.scores_of(found["persistence"].quantiles, outcomes)
    assert scores["MAE"] < 1e-6  # its errors are the same on every day


def test_a_run_on_utterances_learns_and_is_used_again(tmp_path, monkeypatch, capsys):
    data = vowels.Data(utterances(4), utterances(3, seed=1), np.zeros(12), np.ones(12))
    monkeypatch.setattr(vowels, "load", lambda: data)
    sizes = {"hidden_size": 8, "layers": 1, "steps": 60, "batch_size": 9, "seeds": 2, "folds": 2}
    config = Config(**sizes, learning_rate=1e-2, run=Run(output=tmp_path))
    results = timeseries.main(config).results
    record = json.loads((tmp_path / "timeseries-default.json").read_text())
    assert record["results"] == results
    assert min(results["accuracy"] + results["validation_accuracy"]) > 0.8
    assert results["accuracy_after_frames"][-1] == results["accuracy"]
    assert results["baselines"]["nearest neighbour"] > 0.9
    assert results["baselines"]["logistic regression"] > 0.9
    assert (tmp_path / "timeseries-default.png").stat().st_size > 10_000
    path = tmp_path / "utterance.csv"
    np.savetxt(path, data.test.xs[: data.test.lengths[7], 7], delimiter=",")  # of the third speaker
    capsys.readouterr()
    (found,) = timeseries.main(dataclasses.replace(config, use=tmp_path, table=path)).found
    assert np.argmax(found) == 2
    assert f"\n3,{found[2]:.4f}\n" in capsys.readouterr().out
    path.write_text("1,2\n3,4\n")
    with pytest.raises(SettingError, match=r"--table is .*csv', but must have 12 numbers in every"):
        timeseries.main(dataclasses.replace(config, use=tmp_path, table=path))


def test_a_run_on_demand_learns_resumes_and_is_used_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demand, "VALIDATION", np.datetime64("2013-06-30"))
    monkeypatch.setattr(demand, "TEST", np.datetime64("2013-07-07"))
    monkeypatch.setattr(demand, "load", lambda: series_of(table(42)))
    sizes = {"hidden_size": 8, "layers": 1, "days": 1, "batch_size": 8, "seeds": 2, "steps": 60}
    config = dataclasses.replace(
        timeseries.PRESETS["demand"],
        **sizes,
        evaluate_every=20,
        learning_rate=1e-2,
        run=Run(output=tmp_path),
    )
    results = timeseries.main(config).results
    record = json.loads((tmp_path / "timeseries-demand.json").read_text())
    assert record["results"] == results
    assert (
        max(scores["MAE"] for scores in results["seeds"])
        < results["baselines"]["persistence"]["MAE"]
    )
    assert (tmp_path / "timeseries-demand.png").stat().st_size > 10_000
    again = dataclasses.replace(config, run=Run(output=tmp_path, resume=True))
    assert timeseries.main(again).results == results
    path = tmp_path / "week.csv"
    path.write_text(table(8, unknown=DAY))
    capsys.readouterr()
    found = np.array(timeseries.main(dataclasses.replace(config, use=tmp_path, table=path)).found)
    assert found.shape == (DAY, 19)
    assert (np.diff(found, axis=1) >= 0).all()
    assert np.abs(found[:, 9] - 5000 - 900 * np.sin(2 * np.pi * np.arange(DAY) / DAY)).mean() < 300
    assert len(capsys.readouterr().out.strip().split("\n")) == 1 + DAY
    for text, reason in (
        (table(7, unknown=DAY), "must have 336 rows with Demand and Temperature before the last"),
        (table(9, unknown=DAY).replace("Demand", "Load"), "there is no column Demand"),
        (table(9).replace("T14:30", "T15:30", 1), "Time must go on by half an hour"),
    ):
        path.write_text(text)
        with pytest.raises(SettingError, match=reason):
            timeseries.main(dataclasses.replace(config, use=tmp_path, table=path))
