"""Which functions are traced once for all calls with arguments of the same shapes."""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from types import CodeType, FunctionType, GenericAlias, ModuleType, UnionType
from typing import Any

import jax
import numpy as np

_JITTED = type(jax.jit(lambda: None))
_CONSTANTS = (
    bool | int | float | complex | str | type | ModuleType | GenericAlias | UnionType | None
)
_TRANSFORMED = _JITTED | jax.custom_jvp | jax.custom_vjp


@dataclass(frozen=True)
class Once:
    """A function that equals another of the same code which captures the same constants.

    As a static argument of a jitted function it is traced once for all of them.
    """

    function: Callable[..., Any] = field(compare=False)
    key: Hashable

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


def once(function: Callable[..., Any], params: Any = ()) -> Once | None:
    """The function as one that is traced once; None if it must be traced anew in each call.

    A method, or a closure over a module, an array or a container, may compute something else the
    next time, so that its first trace would give stale numbers; and parameters may hold what is no
    array, such as the activation of a layer.
    """
    if not all(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(params)):
        return None
    try:
        return Once(function, tuple(_key(function, set())))
    except (TypeError, ValueError):  # something else, or a name that is not bound yet
        return None


def _key(function: object, seen: set[int]) -> Iterator[Hashable]:
    """The code and the captured constants; raises `TypeError` for what may change."""
    if isinstance(function, _TRANSFORMED) or _is_pure(function):
        yield function
        return
    if not isinstance(function, FunctionType):
        raise TypeError
    yield function.__code__
    if id(function) in seen:
        return
    seen.add(id(function))
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    names = {name for code in _codes(function.__code__) for name in code.co_names}
    found = [function.__globals__[name] for name in sorted(names & set(function.__globals__))]
    for value in (*cells, *defaults, *found):
        if isinstance(value, _CONSTANTS):
            yield type(value), value
        elif isinstance(value, FunctionType | _TRANSFORMED):
            yield from _key(value, seen)
        elif isinstance(value, tuple) and all(isinstance(v, _CONSTANTS) for v in value):
            yield value
        else:
            raise TypeError


def _is_pure(function: object) -> bool:
    """Whether a function is JAX's or ours, and captures nothing."""
    root = str(getattr(function, "__module__", None)).partition(".")[0]
    return root in ("jax", "gru_jax") and getattr(function, "__closure__", ()) is None


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code of a function, and of those that it defines."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
