"""What predicts the next frame without a memory."""

from collections.abc import Sequence

import numpy as np


def frequencies_of(rolls: Sequence[np.ndarray]) -> np.ndarray:
    """How often each note sounds, between 0 and 1; `[88]`."""
    frames = np.concatenate(rolls) > 0
    return _rate(frames, np.ones_like(frames))


def baselines_of(train: Sequence[np.ndarray], rolls: Sequence[np.ndarray]) -> dict[str, float]:
    """Nats per predicted frame of models counted on the training part.

    "frequencies": each note with its frequency. "frame before": each note with its frequency where
    it did, or did not, sound in the frame before. Half an occurrence is added to each count.
    """
    before, now = _pairs(train)
    stays = np.stack([_rate(now, ~before), _rate(now, before)])
    before, now = _pairs(rolls)
    given = np.where(before, stays[1], stays[0])
    return {
        "frequencies": _nats(now, frequencies_of(train)),
        "frame before": _nats(now, given),
    }


def _pairs(rolls: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All frames but the pieces' last, and the frames after them, bool `[N, 88]`."""
    before = np.concatenate([roll[:-1] for roll in rolls]) > 0
    return before, np.concatenate([roll[1:] for roll in rolls]) > 0


def _rate(now: np.ndarray, where: np.ndarray) -> np.ndarray:
    rate: np.ndarray = ((now & where).sum(axis=0) + 0.5) / (where.sum(axis=0) + 1)
    return rate


def _nats(now: np.ndarray, probabilities: np.ndarray) -> float:
    return float(-np.log(np.where(now, probabilities, 1 - probabilities)).sum(axis=1).mean())
