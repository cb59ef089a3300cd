"""The command line that the experiments share: presets, options, and missing data."""

import sys
from dataclasses import dataclass, field
from typing import Literal

import pytest

from experiments.harness import command_line
from experiments.harness.command_line import LearningRate, Run, RunOptions
from experiments.harness.datasets import DatasetError


@dataclass(frozen=True)
class Config:
    preset: Literal["default", "full"] = "default"
    size: int = 1
    rate: LearningRate = 0.5
    run: RunOptions = field(default_factory=Run)


PRESETS = {"default": Config(), "full": Config("full", size=9)}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], Config()),
        (["--preset", "full"], Config("full", 9)),
        (["--preset=full", "--rate", "0.1"], Config("full", 9, 0.1)),
        (["--size", "3"], Config(size=3)),
    ],
)
def test_options_override_the_presets(arguments, expected):
    assert command_line.parse(PRESETS, arguments) == expected


@pytest.mark.parametrize("arguments", [["--preset", "huge"], ["--size", "x"], ["--colour", "red"]])
def test_unknown_options_and_values_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        command_line.parse(PRESETS, arguments)
    assert arguments[0] in capsys.readouterr().err


def test_missing_data_ends_in_one_sentence(monkeypatch):
    def main(config):
        raise DatasetError(f"no data of size {config.size}")

    monkeypatch.setattr(sys, "argv", ["experiment", "--size", "4"])
    with pytest.raises(SystemExit, match=r"^no data of size 4$"):
        command_line.launch(main, PRESETS)


def test_help_explains_shared_options(capsys):
    with pytest.raises(SystemExit) as stopped:
        command_line.parse(PRESETS, ["--help"])
    assert stopped.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    for text in ("At its peak: it rises linearly", "--output", "--resume", "--size"):
        assert text in printed


def test_settings_are_the_configuration_without_the_run():
    assert command_line.settings_of(Config(size=3)) == {"preset": "default", "size": 3, "rate": 0.5}
