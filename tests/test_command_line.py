"""The command line that the experiments share: presets, options, and how a run ends."""

import dataclasses
import importlib
import sys
from typing import Annotated, Literal, get_args, get_origin

import jax
import pytest

from experiments.__main__ import rows
from experiments.harness import command_line, datasets, settings, training
from experiments.harness.checkpoints import CheckpointError
from experiments.harness.datasets import DatasetError
from experiments.harness.runs import begun
from experiments.harness.settings import (
    USAGE,
    Interval,
    LearningRate,
    Output,
    Run,
    RunOptions,
    SettingError,
    Use,
    hints_of,
)

EXPERIMENTS = {row.name: importlib.import_module(f"experiments.{row.name}") for row in rows()}
every_experiment = pytest.mark.parametrize("name", EXPERIMENTS)


@dataclasses.dataclass(frozen=True)
class Config:
    preset: Literal["default", "full"] = "default"
    size: int = 1
    rate: LearningRate = 0.5
    heat: Annotated[float, USAGE] = 1.0
    use: Use = None
    run: RunOptions = dataclasses.field(default_factory=Run)


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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--preset", "huge"], "'huge' .* --preset must be one of default, full.$"),
        (["--preset"], "--preset"),
        (["--size", "x"], "--size: .*'x'; --size must be a whole number.$"),
        (["--rate", "x"], r"--rate: .*'x'; --rate must be a number in \(0, inf\).$"),
        (["--colour", "red"], "Unrecognized options: --colour, red.$"),
        (["--size", "1", "2"], "Unrecognized options: 2.$"),
    ],
)
def test_unknown_options_and_values_are_refused_in_one_sentence(arguments, said):
    with pytest.raises(SettingError, match=said) as caught:
        command_line.parse(PRESETS, arguments)
    assert "\n" not in str(caught.value)


def test_help_explains_shared_options(capsys):
    with pytest.raises(SystemExit) as stopped:
        command_line.parse(PRESETS, ["--help"])
    assert stopped.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    for text in ("At its peak: it rises linearly", "--output", "--resume", "--size", "--use"):
        assert text in printed


def model_in(folder):
    """A finished run of the full preset, of size 7."""
    with begun(Config("full", size=7, run=Run(folder))) as run:
        run.save_model({}, symbols=[])


def test_a_used_models_settings_are_the_defaults(tmp_path):
    model_in(tmp_path)
    path = tmp_path / "test_command_line-full"
    for use in ([f"{path}.json"], [f"{path}.npz"], [str(tmp_path), "--preset", "full"]):
        found = command_line.parse(PRESETS, ["--use", *use, "--heat", "3"])
        assert (found.preset, found.size, found.heat) == ("full", 7, 3.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "8"], r"must not change: --size \(was 7, is 8\)"),
        (["--resume"], "--resume goes on with training, but --use trains nothing"),
        (["--preset", "default"], r"default\.npz is no model of a finished run"),
    ],
)
def test_a_used_model_trains_nothing(tmp_path, arguments, said):
    model_in(tmp_path)
    with pytest.raises(SettingError, match=said):
        command_line.parse(PRESETS, ["--use", str(tmp_path), "--preset", "full", *arguments])


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (SettingError("--size is 4."), 2, "--size is 4."),
        (DatasetError("There is no data."), 1, "There is no data."),
        (FloatingPointError("The loss is nan."), 1, "The loss is nan."),
        (CheckpointError("Checkpoint 3 is lost."), 1, "Checkpoint 3 is lost."),
        (OSError(28, "No space left on device", "/a"), 1, "No space left on device (/a)."),
        (MemoryError(), 1, "The memory does not suffice"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 9 GB"), 1, "The memory does not suffice"),
    ],
)
def test_a_failure_ends_in_one_sentence(monkeypatch, capsys, error, status, said):
    def main(config):
        raise error

    monkeypatch.setattr(sys, "argv", ["experiment", "--size", "4"])
    with pytest.raises(SystemExit) as stopped:
        command_line.launch(main, PRESETS)
    assert stopped.value.code == status
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["experiment"])
    for error in (KeyError, ValueError, jax.errors.JaxRuntimeError):

        def main(config, error=error):
            raise error("a bug")

        with pytest.raises(error, match="a bug"):
            command_line.launch(main, PRESETS)


