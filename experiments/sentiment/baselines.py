"""What needs no network: the most frequent class, and linear classifiers of bags of features."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from experiments.sentiment.data import Data, ngrams_of, pairs_of


def baselines(data: Data) -> dict[str, float]:
    """Test accuracies; those without another name are of logistic regressions."""
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.naive_bayes import MultinomialNB

    most_frequent = np.bincount(data.train.labels).argmax()
    words = bags_of(data, lambda sentence: sentence)
    many = bags_of(data, features_of, min_df=3)
    weighted = TfidfTransformer(sublinear_tf=True).fit(many[0])
    bayes = [MultinomialNB(alpha=alpha) for alpha in (0.1, 0.3, 1)]
    return {
        "most frequent class": float(np.mean(data.test.labels == most_frequent)),
        "bag of words": accuracy(
            data, [bag.sign() for bag in words], regressions(0.03, 0.1, 0.3, 1)
        ),
        "bag of words, pairs and letters": accuracy(
            data, map(weighted.transform, many), regressions(1, 2, 4)
        ),
        "naive Bayes": accuracy(data, [bag.sign() for bag in many], bayes),
    }


def bags_of(data: Data, analyzer: Callable[[list[str]], list[str]], **options: Any) -> list[Any]:
    """How often each feature is in each sentence of the three parts, as scikit-learn counts."""
    from sklearn.feature_extraction.text import CountVectorizer

    counts = CountVectorizer(analyzer=analyzer, **options)
    train, *others = (part.sentences for part in (data.train, data.validation, data.test))
    return [counts.fit_transform(train), *map(counts.transform, others)]


def features_of(sentence: list[str]) -> list[str]:
    """Its words, their pairs, and the n-grams of their letters: what the GRU's words consist of."""
    ngrams = [ngram for word in sentence for ngram in ngrams_of(word)]
    return sentence + pairs_of(sentence) + ngrams


def regressions(*penalties: float) -> list[Any]:
    """Logistic regressions with these inverse weights of the penalty."""
    from sklearn.linear_model import LogisticRegression

    return [LogisticRegression(C=c, tol=1e-3, max_iter=1000) for c in penalties]


def accuracy(data: Data, bags: Iterable[Any], models: Sequence[Any]) -> float:
    """Test accuracy of the best in validation of scikit-learn's models, on bags of each part."""
    train, validation, test = bags
    for model in models:
        model.fit(train, data.train.labels, sample_weight=data.train.agreement)
    best = max(models, key=lambda model: model.score(validation, data.validation.labels))
    return float(best.score(test, data.test.labels))
