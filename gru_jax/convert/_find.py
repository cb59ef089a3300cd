"""Finding the GRU within the weights of a whole model, by the path of its entries."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ._entries import shortened

Path = tuple[str, ...]
Cells = dict[Path, dict[str, Any]]
"""The entries of each recurrent cell, by the path at which they stand."""

_DIRECTION = re.compile(r"(forward|backward)(_.*)?")


class Layout(NamedTuple):
    """How the weights of a framework are named.

    Attributes:
      what: the argument and the framework's cell, for messages.
      separator: between the parts of a path.
      entry: a pattern of entries that show a recurrent cell; its first group is the cell's path.
      is_gru: whether the entries of a cell are a GRU's.
      skipped: parts of paths that wrappers add and users do not write.
      directions: whether cells at "forward..." and "backward..." of one path are one layer.
    """

    what: str
    separator: str
    entry: re.Pattern[str]
    is_gru: Callable[[Mapping[str, Any]], bool]
    skipped: frozenset[str] = frozenset()
    directions: bool = True

    def at(self, path: Path) -> str:
        """What stands at a path, for messages."""
        return f"{self.what} at {self.prefix(path)!r}" if path else self.what

    def prefix(self, path: Path) -> str:
        """A path as users write it."""
        return "".join(part + self.separator for part in path)


def flat(
    what: str, nested: Mapping[Any, Any], separator: str = "/", prefix: str = ""
) -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a/b": 1}."""
    items: dict[str, Any] = {}
    for name, value in nested.items():
        if not isinstance(name, (str, int)):  # nnx counts the members of a list
            raise ValueError(f"{what} has the key {name!r}, but must have strings for names.")
        if isinstance(value, Mapping) and value:
            items |= flat(what, value, separator, f"{prefix}{name}{separator}")
        else:
            items[f"{prefix}{name}"] = value
    return items


def check_mapping(name: str, value: Any, wanted: str) -> None:
    """Refuses anything but a mapping."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is a {type(value).__name__}, but must be a mapping: {wanted}.")


def cells_of(layout: Layout, entries: Mapping[str, Any]) -> Cells:
    """The recurrent cells among flat entries; the whole as one cell where there is none."""
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


def narrowed(layout: Layout, cells: Cells, prefix: str | None) -> Cells:
    """The cells at a prefix, or else below it."""
    if prefix is None:
        return cells
    wanted = split(layout, prefix)
    paths = {path: tuple(part for part in path if part not in layout.skipped) for path in cells}
    found = {path: cells[path] for path, plain in paths.items() if plain == wanted}
    found = found or {
        path: cells[path] for path, plain in paths.items() if plain[: len(wanted)] == wanted
    }
    if not found:
        raise absent(layout, prefix, cells)
    return found


def split(layout: Layout, prefix: str) -> Path:
    """The parts of a prefix, without those that wrappers add."""
    if not isinstance(prefix, str):
        raise ValueError(f"prefix is a {type(prefix).__name__}, but must be a string or None.")
    parts = prefix.split(layout.separator)
    return tuple(part for part in parts if part and part not in layout.skipped)


def absent(layout: Layout, prefix: str, cells: Cells) -> ValueError:
    """The error of a prefix at which there is nothing."""
    there = [layout.prefix(path) for path, entries in cells.items() if layout.is_gru(entries)]
    known = f"must be one of {shortened(there)}" if there else f"{layout.what} has none at all"
    return ValueError(f"prefix is {prefix!r}, where there is no GRU, but {known}.")


def one_layer(layout: Layout, cells: Cells) -> list[tuple[str, Mapping[str, Any]]]:
    """The only GRU: what it is, for messages, and its entries; of both directions if it has two.

    Cells that are no GRUs are passed over, but a single one is returned, for the reader to refuse.
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
    """The paths of the cells of each layer, one or two, by the layer's path."""
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
