"""Settings of an experiment: a frozen dataclass whose fields state, with their types, their range.

A field is `Annotated` with an `Interval`, a `Form`, `DISTINCT` or `GIVEN`; `check` refuses every
other value before anything is fetched or compiled. Fields marked `USAGE` concern what is done with
a trained model: they may change when a run is resumed or its model is used again.
"""

import dataclasses
import operator
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro

RUNS = Path(__file__).resolve().parents[2] / "runs"


class SettingError(ValueError):
    """A setting that cannot be used; the message is one sentence that also says what can."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """Numbers between two bounds.

    Attributes:
      text: as in mathematics, such as "[0, 1)".
      multiple_of: for whole numbers.
    """

    text: str
    multiple_of: int = 1

    def __contains__(self, value: float) -> bool:
        low, high = map(float, self.text[1:-1].split(","))
        above = operator.ge if self.text[0] == "[" else operator.gt
        below = operator.le if self.text[-1] == "]" else operator.lt
        whole = self.multiple_of == 1 or value % self.multiple_of == 0
        return above(value, low) and below(value, high) and whole

    def __str__(self) -> str:
        return f"in {self.text}" + f", a multiple of {self.multiple_of}" * (self.multiple_of > 1)


@dataclasses.dataclass(frozen=True)
class Form:
    """Text that matches a regular expression as a whole.

    Attributes:
      pattern: the expression.
      text: what it asks for, in words.
    """

    pattern: str
    text: str

    def __contains__(self, value: str) -> bool:
        return re.fullmatch(self.pattern, value, flags=re.DOTALL) is not None

    def __str__(self) -> str:
        return self.text


@dataclasses.dataclass(frozen=True)
class Several:
    """At least one value, and none twice if they are to be distinct."""

    distinct: bool

    def __contains__(self, values: tuple[Any, ...]) -> bool:
        return 0 < len(set(values) if self.distinct else values) == len(values)

    def __str__(self) -> str:
        return "one or more" + ", none twice" * self.distinct


@dataclasses.dataclass(frozen=True)
class Usage:
    """Marks a setting of what is done with a trained model."""


DISTINCT, GIVEN, USAGE = Several(distinct=True), Several(distinct=False), Usage()
Config = TypeVar("Config")
RANGES = (Interval, Form, Several)

# Types that the configurations share; --help shows what tyro is told of them.
Size = Annotated[int, Interval("[1, 65536]")]
Layers = Annotated[int, Interval("[1, 64]")]
BatchSize = Annotated[int, Interval("[1, 65536]")]
Length = Annotated[int, Interval("[1, 1000000]")]
Steps = Annotated[int, Interval("[1, 1000000000]")]
EvaluateEvery = Annotated[
    int,
    Interval("[10, 1000000000]", multiple_of=10),
    tyro.conf.arg(help="Updates between evaluations; a checkpoint is written after each."),
]
LearningRate = Annotated[
    float,
    Interval("(0, inf)"),
    tyro.conf.arg(
        help="At its peak: it rises linearly for a twentieth of the steps, then falls along a "
        "cosine."
    ),
]
Seeds = Annotated[int, Interval("[1, 1000]"), tyro.conf.arg(help="Trained in parallel by vmap.")]
Rate = Annotated[float, Interval("[0, 1)")]
NotNegative = Annotated[float, Interval("[0, inf)")]
Count = Annotated[int, Interval("[1, inf)")]


@dataclasses.dataclass(frozen=True)
class Output:
    """Where a run's files lie."""

    output: Path = RUNS
    """Folder for the record and the figures."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Where a training run's files lie, and whether it goes on from them."""

    output: Path = RUNS
    """Folder for the record, the figures, the trained model and the checkpoints."""
    resume: bool = False
    """Go on from the last checkpoint of a run with the same settings; begin where there is none."""


