"""N-gram models, to compare a language model with."""

import numpy as np


def ngram_baselines(train: np.ndarray, validation: np.ndarray, size: int) -> dict[str, float]:
    """Nats per character of unigram and trigram models counted on `train`.

    Witten–Bell smoothing (Bell, Cleary & Witten 1990), which has nothing to tune: with n
    occurrences and t different successors of a context, the shorter context has weight t/(n + t).
    """
    train, validation = train.astype(np.int64), validation.astype(np.int64)  # codes reach size³
    unigram = (np.bincount(train, minlength=size) + 1) / (len(train) + size)
    shorter = np.broadcast_to(unigram, (size, size))
    for order in (2, 3):
        code = sum(
            train[i : len(train) - order + 1 + i] * size ** (order - 1 - i) for i in range(order)
        )
        counts = np.bincount(code, minlength=size**order).reshape(-1, size)
        n, t = counts.sum(1, keepdims=True), (counts > 0).sum(1, keepdims=True)
        if order == 3:
            shorter = np.tile(shorter, (size, 1))
        shorter = (counts + t * shorter) / np.maximum(n + t, 1) + (n == 0) * shorter
    first, second, third = validation[:-2], validation[1:-1], validation[2:]
    return {
        "unigram": float(-np.log(unigram[third]).mean()),
        "trigram": float(-np.log(shorter[first * size + second, third]).mean()),
    }
