"""What needs no network: the most frequent class, and linear classifiers of bags of features."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.sentiment.data import Data, ngrams_of, pairs_of


def baselines(data: Data) -> dict[str, float]:
    """Test accuracies; those without another name are of logistic regressions."""
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.naive_bayes import MultinomialNB

    most_frequent = np.bincount(data.train.labels).argmax()
    words = CountVectorizer(analyzer=lambda sentence: sentence, binary=True)
    many = TfidfVectorizer(analyzer=features_of, min_df=3, sublinear_tf=True)
    counts = CountVectorizer(analyzer=features_of, min_df=3, binary=True)
    return {
        "most frequent class": float(np.mean(data.test.labels == most_frequent)),
        "bag of words": accuracy(data, words, regressions(0.03, 0.1, 0.3, 1)),
        "bag of words, pairs and letters": accuracy(data, many, regressions(1, 2, 4)),
        "naive Bayes": accuracy(data, counts, [MultinomialNB(alpha=a) for a in (0.1, 0.3, 1)]),
    }


def features_of(sentence: list[str]) -> list[str]:
    """Its words, their pairs, and the n-grams of their letters: what the GRU's words consist of."""
    ngrams = [ngram for word in sentence for ngram in ngrams_of(word)]
    return sentence + pairs_of(sentence) + ngrams


def regressions(*penalties: float) -> list[Any]:
    """Logistic regressions with these inverse weights of the penalty."""
    from sklearn.linear_model import LogisticRegression

    return [LogisticRegression(C=c, tol=1e-3, max_iter=1000) for c in penalties]


def accuracy(data: Data, vectorizer: Any, models: Sequence[Any]) -> float:
    """Test accuracy of the best in validation of scikit-learn's models, on a vectorizer's bags."""
    train = vectorizer.fit_transform(data.train.sentences)
    validation, test = (
        vectorizer.transform(part.sentences) for part in (data.validation, data.test)
    )
    for model in models:
        model.fit(train, data.train.labels, sample_weight=data.train.agreement)
    best = max(models, key=lambda model: model.score(validation, data.validation.labels))
    return float(best.score(test, data.test.labels))
