"""The command line of every experiment: presets, and options that override them."""

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from experiments.harness.datasets import DatasetError

RUNS = Path(__file__).resolve().parents[2] / "runs"

Config = TypeVar("Config")


@dataclasses.dataclass(frozen=True)
class Run:
    """Where a run's files lie and whether it goes on from them."""

    output: Path = RUNS
    """Folder for the record, the plot and the checkpoints."""
    resume: bool = False
    """Go on from the last checkpoint of a run with the same settings."""


# Fields that the configurations share: their types, with what --help says of them.
RunOptions = Annotated[Run, tyro.conf.arg(name="")]
LearningRate = Annotated[
    float,
    tyro.conf.arg(
        help="At its peak: it rises linearly for a twentieth of the steps, then falls along a "
        "cosine."
    ),
]
Seeds = Annotated[int, tyro.conf.arg(help="Trained in parallel by vmap.")]


def settings_of(config: Any) -> dict[str, Any]:
    """What a run depends on: its configuration without the files' whereabouts."""
    return {name: value for name, value in dataclasses.asdict(config).items() if name != "run"}


def parse(presets: Mapping[str, Config], arguments: Sequence[str] | None = None) -> Config:
    """Reads the command line: --preset chooses the defaults, every other option overrides one.

    Args:
      presets: configurations by name, the default one first. A configuration is a frozen
        dataclass with a field `preset`.
      arguments: instead of the process's own.

    Returns:
      The configuration.
    """
    names = list(presets)
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    chooser.add_argument("--preset", default=names[0])
    chosen = chooser.parse_known_args(arguments)[0].preset
    default = presets.get(chosen, presets[names[0]])  # tyro will refuse an unknown preset
    return tyro.cli(type(default), default=default, args=arguments)


def launch(main: Callable[[Config], Any], presets: Mapping[str, Config]) -> None:
    """Runs an experiment from the command line; missing data ends it with one sentence."""
    config = parse(presets)
    try:
        main(config)
    except DatasetError as error:
        raise SystemExit(str(error)) from None
