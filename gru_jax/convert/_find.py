"""Finding the GRU in the weights of a model, by the paths of its entries."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ._entries import shortened

Path = tuple[str, ...]
Cells = dict[Path, dict[str, Any]]
"""The entries of each recurrent cell, by the path of the cell."""

_DIRECTION = re.compile(r"(forward|backward)(_.*)?")


class Layout(NamedTuple):
    """How a framework names its weights.

    Attributes:
      what: the argument and the framework's cell, for error messages.
      separator: between the parts of a path.
      entry: a pattern of entries of recurrent cells; its first group is the path of the cell.
      is_gru: whether the entries of a cell are those of a GRU.
      skipped: parts of paths that wrappers add and users omit.
      directions: whether cells at "forward..." and "backward..." of one path are one layer.
    """

    what: str
    separator: str
    entry: re.Pattern[str]
    is_gru: Callable[[Mapping[str, Any]], bool]
    skipped: frozenset[str] = frozenset()
    directions: bool = True

    def at(self, path: Path) -> str:
        """The cell at a path, for error messages."""
        return f"{self.what} at {self.prefix(path)!r}" if path else self.what

    def prefix(self, path: Path) -> str:
        """A path in the form of the argument `prefix`."""
        return "".join(part + self.separator for part in path)


def flatten(
    what: str, nested: Mapping[Any, Any], separator: str = "/", prefix: str = ""
) -> dict[str, Any]:
    """Flattens nested mappings: {"a": {"b": 1}} becomes {"a/b": 1}."""
    items: dict[str, Any] = {}
    for name, value in nested.items():
        if not isinstance(name, (str, int)):  # integers are indices of nnx lists
            raise ValueError(f"{what} has the key {name!r}, but must have strings for names.")
        if isinstance(value, Mapping) and value:
            items |= flatten(what, value, separator, f"{prefix}{name}{separator}")
        else:
            items[f"{prefix}{name}"] = value
    return items


def check_mapping(name: str, value: Any, wanted: str) -> None:
    """Raises `ValueError` if the value is not a mapping; `wanted` describes a correct one."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is a {type(value).__name__}, but must be a mapping: {wanted}.")


def cells_of(layout: Layout, entries: Mapping[str, Any]) -> Cells:
    """The recurrent cells in flat entries; all entries as one cell if there is none."""
    cells: Cells = {}
    for name in entries:
        match = layout.entry.fullmatch(name)
        if match:
            where = match.group(1) or ""
            cells[tuple(filter(None, where.split(layout.separator)))] = {}
    for path in cells:
        start = layout.prefix(path)
        cells[path] = {k.removeprefix(start): v for k, v in entries.items() if k.startswith(start)}
    return cells or {(): dict(entries)}


def select(layout: Layout, cells: Cells, prefix: str | None) -> Cells:
    """The cells at a prefix, or below it if there are none; all cells if it is None."""
    if prefix is None:
        return cells
    wanted = split(layout, prefix)
    paths = {path: tuple(part for part in path if part not in layout.skipped) for path in cells}
    selected = {path: cells[path] for path, plain in paths.items() if plain == wanted}
    selected = selected or {
        path: cells[path] for path, plain in paths.items() if plain[: len(wanted)] == wanted
    }
    if not selected:
        raise no_gru_at(layout, prefix, cells)
    return selected


def split(layout: Layout, prefix: str) -> Path:
    """The parts of a prefix, without those added by wrappers."""
    if not isinstance(prefix, str):
        raise ValueError(f"prefix is a {type(prefix).__name__}, but must be a string or None.")
    parts = prefix.split(layout.separator)
    return tuple(part for part in parts if part and part not in layout.skipped)


def no_gru_at(layout: Layout, prefix: str, cells: Cells) -> ValueError:
    """The error for a prefix without a GRU."""
    there = [layout.prefix(path) for path, entries in cells.items() if layout.is_gru(entries)]
    known = f"must be one of {shortened(there)}" if there else f"{layout.what} has none at all"
    return ValueError(f"prefix is {prefix!r}, where there is no GRU, but {known}.")


def one_layer(layout: Layout, cells: Cells) -> list[tuple[str, Mapping[str, Any]]]:
    """The only GRU, as a list of one or two directions, each with its name for error messages.

    Cells that are not GRUs are ignored, but a single one is returned, so that the converter can
    refuse it with a more specific message.
    """
    gru = {path: entries for path, entries in cells.items() if layout.is_gru(entries)}
    if not gru and len(cells) > 1:
        paths = [layout.prefix(path) for path in cells]
        raise ValueError(
            f"{layout.what} has no GRU, but other recurrent cells at {shortened(paths)}."
        )
    layers = layers_of(layout, gru or cells)
    if len(layers) > 1:
        paths = [layout.prefix(path) for path in layers]
        raise ValueError(
            f"{layout.what} has {len(layers)} GRUs: choose one by prefix=, "
            f"which is one of {shortened(paths)}."
        )
    (members,) = layers.values()
    return [(layout.at(path), cells[path]) for path in members]


def layers_of(layout: Layout, cells: Cells) -> dict[Path, list[Path]]:
    """The paths of the one or two cells of each layer, by the path of the layer."""
    pairs: dict[Path, dict[str, list[Path]]] = {}
    for path in cells:
        for i in reversed(range(len(path))):
            match = _DIRECTION.fullmatch(path[i])
            if match:
                pairs.setdefault(path[:i], {}).setdefault(match.group(1), []).append(path)
                break
    layers = {path: [path] for path in cells}
    for layer, pair in pairs.items():
        both = pair.get("forward", []) + pair.get("backward", [])
        if layout.directions and [len(paths) for paths in pair.values()] == [1, 1]:
            for path in both:
                del layers[path]
            layers[layer] = both
    return layers
