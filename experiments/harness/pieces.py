"""The loop around training that is one jitted function of many models, mapped over an axis."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.harness import checkpoints
from experiments.harness.files import as_json
from experiments.harness.progress import Clock, progress

Entry = dict[str, Any]


def in_pieces(
    folder: Path,
    state: Any,
    advance: Callable[[Any, int], tuple[Any, Entry]],
    show: Callable[[Entry], Mapping[str, str]],
    *,
    updates: int,
    every: int,
) -> tuple[Any, list[Entry]]:
    """Trains piece by piece, with a checkpoint after each.

    Args:
      folder: for the checkpoints. If there are any, training goes on from the newest.
      state: the first one.
      advance: `(state, first) -> (state, found)`, the `every` updates from the one numbered
        `first`, and what the history is to have of them.
      show: what is shown of the history's last entry, by its names.
      updates: how many there are.
      every: so many are a piece.

    Returns:
      The last state; and the history, of each piece the number of updates until its end, what was
      found, and the seconds.

    Raises:
      CheckpointError: a checkpoint cannot be written, or none that is there can be read.
    """
    with checkpoints.open_manager(folder) as manager:
        state, history = checkpoints.restore(manager, state)
        clock, start = Clock(history), history[-1]["step"] if history else 0
        with progress(updates, start) as tell:
            for first in range(start, updates, every):
                state, found = advance(state, first)
                step = first + every
                history.append(as_json({"step": step, **found, **clock.read()}))
                checkpoints.save(manager, state, history)
                tell(step, show(history[-1]))
    return state, history