OutputOptions = Annotated[Output, tyro.conf.arg(name="")]
RunOptions = Annotated[Run, tyro.conf.arg(name="")]
Use = Annotated[
    Path | None,
    tyro.conf.arg(
        help="Train nothing: use the model of a finished run, which is named by its record or by "
        "its folder."
    ),
]


def stem_of(config: Any) -> str:
    """The name of a run's files: the experiment's, which is its package's, and the preset's."""
    module = type(config).__module__.removesuffix(".config").rpartition(".")[2]
    return f"{module}-{config.preset}"


def settings_of(config: Any) -> dict[str, Any]:
    """All settings: the configuration without the run's whereabouts; paths are text."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in dataclasses.asdict(config).items()
        if name not in ("run", "use")
    }


def training_settings(config: Any) -> dict[str, Any]:
    """The settings that a trained model depends on, as JSON has them: tuples are lists."""
    usage = {name for name, hint in hints_of(type(config)).items() if USAGE in _parts(hint)[1]}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in settings_of(config).items()
        if name not in usage
    }


def changed(settings: dict[str, Any], before: dict[str, Any]) -> str:
    """The settings that differ, in words: "steps (was 5, is 6)"; empty if none does."""
    names = sorted({*settings, *before})
    return ", ".join(
        f"{option(name)} (was {before.get(name)!r}, is {settings.get(name)!r})"
        for name in names
        if settings.get(name) != before.get(name)
    )


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """A configuration with settings out of a JSON file; those that it has not are ignored."""
    hints = hints_of(type(config))
    known = {name: value for name, value in settings.items() if name in hints}
    for name, value in known.items():
        if isinstance(value, list):
            known[name] = tuple(value)
        elif isinstance(value, str) and Path in (hints[name], *get_args(hints[name])):
            known[name] = Path(value)
    return dataclasses.replace(config, **known)  # type: ignore[type-var]


def option(name: str) -> str:
    """A field's option on the command line."""
    return "--" + name.replace("_", "-")


def check(config: Any) -> None:
    """Refuses a configuration that has a value outside its field's range.

    Raises:
      SettingError: it names the option, its value and the range.
    """
    for name, hint in hints_of(type(config)).items():
        value = getattr(config, name)
        if name not in ("run", "use") and not _allows(hint, value):
            raise SettingError(f"{option(name)} is {value!r}, but must be {range_of(hint)}.")


def range_of(hint: Any) -> str:
    """What a field of this type may be, in words."""
    kind, metadata = _parts(hint)
    ranges = [str(each) for each in metadata if isinstance(each, RANGES)]
    if _is_optional(kind):
        return f"{range_of(get_args(kind)[0])} or None"
    if get_origin(kind) is tuple:
        return f"{', '.join(ranges)}, each {range_of(get_args(kind)[0])}"
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    names = {int: "a whole number", float: "a number", str: "text", Path: "a path"}
    return " ".join([names.get(kind, "True or False"), *ranges])


def hints_of(config_type: Any) -> dict[str, Any]:
    """The type of each field, with what it is annotated with."""
    hints = get_type_hints(config_type, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(config_type)}


def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type, and what it is annotated with."""
    return (hint.__origin__, hint.__metadata__) if get_origin(hint) is Annotated else (hint, ())


def _is_optional(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType) and type(None) in get_args(kind)


def _allows(hint: Any, value: Any) -> bool:
    kind, metadata = _parts(hint)
    if _is_optional(kind):
        return value is None or _allows(get_args(kind)[0], value)
    if get_origin(kind) is tuple:
        right = isinstance(value, tuple) and all(_allows(get_args(kind)[0], v) for v in value)
    elif get_origin(kind) is Literal:
        right = value in get_args(kind)
    else:
        right = isinstance(value, kind) or (kind is float and isinstance(value, int))
        right &= not isinstance(value, bool) or kind is bool
    return right and all(value in each for each in metadata if isinstance(each, RANGES))
