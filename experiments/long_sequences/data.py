"""Tiny Shakespeare as one sequence of characters."""

from typing import NamedTuple

import numpy as np

from experiments.harness.settings import SettingError
from experiments.harness.tokens import Vocabulary
from experiments.shakespeare import data as shakespeare
from experiments.shakespeare.config import Config as Shakespeare

_TINY = Shakespeare(dataset="tiny")


class Sequence(NamedTuple):
    """Characters, and those that follow them."""

    inputs: np.ndarray  # int32 [T]
    targets: np.ndarray  # int32 [T]


class Text(NamedTuple):
    """Two sequences that share no character."""

    train: Sequence
    validation: Sequence
    vocabulary: Vocabulary


def files() -> dict[str, str]:
    """The sha256 of the file that `load` reads."""
    return shakespeare.files(_TINY)


def load() -> Text:
    """The first nine tenths of tiny Shakespeare, and the rest."""
    train, validation, vocabulary = shakespeare.encoded(_TINY)
    return Text(sequence_of(train), sequence_of(validation), vocabulary)


def sequence_of(tokens: np.ndarray) -> Sequence:
    """Tokens `[T + 1]` as inputs and targets."""
    return Sequence(tokens[:-1], tokens[1:])


def first(sequence: Sequence, length: int, setting: str) -> Sequence:
    """The first steps of a sequence.

    Raises:
      SettingError: there are fewer.
    """
    if length > len(sequence.inputs):
        raise SettingError(
            f"{setting} is {length}, but the text has {len(sequence.inputs)} characters for it."
        )
    return Sequence(sequence.inputs[:length], sequence.targets[:length])


def rows_of(sequence: Sequence, rows: int) -> Sequence:
    """So many sequences of equal length, one after the other in a sequence: `[B, T]`."""
    return Sequence(sequence.inputs.reshape(rows, -1), sequence.targets.reshape(rows, -1))
