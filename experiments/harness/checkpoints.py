"""Checkpoints of the training loop, by orbax: whole and unchanged, or passed over."""

import hashlib
import json
import logging
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from tqdm import tqdm

from experiments.harness.devices import by_first
from experiments.harness.files import is_first, write_json

CHECKSUMS = "sha256.json"
"""A checkpoint's last file: the sha256 of each of the others."""


class CheckpointError(OSError):
    """A checkpoint that cannot be written or read; the message is one sentence."""


def open_manager(folder: Path) -> ocp.CheckpointManager:
    """The checkpoints in a folder, the last two kept.

    What a kill cut short or what has changed since is reported and deleted: orbax never reads it.

    Raises:
      CheckpointError: there are checkpoints, but none is whole.
    """
    by_first(lambda: _delete_broken(folder))
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # `save` says what went wrong
    options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
    return ocp.CheckpointManager(folder.absolute(), options=options)


def _delete_broken(folder: Path) -> None:
    steps = [path for path in folder.glob("*") if path.name.isdigit()]
    broken = [path for path in steps if not _is_whole(path)]
    if len(broken) == len(steps) and any((path / CHECKSUMS).exists() for path in broken):
        raise CheckpointError(f"No checkpoint in {folder} is whole: begin anew, without --resume.")
    for path in broken:
        tqdm.write(f"Checkpoint {path.name} in {folder} is damaged or cut short, and passed over.")
        shutil.rmtree(path)


def save(manager: ocp.CheckpointManager, state: Any, history: list[dict[str, Any]]) -> None:
    """Writes the checkpoint of the history's last step, and returns when it is on disk.

    Every process writes the arrays that it alone has; all must call this.

    Raises:
      CheckpointError: it could not be written.
    """
    step = history[-1]["step"]
    items = {"state": ocp.args.StandardSave(state), "history": ocp.args.JsonSave(history)}
    needed = 2**16 + sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    try:
        free = shutil.disk_usage(manager.directory).free
        if free < needed:  # orbax, running out of space, would say it in a hundred lines
            raise OSError(f"it needs {needed:,} bytes, but {free:,} are free")
        with _uninterrupted():
            if not manager.save(step, args=ocp.args.Composite(**items)):
                raise FileExistsError(f"orbax passes it over, having step {manager.latest_step()}")
            if is_first():
                folder = Path(manager.directory, str(step))
                write_json(folder / CHECKSUMS, _checksums(folder))
    except Exception as error:  # of many kinds, orbax's and tensorstore's
        text = str(error) or type(error).__name__
        reason = next(filter(None, map(str.strip, text.splitlines())), text).rstrip(".")
        raise CheckpointError(
            f"Checkpoint {step} in {manager.directory} cannot be written: {reason}."
        ) from error


def restore(manager: ocp.CheckpointManager, state: Any) -> tuple[Any, list[dict[str, Any]]]:
    """The newest checkpoint's state and history, or `state` and none where there is none.

    The arrays are laid out as `state` is, whatever devices they were written from.
    """
    step = manager.latest_step()
    if step is None:
        return state, []
    items = {"state": ocp.args.StandardRestore(state), "history": ocp.args.JsonRestore()}
    with _uninterrupted():
        found = manager.restore(step, args=ocp.args.Composite(**items))
    return found.state, found.history


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Lets Ctrl-C wait: orbax, interrupted, would say much at the end of the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[Any] = []
    before = signal.signal(signal.SIGINT, lambda *_: came.append(None))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


def _is_whole(folder: Path) -> bool:
    try:
        expected = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(expected == _checksums(folder))


def _checksums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != CHECKSUMS
    }
