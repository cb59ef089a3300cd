"""Symbols as numbers: characters, words or phonemes, and their vocabulary."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

PAD = 0  # the number of "<pad>", the first symbol wherever sequences are padded


@dataclass(frozen=True)
class Vocabulary:
    """Symbols, each with its place as its number."""

    symbols: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each symbol."""
        return {symbol: number for number, symbol in enumerate(self.symbols)}

    def encode(self, sequence: Sequence[str]) -> np.ndarray:
        """Symbols as int32 numbers `[N]`; those that are not known as that of "<unknown>".

        Raises:
          ValueError: a symbol is not in the vocabulary, which has no "<unknown>".
        """
        unknown = self.numbers.get("<unknown>")
        found = [self.numbers.get(symbol, unknown) for symbol in sequence]
        if None in found:
            strange = sorted(set(sequence) - set(self.symbols))
            raise ValueError(
                f"{sequence[:40]!r} has {strange}, but the symbols are {self.symbols}."
            )
        return np.array(found, np.int32)

    def decode(self, tokens: Iterable[int]) -> tuple[str, ...]:
        """Numbers as symbols."""
        return tuple(self.symbols[token] for token in tokens)


def vocabulary_of(
    sequences: Iterable[Iterable[str]], *, special: Sequence[str] = (), at_least: int = 1
) -> Vocabulary:
    """The special symbols, then all that occur often enough, the most frequent first.

    Args:
      sequences: texts, or sequences of words.
      special: symbols of no sequence, such as "<pad>" and "<unknown>".
      at_least: how often a symbol must occur.

    Raises:
      ValueError: a special symbol occurs in a sequence.
    """
    counts: Counter[str] = Counter()
    for sequence in sequences:
        counts.update(sequence)
    if clash := [symbol for symbol in special if symbol in counts]:
        raise ValueError(f"the sequences have {clash}, but these symbols are special.")
    ordered = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))
    return Vocabulary((*special, *(s for s in ordered if counts[s] >= at_least)))


def padded(rows: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Rows of numbers as int32 `[N, length]`, cut at the end or filled up with `PAD`."""
    tokens = np.full((len(rows), length), PAD, np.int32)
    for padded_row, row in zip(tokens, rows, strict=True):
        padded_row[: len(row)] = row[:length]
    return tokens
