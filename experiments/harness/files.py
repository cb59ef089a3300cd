"""Files that are written whole or not at all, and by the first process of a run only."""

import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place once it is whole.

    In another process than the first it goes away again.
    """
    if not is_first():
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder, path.name)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp's are for the owner's eyes only
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def is_first() -> bool:
    """Whether this process writes and prints: the only one, or the first of several."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def write_json(path: Path, value: Any) -> Any:
    """Writes a value as JSON, whole or not at all; returns it as a reader gets it."""
    value = as_json(value)
    with replacing(path) as temporary:
        text = json.dumps(value, indent=1, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    return value


def as_json(value: Any) -> Any:
    """The value with null for NaN and infinities, which JSON has not, and lists for tuples."""
    if isinstance(value, dict):
        return {name: as_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
