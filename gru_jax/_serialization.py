"""Registration of the classes with `jax.export` and `flax.serialization`."""

import contextlib
import dataclasses
import importlib.abc
import importlib.machinery
import importlib.util
import json
import sys
from types import ModuleType
from typing import Any

import jax.export

from ._readout import ReadoutParams
from .cells import CELLS
from .cells.lstm import LSTMState
from .recurrence.parallel import Solution
from .stack.params import Bidirectional, GRUStack

_DATACLASSES: tuple[type[Any], ...] = (*CELLS, ReadoutParams, GRUStack)
_FLAX = "flax.serialization"


def _register() -> None:
    """Registers our classes with `jax.export`, and with Flax when that is imported."""
    for cls in _DATACLASSES:
        jax.export.register_pytree_node_serialization(
            cls,
            serialized_name=f"gru_jax.{cls.__name__}",
            serialize_auxdata=lambda static: json.dumps(static).encode(),
            deserialize_auxdata=_static_fields,
        )
    for namedtuple in (LSTMState, Bidirectional, Solution):
        jax.export.register_namedtuple_serialization(
            namedtuple, serialized_name=f"gru_jax.{namedtuple.__name__}"
        )
    if _FLAX in sys.modules:
        _register_flax(sys.modules[_FLAX])
    else:
        sys.meta_path.insert(0, _WhenFlaxIsImported())


def _static_fields(data: bytes | bytearray) -> Any:
    static = json.loads(data)
    return tuple(static) if isinstance(static, list) else static


def _register_flax(serialization: ModuleType) -> None:
    """Each class as a dictionary of its fields, static ones included."""

    def to_state_dict(params: Any) -> dict[str, Any]:
        return {
            field.name: serialization.to_state_dict(getattr(params, field.name))
            for field in dataclasses.fields(params)
        }

    def from_state_dict(target: Any, state: dict[str, Any]) -> Any:
        names = {field.name for field in dataclasses.fields(target)}
        if set(state) != names:
            raise ValueError(
                f"the state of a {type(target).__name__} has {sorted(state)}, but must have "
                f"{sorted(names)}."
            )
        values = {}
        for field in dataclasses.fields(target):
            value, old = state[field.name], getattr(target, field.name)
            static = field.metadata.get("static", False)
            if value != old if static else (value is None) != (old is None):
                raise ValueError(
                    f"{field.name} of the stored {type(target).__name__} is {_short(value)}, but "
                    f"that of the target is {_short(old)}."
                )
            values[field.name] = (
                old if static else serialization.from_state_dict(old, value, name=field.name)
            )
        return type(target)(**values)

    for cls in _DATACLASSES:
        serialization.register_serialization_state(cls, to_state_dict, from_state_dict)


def _short(value: Any) -> str:
    return repr(value) if isinstance(value, str | None) else "an array"


class _WhenFlaxIsImported(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Registers our classes as soon as Flax can store them, without importing it.

    Flax looks a class up by identity in a registry of its own, and may be imported after us.
    """

    _spec: importlib.machinery.ModuleSpec | None = None

    def find_spec(
        self, name: str, path: Any, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _FLAX or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        self._spec = importlib.util.find_spec(name)
        if self._spec is None or self._spec.loader is None:
            return self._spec
        spec = importlib.machinery.ModuleSpec(name, self, origin=self._spec.origin)
        spec.has_location = self._spec.has_location
        return spec

    def exec_module(self, module: ModuleType) -> None:
        assert self._spec is not None
        assert self._spec.loader is not None
        module.__spec__, module.__loader__ = self._spec, self._spec.loader
        self._spec.loader.exec_module(module)
        _register_flax(module)


with contextlib.suppress(ValueError):  # a notebook that imports the library anew: names are taken
    _register()
