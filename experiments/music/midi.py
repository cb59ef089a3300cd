"""Piano rolls as MIDI files, by mido."""

from pathlib import Path

import numpy as np

from experiments.harness.files import replacing
from experiments.harness.settings import SettingError
from experiments.music.data import NOTES, Corpus

BEATS_PER_MINUTE = 90
_TICKS = 480  # in a beat; mido's default


def write_midi(path: Path, roll: np.ndarray, corpus: Corpus) -> None:
    """Writes a roll `[T, 88]` of a data set to a MIDI file; a note sounds on while it can."""
    import mido

    frame = _TICKS // corpus.frames_per_beat
    tempo = mido.bpm2tempo(BEATS_PER_MINUTE)
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=tempo)])
    silence = np.zeros((1, NOTES), np.int8)
    changes = np.diff(roll.astype(np.int8), axis=0, prepend=silence, append=silence)
    last = 0
    for t, change in enumerate(changes):
        # a note ends before another begins
        for kind, direction in (("note_off", -1), ("note_on", 1)):
            for note in np.flatnonzero(change == direction):
                pause = (t - last) * frame
                track.append(mido.Message(kind, note=corpus.lowest + int(note), time=pause))
                last = t
    with replacing(path) as temporary:
        mido.MidiFile(tracks=[track], ticks_per_beat=_TICKS).save(temporary)


def read_midi(path: Path, corpus: Corpus) -> np.ndarray:
    """Reads a MIDI file as a roll `[T, 88]` of a data set, from its first note to its last.

    Percussion, and notes that the data set has not, are left out.

    Raises:
      SettingError: it cannot be read, or has no note.
    """
    import mido

    try:
        file = mido.MidiFile(path)
        messages = list(mido.merge_tracks(file.tracks))
        if file.ticks_per_beat < 1:
            raise ValueError("its time is not counted in beats")
    except Exception as error:  # whatever a damaged file leads to
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise SettingError(
            f"--prompt is {str(path)!r}, which is no MIDI file: {reason}."
        ) from error
    now, notes = 0, []
    begun: dict[tuple[int, int], int] = {}
    for message in messages:
        now += message.time
        if message.type not in ("note_on", "note_off") or message.channel == 9:  # percussion
            continue
        place = message.channel, message.note - corpus.lowest
        if place in begun:
            notes.append((place[1], begun.pop(place), now))
        if message.type == "note_on" and message.velocity and 0 <= place[1] < NOTES:
            begun[place] = now
    if not notes:
        raise SettingError(f"--prompt is {str(path)!r}, but this file has no note.")
    frame = file.ticks_per_beat / corpus.frames_per_beat
    places = [
        (note, round(a / frame), max(round(b / frame), round(a / frame) + 1))
        for note, a, b in notes
    ]
    first, last = min(a for _, a, _ in places), max(b for _, _, b in places)
    roll = np.zeros((last - first, NOTES), np.uint8)
    for note, a, b in places:
        roll[a - first : b - first, note] = 1
    return roll
