"""What needs no network: the most frequent class, and logistic regressions on bags of features."""

from typing import Any

import numpy as np

from experiments.sentiment.data import Data, ngrams_of, pairs_of


def baselines(data: Data) -> dict[str, float]:
    """Test accuracies."""
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

    most_frequent = np.bincount(data.train.labels).argmax()
    words = CountVectorizer(analyzer=lambda sentence: sentence, binary=True)
    many = TfidfVectorizer(analyzer=features_of, min_df=3, sublinear_tf=True)
    return {
        "most frequent class": float(np.mean(data.test.labels == most_frequent)),
        "bag of words": logistic_regression(data, words, (0.03, 0.1, 0.3, 1)),
        "bag of words, pairs and letters": logistic_regression(data, many, (1, 2, 4)),
    }


def features_of(sentence: list[str]) -> list[str]:
    """Its words, their pairs, and the n-grams of their letters: what the GRU's words consist of."""
    ngrams = [ngram for word in sentence for ngram in ngrams_of(word)]
    return sentence + pairs_of(sentence) + ngrams


def logistic_regression(data: Data, vectorizer: Any, penalties: tuple[float, ...]) -> float:
    """Test accuracy on what a vectorizer of scikit-learn finds; the penalty by validation."""
    from sklearn.linear_model import LogisticRegression

    train = vectorizer.fit_transform(data.train.sentences)
    validation, test = (
        vectorizer.transform(part.sentences) for part in (data.validation, data.test)
    )
    models = [LogisticRegression(C=c, tol=1e-3, max_iter=1000) for c in penalties]
    for model in models:
        model.fit(train, data.train.labels, sample_weight=data.train.agreement)
    best = max(models, key=lambda model: model.score(validation, data.validation.labels))
    return float(best.score(test, data.test.labels))
