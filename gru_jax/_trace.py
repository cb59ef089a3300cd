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
_NUMBERS = bool | int | float | complex | str | None
_FIXED_PACKAGES = {
    "jax",
    "numpy",
    "gru_jax",
    "math",
    "functools",
    "builtins",
    "typing",
    "collections",
}
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
    if isinstance(function, _JITTED) or _is_pure(function):
        yield function
        return
    if not isinstance(function, FunctionType):
        raise TypeError
    yield function.__code__
    if id(function) in seen:
        return
    if set(vars(function)) - {"__wrapped__"}:  # attributes, which may change
        raise TypeError
    seen.add(id(function))
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    names = {name for code in _codes(function.__code__) for name in code.co_names}
    found = [function.__globals__[name] for name in sorted(names & set(function.__globals__))]
    for value in (*cells, *defaults, *found):
        if isinstance(value, _CONSTANTS) and _is_fixed(value):
            yield type(value), value, repr(value)  # 0.0 and -0.0 are equal
        elif isinstance(value, FunctionType | _TRANSFORMED):
            yield from _key(value, seen)
        elif isinstance(value, tuple) and all(isinstance(v, _NUMBERS) for v in value):
            yield value, repr(value)
        else:
            raise TypeError


def _is_fixed(value: object) -> bool:
    """Whether a module, or a class, is one whose attributes nobody changes: a user's may change."""
    if isinstance(value, ModuleType | type):
        name = value.__name__ if isinstance(value, ModuleType) else value.__module__
        return name.partition(".")[0] in _FIXED_PACKAGES
    return True


def _is_pure(function: object) -> bool:
    """Whether a function is JAX's or ours, and captures nothing."""
    root = str(getattr(function, "__module__", None)).partition(".")[0]
    transformed = isinstance(function, jax.custom_jvp | jax.custom_vjp)
    captures = not transformed and getattr(function, "__closure__", ()) is not None
    return root in ("jax", "gru_jax") and not captures


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code of a function, and of those that it defines."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
