"""A user's recording: frames as they are, or sound by way of librosa."""

import sys
import types

import numpy as np
import pytest

from experiments.harness.settings import SettingError
from experiments.speech.data import read_recording


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (np.zeros((5, 12)), r"of shape \(5, 12\), but must be \[T, 13\]"),
        (np.zeros((0, 13)), r"of shape \(0, 13\)"),
        (np.zeros((5, 13), int), "of int64, but must hold finite floating numbers"),
        (np.full((5, 13), np.nan), "but must hold finite floating numbers"),
        (np.array([{}]), "which cannot be read"),
        (b"nothing", "which cannot be read"),
        (None, "which cannot be read: No such file or directory"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path, content, said):
    path = tmp_path / "mine.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(SettingError, match=said):
        read_recording(path)


def test_sound_is_read_by_librosa(tmp_path, monkeypatch):
    path = tmp_path / "mine.wav"
    with pytest.raises(SettingError, match="which cannot be read: No such file"):
        read_recording(path)
    path.write_bytes(b"RIFF")
    monkeypatch.setitem(sys.modules, "librosa", None)
    with pytest.raises(SettingError, match="librosa, which is not installed: pip install librosa"):
        read_recording(path)
    arrays = np.ones((13, 4), np.float32)
    fake = types.SimpleNamespace(
        load=lambda path: (np.zeros(9), 22050),
        feature=types.SimpleNamespace(mfcc=lambda y, sr, n_mfcc: arrays),
    )
    monkeypatch.setitem(sys.modules, "librosa", fake)
    np.testing.assert_array_equal(read_recording(path), arrays.T)
