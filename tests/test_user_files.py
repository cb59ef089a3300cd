"""What a user's machine and a user's files may lack: a folder, a home, a network, lines."""

import io
import os
import sys
from pathlib import Path

import pooch
import pytest

from experiments.harness import datasets
from experiments.harness.datasets import DatasetError, Source, fetch
from experiments.harness.settings import SettingError

SPEECH = Source("speech.txt", "", "http://127.0.0.1:9/speech.txt")


def test_a_data_folder_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRU_JAX_DATA", str(tmp_path / "absent"))
    with pytest.raises(DatasetError, match=r"GRU_JAX_DATA is '.*absent', which is no folder"):
        fetch(SPEECH)


def test_without_a_home_folder_a_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRU_JAX_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: Path("~", ".cache", name))
    with pytest.raises(DatasetError, match=r"There is no home folder .*: set HOME, or set GRU_JAX"):
        fetch(SPEECH)


def test_pip_without_a_network_is_told_in_our_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip's own conclusion is that there is no such version."""
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / name)
    monkeypatch.delenv("GRU_JAX_DATA", raising=False)
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    source = Source("tiny_text-1.0-py3-none-any.whl", "", "tiny-text==1.0")
    with pytest.raises(DatasetError, match=r"failed \(no connection to the package index\)"):
        fetch(source)


def test_lines_are_those_of_a_file_or_of_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes("\ufeffone\r\n\r\n two\u2028three\rfour".encode())
    expected = ["one", " two\u2028three", "four"]
    assert datasets.read_lines(path, "--lines") == expected
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\n\nfour\n"))
    assert datasets.read_lines(Path("-"), "--lines") == ["one", "four"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    with pytest.raises(SettingError, match="--lines is '-', but there is no line"):
        datasets.read_lines(Path("-"), "--lines")
