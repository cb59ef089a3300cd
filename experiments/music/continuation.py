"""Lets GRUs continue pieces, and writes what comes of it as MIDI files and as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from experiments.music.config import LONGEST_OPENING, PIECES, Config
from experiments.music.data import CORPORA, NOTES
from experiments.music.midi import read_midi, write_midi
from experiments.music.model import Model, continued
from experiments.music.plot import Continued, plot_rolls

Notes = list[list[int]]
"""Of each frame the keys that are down, counted from the piano's lowest: a roll as JSON has it."""


def notes_of(roll: np.ndarray) -> Notes:
    """The keys of each frame of a roll `[T, 88]`."""
    return [np.flatnonzero(frame).tolist() for frame in roll]


def roll_of(notes: Notes) -> np.ndarray:
    """The roll `[T, 88]` of such keys."""
    roll = np.zeros((len(notes), NOTES), np.uint8)
    for frame, keys in zip(roll, notes, strict=True):
        frame[keys] = 1
    return roll


def openings_of(rolls: Sequence[np.ndarray]) -> list[Notes]:
    """The beginnings of the pieces that `--piece` can name."""
    return [notes_of(roll[:LONGEST_OPENING]) for roll in rolls[:PIECES]]


def continue_pieces(
    config: Config,
    models: Mapping[str, Model],
    openings: Mapping[str, Sequence[Notes]],
    stem: Path,
) -> dict[str, Notes]:
    """Continues a piece with each data set's model.

    Args:
      config: says which piece, how far, and how boldly.
      models: GRUs by data set.
      openings: by data set, those of its pieces.
      stem: of the files `stem.<data set>.mid` and `stem.rolls.png`.

    Returns:
      By data set the whole piece, its opening included.
    """
    if not models:  # no GRU was trained
        return {}
    pieces: dict[str, Continued] = {}
    for name, model in models.items():
        if config.prompt is not None:
            opening, title = read_midi(config.prompt, CORPORA[name]), config.prompt.name
        else:
            opening, title = roll_of(openings[name][config.piece]), f"piece {config.piece}"
        opening = opening[: config.opening]
        key = jax.random.key(config.sample_seed)
        frames = continued(
            key,
            model,
            opening,
            config.length,
            voices=config.voices,
            temperature=config.temperature,
        )
        pieces[name] = Continued(
            f"{name}: {title}, continued by a GRU", opening, np.asarray(frames, np.uint8)
        )
    whole = {name: np.concatenate(piece[1:]) for name, piece in pieces.items()}
    for name, roll in whole.items():
        path = stem.with_name(f"{stem.name}.{name}.mid")
        write_midi(path, roll, CORPORA[name])
        print(f"{name}, continued: {path}")
    plot_rolls(stem.with_name(f"{stem.name}.rolls.png"), pieces)
    return {name: notes_of(roll) for name, roll in whole.items()}
