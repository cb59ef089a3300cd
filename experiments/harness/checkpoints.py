"""Checkpoints of the training loop, whole or not there at all, by orbax."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp


def open_manager(folder: Path, *, resume: bool) -> ocp.CheckpointManager:
    """The checkpoints in a folder, the last two kept; without `resume` the folder is emptied.

    Orbax marks a checkpoint once it is whole, and passes over one that a kill cut short.
    """
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
    return ocp.CheckpointManager(folder.absolute(), options=options)


def save(
    manager: ocp.CheckpointManager,
    state: Any,
    history: list[dict[str, Any]],
    settings: Mapping[str, Any],
) -> None:
    """Writes the checkpoint of the history's last step, and returns when it is on disk."""
    about = {"history": history, "settings": settings}
    items = {"state": ocp.args.StandardSave(state), "about": ocp.args.JsonSave(about)}
    manager.save(history[-1]["step"], args=ocp.args.Composite(**items))


def restore(
    manager: ocp.CheckpointManager, state: Any, settings: Mapping[str, Any]
) -> tuple[Any, list[dict[str, Any]]]:
    """The newest checkpoint's state and history, or `state` and none where there is none."""
    step = manager.latest_step()
    if step is None:
        return state, []
    about = manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore())).about
    settings = json.loads(json.dumps(settings))
    changed = [
        f"{name} (was {about['settings'].get(name)!r}, is {settings.get(name)!r})"
        for name in sorted({*settings, *about["settings"]})
        if settings.get(name) != about["settings"].get(name)
    ]
    if changed:
        raise ValueError(
            f"{manager.directory} cannot be resumed under other settings: {', '.join(changed)}."
        )
    items = ocp.args.Composite(state=ocp.args.StandardRestore(state))
    return manager.restore(step, args=items).state, about["history"]
