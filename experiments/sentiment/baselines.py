"""What needs no network: the most frequent class, and logistic regression on a bag of words."""

import numpy as np

from experiments.sentiment.data import Data


def baselines(data: Data) -> dict[str, float]:
    """Test accuracies."""
    most_frequent = np.bincount(data.train.labels).argmax()
    return {
        "most frequent class": float(np.mean(data.test.labels == most_frequent)),
        "bag of words": bag_of_words(data),
    }


def bag_of_words(data: Data) -> float:
    """Test accuracy of logistic regression on which words occur; its penalty by validation."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = CountVectorizer(analyzer=lambda sentence: sentence, binary=True)
    train = vectorizer.fit_transform(data.train.sentences)
    validation, test = (
        vectorizer.transform(part.sentences) for part in (data.validation, data.test)
    )
    models = [LogisticRegression(C=c, max_iter=1000) for c in (0.03, 0.1, 0.3, 1, 3)]
    for model in models:
        model.fit(train, data.train.labels)
    best = max(models, key=lambda model: model.score(validation, data.validation.labels))
    return float(best.score(test, data.test.labels))
