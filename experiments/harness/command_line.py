"""The command line of every experiment: presets, options that override them, and how it ends."""

import argparse
import contextlib
import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import tyro

from experiments.harness.checkpoints import CheckpointError
from experiments.harness.datasets import DatasetError
from experiments.harness.devices import ParallelRun, ProcessError, together
from experiments.harness.models import load_model, model_path
from experiments.harness.settings import (
    Config,
    SettingError,
    changed,
    hints_of,
    option,
    range_of,
    training_settings,
    with_settings,
)


def parse(presets: Mapping[str, Config], arguments: Sequence[str] | None = None) -> Config:
    """Reads the command line: --preset chooses the defaults, every other option overrides one.

    With --use the defaults are the settings that the model was trained with.

    Args:
      presets: configurations by name, the default one first. A configuration is a frozen
        dataclass with a field `preset`, whose other fields `settings` checks.
      arguments: instead of the process's own.

    Returns:
      The configuration.

    Raises:
      SettingError: an option that there is not, a value of another type, or one that another
        option forbids; with one sentence.
    """
    names = list(presets)
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    chooser.add_argument("--preset", default=names[0])
    chooser.add_argument("--use", default="")
    try:
        chosen = chooser.parse_known_args(arguments)[0]
    except argparse.ArgumentError:  # tyro will refuse it
        return _parse(presets[names[0]], arguments)
    default = presets.get(chosen.preset, presets[names[0]])
    if not (chosen.use and hasattr(default, "use")):
        return _parse(default, arguments)
    settings = load_model(model_path(default, Path(chosen.use))).settings
    config: Any = _parse(with_settings(default, settings), arguments)
    if config.run.resume:
        raise SettingError("--resume goes on with training, but --use trains nothing.")
    if isinstance(config.run, ParallelRun) and (config.run.devices > 1 or config.run.coordinator):
        raise SettingError("--devices and --coordinator spread training, but --use trains nothing.")
    if difference := changed(training_settings(config), settings):
        raise SettingError(f"--use trains nothing, so these must not change: {difference}.")
    used: Config = config
    return used


def _parse(default: Config, arguments: Sequence[str] | None) -> Config:
    """Lets tyro read the options; its boxed messages become one sentence."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            return tyro.cli(type(default), default=default, args=arguments)
    except SystemExit as stopped:
        if not stopped.code:
            raise  # --help
        lines = [line.strip("│ ") for line in printed.getvalue().splitlines()[1:]]
        end = next((i for i, line in enumerate(lines) if set(line) <= {"─", "╰", "╯"}), None)
        sentence = " ".join(lines[:end]).strip().removesuffix(".")
    hints = hints_of(type(default))
    named = [name for name in hints if re.search(rf"{option(name)}\b(?!-)", sentence)]
    if len(named) == 1 and named[0] not in ("run", "use"):
        sentence += f"; {option(named[0])} must be {range_of(hints[named[0]])}"
    raise SettingError(sentence + ".")


def launch(main: Callable[[Any], Any], presets: Mapping[str, Any]) -> None:
    """Runs an experiment from the command line.

    A mistake of the user's, data or a disk that fail, and Ctrl-C end it with one sentence; the
    exit status is 2 for a mistake, 130 for Ctrl-C and else 1.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed before Python started
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):  # what this locale cannot write is escaped
            stream.reconfigure(errors="backslashreplace")
    resuming = ""
    try:
        config = parse(presets)
        if hasattr(config.run, "resume") and not getattr(config, "use", None):
            resuming = f"; to go on from the last checkpoint: {_resuming()}"
        with together(resuming or "."):
            main(config)
        sys.stdout.flush()
    except SettingError as error:
        _end(str(error), 2)
    except (CheckpointError, DatasetError, FloatingPointError, ProcessError) as error:
        _end(str(error), 1)
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        _end("The memory does not suffice: lower the sizes or the number of seeds.", 1)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _end(f"A file cannot be read or written: {error.strerror or error}{where}.", 1)
    except KeyboardInterrupt:
        _end(f"Interrupted{resuming}", 130)


def _resuming() -> str:
    """The command that goes on with this run."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = spec.name.removesuffix(".__main__") if spec else "experiments"
    options = [argument for argument in sys.argv[1:] if argument != "--resume"]
    return shlex.join(["python", "-m", name, *options, "--resume"])


def _end(sentence: str, status: int) -> None:
    """Ends the process, even where standard output cannot be written."""
    with contextlib.suppress(OSError):
        print(f"\n{sentence}" if status == 130 else sentence, file=sys.stderr, flush=True)
    try:
        sys.stdout.flush()
    except OSError:  # Python would try again, and say so, when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if jax.distributed.is_initialized():  # it would wait for the others, which wait for it
        os._exit(status)
    raise SystemExit(status)
