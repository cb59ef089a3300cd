"""Texts as numbers: symbols, streams for truncated backpropagation, and n-gram baselines."""

from typing import Any, NamedTuple

import numpy as np


def encode(text: str, symbols: str) -> np.ndarray:
    """Characters as places in `symbols`."""
    unknown = sorted(set(text) - set(symbols))
    if unknown:
        raise ValueError(f"{text[:40]!r} has {unknown}, but the symbols are {symbols!r}.")
    places = {symbol: place for place, symbol in enumerate(symbols)}
    return np.array([places[character] for character in text], np.int32)


class Batch(NamedTuple):
    """One chunk of every stream."""

    tokens: Any  # [T + 1, B]
    is_first: Any  # []: the streams begin here


def batch_at(step: int, tokens: np.ndarray, length: int, size: int, seed: int) -> Batch:
    """The chunk of an update: `length` characters of `size` streams that share out the text.

    The streams of each epoch begin at other places.
    """
    stream_length = len(tokens) // size
    if stream_length < length:
        raise ValueError(
            f"{size} streams of a text of {len(tokens)} characters are shorter than a chunk of "
            f"{length}: lower batch_size or chunk_length."
        )
    epoch, chunk = divmod(step, stream_length // length)
    offset = np.random.default_rng((seed, epoch)).integers(len(tokens))
    starts = offset + stream_length * np.arange(size) + chunk * length
    places = starts + np.arange(length + 1)[:, None]
    return Batch(np.take(tokens, places, mode="wrap"), np.array(chunk == 0))


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
