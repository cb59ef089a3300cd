"""Settings: every field states its range, and every value outside is refused, by name."""

import dataclasses
import importlib
import json
import math
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

import pytest

from experiments.__main__ import rows
from experiments.harness import settings
from experiments.harness.settings import (
    DISTINCT,
    USAGE,
    Form,
    Interval,
    Run,
    SettingError,
    check,
    hints_of,
)

EXPERIMENTS = {row.name: importlib.import_module(f"experiments.{row.name}") for row in rows()}


@dataclasses.dataclass(frozen=True)
class Config:
    preset: Literal["default", "full"] = "default"
    size: Annotated[int, Interval("[1, 8]")] = 3
    every: Annotated[int, Interval("[10, 100]", multiple_of=10)] = 20
    rate: Annotated[float, Interval("[0, 1)")] = 0.5
    patience: Annotated[int, Interval("[1, inf)")] | None = None
    names: Annotated[tuple[Literal["a", "b"], ...], DISTINCT] = ("a",)
    word: Annotated[str, Form("x.+", "x and more")] = "xy"
    heat: Annotated[float, Interval("(0, inf)"), USAGE] = 1.0
    path: Path | None = None
    run: Run = dataclasses.field(default_factory=Run)


@pytest.mark.parametrize(
    "changes",
    [{}, {"rate": 0}, {"patience": 4}, {"names": ("b", "a")}, {"path": Path("x")}, {"word": "x\n"}],
)
def test_values_in_range_are_taken(changes):
    check(Config(**changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preset": "huge"}, "--preset is 'huge', but must be one of default, full."),
        ({"size": 0}, "--size is 0, but must be a whole number in [1, 8]."),
        ({"size": True}, "--size is True, but must be a whole number in [1, 8]."),
        ({"size": 2.0}, "--size is 2.0, but must be a whole number in [1, 8]."),
        ({"every": 15}, "--every is 15, but must be a whole number in [10, 100], a multiple of 10"),
        ({"rate": 1.0}, "--rate is 1.0, but must be a number in [0, 1)."),
        ({"rate": math.nan}, "--rate is nan, but must be a number in [0, 1)."),
        ({"rate": "x"}, "--rate is 'x', but must be a number in [0, 1)."),
        ({"patience": 0}, "--patience is 0, but must be a whole number in [1, inf) or None."),
        ({"names": ()}, "--names is (), but must be one or more, none twice, each one of a, b."),
        ({"names": ("a", "c")}, "--names is ('a', 'c'), but must be one or more"),
        ({"names": ("a", "a")}, "--names is ('a', 'a'), but must be one or more, none twice"),
        ({"names": "a"}, "--names is 'a', but must be one or more"),
        ({"word": "y"}, "--word is 'y', but must be text x and more."),
        ({"heat": math.inf}, "--heat is inf, but must be a number in (0, inf)."),
        ({"heat": 0.0}, "--heat is 0.0, but must be a number in (0, inf)."),
        ({"path": 3}, "--path is 3, but must be a path or None."),
    ],
)
def test_values_out_of_range_are_refused(changes, said):
    with pytest.raises(SettingError) as caught:
        check(Config(**changes))
    assert str(caught.value).startswith(said)


def test_settings_of_the_training_are_those_without_the_usages():
    config = Config(path=Path("a/b"))
    expected = {"preset": "default", "size": 3, "every": 20, "rate": 0.5, "patience": None}
    expected |= {"names": ["a"], "word": "xy", "path": "a/b"}
    assert settings.training_settings(config) == expected
    assert settings.settings_of(config) == expected | {"heat": 1.0, "names": ("a",)}


def test_a_configuration_is_made_of_settings_in_json():
    config = Config(names=("b", "a"), path=Path("a/b"), size=5)
    read = json.loads(json.dumps(settings.training_settings(config)))
    assert settings.with_settings(Config(heat=9.0), read | {"gone": 1}) == dataclasses.replace(
        config, heat=9.0
    )


def test_what_changed_is_said_in_words():
    assert settings.changed({"a": 1, "b_c": [2]}, {"a": 1, "b_c": [3], "d": 4}) == (
        "--b-c (was [3], is [2]), --d (was 4, is None)"
    )
    assert settings.changed({"a": 1}, {"a": 1}) == ""


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_preset_of_an_experiment_is_in_range(name):
    for config in EXPERIMENTS[name].PRESETS.values():
        check(config)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_number_and_tuple_of_an_experiment_has_a_range(name):
    for field, hint in hints_of(EXPERIMENTS[name].Config).items():
        kind, metadata = settings._parts(hint)
        if settings._is_optional(kind):
            kind, metadata = settings._parts(get_args(kind)[0])
        if kind in (int, float) or (get_origin(kind) is tuple and USAGE not in metadata):
            assert any(isinstance(each, settings.RANGES) for each in metadata), field
