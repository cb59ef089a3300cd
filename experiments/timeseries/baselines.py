"""What needs no recurrent network, for both tasks."""

import itertools
from typing import NamedTuple

import numpy as np

from experiments.timeseries.demand import CALENDAR, DAY, WEEK, Scale, Series, windows_of
from experiments.timeseries.vowels import Batch

PENALTIES = (3.0, 10.0, 30.0, 100.0, 300.0)
SHIFTS = (0, 1, 2, 4)


def logistic_regression(train: Batch, test: Batch, folds: int) -> float:
    """Accuracy on an utterance's mean frame and its deviation, penalty by cross-validation."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    grid = {"logisticregression__C": (0.01, 0.1, 1.0, 10.0, 100.0)}
    search = GridSearchCV(pipeline, grid, cv=folds).fit(_moments(train), train.labels)
    return float(search.score(_moments(test), test.labels))


def _moments(batch: Batch) -> np.ndarray:
    """Means and standard deviations of the coefficients over time, `[B, 24]`."""
    utterances = _utterances(batch)
    return np.array([[*each.mean(axis=0), *each.std(axis=0)] for each in utterances])


def _utterances(batch: Batch) -> list[np.ndarray]:
    """Each one's frames `[frames, 12]`."""
    return [batch.xs[:length, i] for i, length in enumerate(batch.lengths)]


def nearest_neighbour(train: Batch, test: Batch) -> float:
    """Accuracy of the label of the utterance that is nearest by dynamic time warping."""
    distances = warped_distances(test, train)
    return float(np.mean(train.labels[distances.argmin(axis=1)] == test.labels))


def warped_distances(first: Batch, second: Batch) -> np.ndarray:
    """The least sum of squared distances between frames along a path of both utterances.

    Every pair at once (Sakoe & Chiba 1978): a path starts at both first frames, ends at both last
    ones, and moves on in one utterance or in both.

    Returns:
      For all pairs, `[B1, B2]`.
    """
    longest = len(first.xs), len(second.xs)
    pairs = first.xs.shape[1], second.xs.shape[1]
    squares = [np.sum(batch.xs**2, axis=-1) for batch in (first, second)]
    # least[j]: of paths that end at frame j - 1 of the second utterance
    least = np.full((longest[1] + 1, *pairs), np.inf, np.float32)
    least[0] = 0
    found = np.zeros(pairs, np.float32)
    for i in range(longest[0]):
        before, least = least, np.full_like(least, np.inf)
        products = np.einsum("ac,jbc->jab", first.xs[i], second.xs)
        cost = squares[0][i][:, None] + squares[1][:, None, :] - 2 * products
        for j in range(longest[1]):
            nearest = np.minimum(np.minimum(before[j], before[j + 1]), least[j])
            least[j + 1] = cost[j] + nearest
        ends = first.lengths == i + 1
        found[ends] = least[second.lengths, :, np.arange(pairs[1])].T[ends]
    return found


class Forecast(NamedTuple):
    """Of one baseline."""

    point: np.ndarray  # [48, B], MW
    quantiles: np.ndarray  # [48, B, quantiles]


def forecasts(
    series: Series, scale: Scale, parts: tuple[np.ndarray, ...], levels: tuple[float, ...]
) -> dict[str, Forecast]:
    """Point forecasts of the last part by name.

    Their quantiles are the point and, for each half-hour of the day, the quantiles of its errors in
    validation.

    Args:
      series: the demand.
      scale: of the inputs of the linear model.
      parts: the origins of training, validation and test.
      levels: the probabilities of the quantiles.
    """
    points = {
        "persistence": [series.demand[part - 1] + np.zeros((DAY, 1)) for part in parts],
        "same half-hour of yesterday": [_lagged(series, part, DAY) for part in parts],
        "same half-hour a week ago": [_lagged(series, part, WEEK) for part in parts],
        "linear": linear(series, scale, parts),
    }
    found = {}
    for name, (_, validation, test) in points.items():
        errors = _lagged(series, parts[1], 0) - validation
        quantiles = np.quantile(errors, levels, axis=1).T  # [48, quantiles]
        found[name] = Forecast(test, test[..., None] + quantiles[:, None])
    return found


def _lagged(series: Series, origins: np.ndarray, lag: int) -> np.ndarray:
    """The demand of the 48 half-hours from each origin, `[48, B]`, so many half-hours before."""
    found: np.ndarray = series.demand[origins + np.arange(DAY)[:, None] - lag]
    return found


def linear(series: Series, scale: Scale, parts: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """Ridge regression of the whole day on the last week and the calendar, for each part.

    Demand and temperature of every half-hour of the week, weekday, holidays and season, each
    standardised. Validation chooses the penalty, whether the temperature is used, and by how many
    half-hours the days that are learned from may begin before or after midnight.
    """
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    targets = [_lagged(series, part, 0).T for part in parts]
    best, chosen = np.inf, []
    for columns, shift in itertools.product((1, 2), SHIFTS):
        inputs = [_inputs(series, scale, part, columns) for part in parts]
        learned = np.concatenate([parts[0][1:-1] + i for i in range(-shift, shift + 1)])
        learned_inputs = _inputs(series, scale, learned, columns)
        learned_targets = _lagged(series, learned, 0).T
        for penalty in PENALTIES:
            model = make_pipeline(StandardScaler(), Ridge(alpha=penalty))
            model.fit(learned_inputs, learned_targets)
            points = [model.predict(each) for each in inputs]
            loss = np.abs(points[1] - targets[1]).mean()
            if loss < best:
                best, chosen = loss, [point.T for point in points]
    return chosen


def _inputs(series: Series, scale: Scale, origins: np.ndarray, columns: int) -> np.ndarray:
    """What the linear model knows, `[B, …]`; the first `columns` of what is read."""
    windows = windows_of(series, scale, origins, WEEK // DAY)
    past = np.swapaxes(windows.past[..., :columns], 0, 1).reshape(len(origins), -1)
    noon = windows.coming[DAY // 2]  # the calendar of the day, without its clock
    known = noon[:, [3, 4, *range(noon.shape[1] - CALENDAR + 8, noon.shape[1])]]
    return np.concatenate([past, known], axis=1)
