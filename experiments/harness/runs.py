"""A run, from its first check to its last line: its folder, its settings, its record.

A run named shakespeare-full writes shakespeare-full.json (the record), .png (figures), .npz (the
trained model) and .checkpoints (a folder, whose run.json says which run they belong to).
"""

import contextlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
from jax.sharding import Mesh

from experiments.harness import devices, models, records
from experiments.harness.files import is_first, write_json
from experiments.harness.settings import (
    SettingError,
    changed,
    check,
    settings_of,
    stem_of,
    training_settings,
)


@dataclass
class OpenRun:
    """A run that has begun.

    Attributes:
      config: its configuration.
      data: the sha256 of each file that it reads.
      mesh: the devices that it is spread over; None for one device.
      environment: see `records.environment`.
      warnings: sentences that end up in the record and in the last lines.
    """

    config: Any
    data: Mapping[str, str]
    mesh: Mesh | None = None
    environment: Mapping[str, str] = field(default_factory=records.environment)
    warnings: list[str] = field(default_factory=list)
    _start: float = field(default_factory=time.perf_counter)

    @property
    def record(self) -> Path:
        """Where the record is written; figures lie beside it."""
        return Path(self.config.run.output, f"{stem_of(self.config)}.json")

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints; a run of several parts has one in it for each."""
        return self.record.with_suffix(".checkpoints")

    def write_record(self, results: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """Writes settings, environment, data and results as JSON, whole or not at all.

        Args:
          results: what was found.
          **more: further entries, such as the history of training.

        Returns:
          The record as a reader of the file gets it.
        """
        record: dict[str, Any] = {
            "settings": settings_of(self.config),
            "environment": dict(self.environment) | devices.described(self.mesh),
            "data": dict(self.data),
            "warnings": self.warnings,
            "results": results,
        }
        written: dict[str, Any] = write_json(self.record, record | more)
        return written

    def save_model(self, params: Any, **knows: Any) -> None:
        """Writes the trained model, and what it needs besides its parameters, to an .npz."""
        settings = training_settings(self.config)
        models.save_model(self.record.with_suffix(".npz"), params, settings, knows)

    def conclude(self, result: str) -> None:
        """Prints the run's last lines: what went wrong, then time, result and record."""
        for warning in self.warnings:
            print(f"Warning: {warning}")
        seconds = time.perf_counter() - self._start
        print(f"{self.record.stem} took {seconds:.0f} s: {result}; record: {self.record}")


@contextlib.contextmanager
def begun(
    config: Any,
    data: Callable[[], Mapping[str, str]] = dict,
    *,
    spread: Sequence[str] = ("batch_size",),
) -> Iterator[OpenRun]:
    """Begins a run, or goes on with one, after all that can be checked before training is.

    Of several processes the first one holds and claims the folder, writes and prints.

    Args:
      config: the run's.
      data: gives the sha256 of each file that the run reads; a pinned file's need not be there.
      spread: the settings whose product is the size of what is spread over devices.

    Raises:
      SettingError: a setting is out of range; the folder cannot be written or is in use by another
        process; what is to be resumed had other settings or data; the devices are not there.
      ProcessError: that happened to the first process, and this is another one.
    """
    check(config)
    mesh = devices.begin(config, spread)
    run = OpenRun(config, data(), mesh)
    with contextlib.ExitStack() as held:

        def claim() -> None:
            held.enter_context(_locked(run.record))
            resume = getattr(config.run, "resume", None)
            if resume is not None:
                _claim(run, resume=resume)

        devices.by_first(claim)
        if not is_first():
            nowhere = held.enter_context(open(os.devnull, "w", encoding="utf-8"))
            held.enter_context(contextlib.redirect_stdout(nowhere))
        yield run


@contextlib.contextmanager
def _locked(record: Path) -> Iterator[None]:
    """Holds a lock that the system releases when the process ends, however it ends."""
    where = f"--output is {str(record.parent)!r}"
    try:
        os.fspath(record).encode()
        record.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(record.with_name(f".{record.stem}.lock"), timeout=0)
        with contextlib.suppress(NotImplementedError):  # a file system that knows no locks
            lock.acquire()
    except UnicodeEncodeError as error:
        raise SettingError(
            f"{where}, which this locale cannot read: set PYTHONUTF8=1, or choose another folder."
        ) from error
    except filelock.Timeout as error:
        raise SettingError(
            f"{where}, where another process runs {record.stem}: wait for it, or choose another "
            "folder."
        ) from error
    except OSError as error:
        raise SettingError(f"{where}, which cannot be written: {error.strerror}.") from error
    try:
        yield
    finally:
        lock.release()


def _claim(run: OpenRun, *, resume: bool) -> None:
    """Makes the folder of checkpoints this run's: checks that it is, or empties it as a whole."""
    about = run.checkpoints / "run.json"
    mine = {"settings": training_settings(run.config), "data": dict(run.data)}
    if resume and about.exists():
        try:
            before = json.loads(about.read_text(encoding="utf-8"))
            difference = ", ".join(filter(None, (changed(mine[k], before[k]) for k in mine)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SettingError(f"{about} is damaged: begin anew, without --resume.") from error
        if difference:
            raise SettingError(
                f"{run.record.stem} cannot be resumed under other settings or data: {difference}."
            )
        return
    if resume:
        print(f"There is nothing to resume in {run.checkpoints}: a new run begins.", flush=True)
    for old in run.checkpoints.parent.glob(f".{run.checkpoints.name}-old-*"):
        shutil.rmtree(old)  # a kill came between
    if run.checkpoints.exists():
        # in one go, so that a kill cannot leave some parts of the old run
        old = run.checkpoints.with_name(f".{run.checkpoints.name}-old-{uuid.uuid4().hex}")
        run.checkpoints.rename(old)
        shutil.rmtree(old)
    write_json(about, mine)
