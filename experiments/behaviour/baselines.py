"""A logistic regression of the next choice on the last trials."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from experiments.behaviour.data import Sessions

LAGS = 10
PENALTIES = (0.01, 0.1, 1.0, 10.0)
"""Inverse strengths of the squared penalty, of which validation chooses one for each subject."""


def features(xs: np.ndarray) -> np.ndarray:
    """The events of the last trials, one-hot: `[T · S, LAGS · EVENTS]` from `[T, S, EVENTS]`."""
    padded = np.concatenate([np.zeros((LAGS - 1, *xs.shape[1:]), xs.dtype), xs])
    lagged = [padded[LAGS - 1 - lag : len(padded) - lag] for lag in range(LAGS)]
    return np.concatenate(lagged, axis=-1).reshape(-1, LAGS * xs.shape[-1])


def nats(logits: np.ndarray, choices: np.ndarray) -> float:
    """The mean negative log-likelihood of a trial."""
    return float(np.mean(np.logaddexp(0, np.where(choices == 1, -logits, logits))))


def logistic_regression(training: Sessions, validation: Sessions, test: Sessions) -> list[float]:
    """The held-out nats per trial of every subject."""
    found = []
    for subject in range(len(training.choices)):
        parts = [
            (features(part.xs[subject]), part.choices[subject].reshape(-1))
            for part in (training, validation, test)
        ]
        models = [LogisticRegression(C=c, max_iter=1000).fit(*parts[0]) for c in PENALTIES]
        losses = [
            [nats(model.decision_function(xs), choices) for xs, choices in parts[1:]]
            for model in models
        ]
        found.append(min(losses)[1])  # of the least loss in validation
    return found
