"""Utterances of a vowel by nine speakers, and the batches of them."""

import io
import zipfile
from typing import Any, NamedTuple

import numpy as np

from experiments.harness.batches import own_rows
from experiments.harness.datasets import Source, fetch

COEFFICIENTS = 12  # of linear prediction, in every frame
SPEAKERS = 9
LONGEST = 29  # frames

AEON = Source(
    "aeon-1.6.0-py3-none-any.whl",
    "d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409",
    "aeon==1.6.0",
)


class Batch(NamedTuple):
    """Utterances, padded to the longest that there is."""

    xs: Any  # [LONGEST, B, 12], zero after an utterance's end
    lengths: Any  # [B], frames
    labels: Any  # [B], whose it is


class Data(NamedTuple):
    """The set in its own two parts, normalised."""

    train: Batch
    test: Batch
    mean: np.ndarray  # [12], of the training part's frames before
    deviation: np.ndarray  # [12]


def load() -> Data:
    """Loads JapaneseVowels (Kudo et al. 1999) from the wheel aeon 1.6.0 (BSD-3-Clause).

    Returns:
      270 and 370 utterances of 7 to 29 frames: 30 of each speaker to learn from, 24 to 88 for test.
      Frames have mean 0 and variance 1 over the first part.
    """
    with zipfile.ZipFile(fetch(AEON)) as wheel:
        parts = [
            read(wheel.read(f"aeon/datasets/data/JapaneseVowels/JapaneseVowels_{name}.ts").decode())
            for name in ("TRAIN", "TEST")
        ]
    frames = np.concatenate(parts[0][0])
    mean, deviation = frames.mean(axis=0), frames.std(axis=0)
    train, test = (
        padded([(each - mean) / deviation for each in utterances], labels)
        for utterances, labels in parts
    )
    return Data(train, test, mean, deviation)


def read(text: str) -> tuple[list[np.ndarray], np.ndarray]:
    """The utterances `[frames, 12]` and the speakers, counted from 0, of a file in .ts format.

    After the header a line has the coefficients over time, one after the other with colons between,
    and then the label.
    """
    utterances, labels = [], []
    _, _, content = text.partition("@data\n")
    for line in io.StringIO(content):
        *channels, label = line.strip().split(":")
        utterances.append(np.array([channel.split(",") for channel in channels], np.float32).T)
        labels.append(int(label) - 1)
    return utterances, np.array(labels, np.int32)


def padded(utterances: list[np.ndarray], labels: np.ndarray) -> Batch:
    """Utterances side by side, zeros after their ends."""
    xs = np.zeros((LONGEST, len(utterances), COEFFICIENTS), np.float32)
    for i, frames in enumerate(utterances):
        xs[: len(frames), i] = frames
    return Batch(xs, np.array([len(frames) for frames in utterances], np.int32), labels)


def rows_of(batch: Batch, rows: np.ndarray) -> Batch:
    """Some of the utterances."""
    return Batch(batch.xs[:, rows], batch.lengths[rows], batch.labels[rows])


def fold_of(train: Batch, fold: int, folds: int) -> tuple[Batch, Batch]:
    """The utterances outside of a fold, and those in it: of every speaker alike many."""
    held_out = np.arange(len(train.labels)) % folds == fold  # they are ordered by speaker
    return rows_of(train, np.nonzero(~held_out)[0]), rows_of(train, np.nonzero(held_out)[0])


def batch_at(step: int, train: Batch, size: int) -> Batch:
    """The utterances of an update."""
    count = len(train.labels)
    rng = np.random.default_rng([3, step])
    return rows_of(train, own_rows(rng.choice(count, size, replace=count < size)))