@dataclasses.dataclass(frozen=True)
class NotResumable:
    preset: str = "default"
    run: Output = dataclasses.field(default_factory=Output)


@pytest.mark.parametrize(
    ("presets", "arguments", "said"),
    [
        (PRESETS, ["--size", "4"], "Interrupted; to go on from the last checkpoint: python -m "),
        (PRESETS, ["--size", "4", "--resume"], "experiments --size 4 --resume"),
        ({"default": NotResumable()}, [], "Interrupted"),
    ],
)
def test_an_interrupted_run_says_how_to_go_on(monkeypatch, capsys, presets, arguments, said):
    def main(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["experiment", *arguments])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)  # of `python -m pytest`, say
    with pytest.raises(SystemExit) as stopped:
        command_line.launch(main, presets)
    assert stopped.value.code == 130
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("Interrupted")
    assert said in line
    assert line.count("--resume") == ("default" in presets and presets is PRESETS)


def wrong_values(hint):
    """Values out of a field's range, as they are typed; derived from the range."""
    kind, metadata = settings._parts(hint)
    if settings._is_optional(kind):
        kind, metadata = settings._parts(get_args(kind)[0])
    if get_origin(kind) is Literal:
        yield ["nonsense"]
        yield [""]
    elif get_origin(kind) is tuple and any(isinstance(m, settings.Several) for m in metadata):
        yield ["nonsense"]
        yield []
        if settings.DISTINCT in metadata:
            values = get_args(get_args(kind)[0])
            yield [str(values[0])] * 2 if values else ["-"]
    elif kind in (int, float):
        yield ["x"]
        yield []
        (interval,) = [m for m in metadata if isinstance(m, Interval)]
        low, high = map(float, interval.text[1:-1].split(","))
        if interval.text[0] == "(":
            yield [repr(kind(low))]
        yield [repr(kind(low) - 1)]
        if high < float("inf"):
            yield [repr(kind(high) + 1)]
        if interval.multiple_of > 1:
            yield [repr(kind(low) + 1)]
        if kind is float:
            yield ["nan"]
            yield ["inf"]
        else:
            yield ["1.5"]
    elif any(isinstance(m, settings.Form) for m in metadata):
        yield [""]


@every_experiment
def test_wrong_values_are_refused_in_one_sentence_before_anything_is_done(
    name, monkeypatch, capsys, tmp_path
):
    """It names the option, the value and the range; the exit status is 2."""

    def fail(*_, **__):
        raise AssertionError("it went on")

    experiment = EXPERIMENTS[name]
    monkeypatch.setattr(datasets, "fetch", fail)
    monkeypatch.setattr(training, "fit", fail)
    monkeypatch.setattr(jax, "jit", fail)
    tried = 0
    for field, hint in hints_of(experiment.Config).items():
        option = settings.option(field)
        for values in wrong_values(hint):
            arguments = [option, *values, "--output", str(tmp_path / "runs")]
            monkeypatch.setattr(sys, "argv", ["experiment", *arguments])
            with pytest.raises(SystemExit) as stopped:
                command_line.launch(experiment.main, experiment.PRESETS)
            printed = capsys.readouterr()
            assert stopped.value.code == 2, (arguments, printed)
            (line,) = printed.err.splitlines()
            assert option in line, line
            assert all(value in line for value in values), line
            assert "must be" in line, line
            assert settings.range_of(hint) in line, line
            tried += 1
    assert tried > 10
    assert not (tmp_path / "runs").exists()
