"""What is measured on the test part, and a baseline."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.speech.data import Data, Part, evaluated
from experiments.speech.decode import greedy, prefix_beam, word_error, words_of
from experiments.speech.model import Model, connected_logits, isolated_logits, mask_of

LONGEST = 12  # digits that the beam search finds at most in a string


def measure_isolated(models: list[Model], data: Data) -> dict[str, Any]:
    """The share of test recordings whose digit is found, and a baseline's."""
    batch = evaluated("isolated", data, "test")
    find = jax.jit(lambda model: jnp.argmax(isolated_logits(model, batch), axis=-1))
    return {
        "recordings": len(data.test.digits),
        "accuracy": [
            float(np.mean(np.asarray(find(model)) == data.test.digits)) for model in models
        ],
        "baselines": {"logistic regression": summary_regression(data)},
    }


def summary_regression(data: Data) -> float:
    """Test accuracy of logistic regression on each recording's mean and standard deviation."""
    from sklearn.linear_model import LogisticRegression

    def summaries(part: Part) -> np.ndarray:
        recordings = np.split(part.frames, part.starts[1:])
        return np.array([np.concatenate([x.mean(axis=0), x.std(axis=0)]) for x in recordings])

    train, validation, test = map(summaries, (data.train, data.validation, data.test))
    models = [LogisticRegression(C=c, max_iter=5000) for c in (0.1, 1, 10, 100)]
    for model in models:
        model.fit(train, data.train.digits)
    best = max(models, key=lambda model: model.score(validation, data.validation.digits))
    return float(best.score(test, data.test.digits))


def measure_connected(models: list[Model], data: Data, width: int) -> dict[str, Any]:
    """Word errors in the test strings, of both decoders."""
    batch = evaluated("connected", data, "test")
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
