"""Functions of flat arguments, and what kind of array each argument is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax

from .options import Options


@dataclass(frozen=True)
class Kind:
    """What an array is.

    Attributes:
      axis: what a mapped axis becomes: the batch axis at this place; None for weights, which have
        no batch axes.
      linear: whether it is a tangent or a cotangent.
    """

    axis: int | None
    linear: bool = False


WEIGHTS, ROWS, STEPS = Kind(None), Kind(0), Kind(1)
"""Arrays without batch axes; `[..., features]`; `[T, ..., features]`."""
D_WEIGHTS, D_ROWS, D_STEPS = (Kind(kind.axis, linear=True) for kind in (WEIGHTS, ROWS, STEPS))
"""Their tangents."""


@dataclass(frozen=True)
class Flat:
    """A function of flat arguments; one that is equal to another is not traced again.

    Attributes:
      f: of the module level; takes the static arguments, then pytrees.
      static: hashable arguments.
      tree: the structure of the tuple of pytrees.
      compiled: equal to f, and compiled in its place where it has not been transposed.
      transposed: a kernel for the transpose of f with respect to its linear arguments, which are
        its last ones. It takes the static arguments, the pytrees with shapes for some or all of
        the linear leaves, and a list of the cotangents of the results, None for zero. It returns
        those of all linear arguments.
      precision: `jax.default_matmul_precision` where it was first called. Transposes are traced
        later, where another may be in force.
    """

    f: Callable[..., Any]
    static: tuple[Any, ...]
    tree: Any
    compiled: Callable[..., Any] | None = None
    transposed: Callable[..., Any] | None = None
    precision: str | None = field(
        default_factory=lambda: jax.config.values["jax_default_matmul_precision"]
    )

    def __call__(self, *leaves: Any) -> Any:
        """Calls f."""
        with jax.default_matmul_precision(self.precision):
            return self.f(*self.static, *jax.tree.unflatten(self.tree, leaves))

    def transpose(self, leaves: Sequence[Any], cotangents: Sequence[Any]) -> Any:
        """Calls `transposed`."""
        assert self.transposed is not None
        with jax.default_matmul_precision(self.precision):
            args = jax.tree.unflatten(self.tree, leaves)
            return self.transposed(*self.static, *args, list(cotangents))

    @property
    def is_transpose(self) -> bool:
        """Whether it transposes another one, which fixes the shapes of its results."""
        return any(isinstance(value, Flat) for value in self.static)

    def as_compiled(self) -> "Flat":
        """The function that is compiled."""
        return self if self.compiled is None else replace(self, f=self.compiled, compiled=None)

    @property
    def options(self) -> Options:
        """The options among its static arguments, or those of what it transposes."""
        found = [value for value in self.static if isinstance(value, Options | Flat)]
        return found[0] if isinstance(found[0], Options) else found[0].options

    def many(self, models: int) -> "Flat":
        """The same function, told that so many of it are mapped."""

        def told(value: Any) -> Any:
            if isinstance(value, Options):
                return replace(value, models=models * value.models)
            return value.many(models) if isinstance(value, Flat) else value

        return replace(self, static=tuple(map(told, self.static)))

    def of(self, leaves: Sequence[Any], chosen: Sequence[bool]) -> Callable[..., list[Any]]:
        """The function of the chosen ones of its arguments, the others being fixed."""
        return lambda *values: jax.tree.leaves(self(*merged(leaves, chosen, values)))


def some(values: Sequence[Any], chosen: Sequence[bool]) -> list[Any]:
    """The chosen ones of the values."""
    return [value for value, c in zip(values, chosen, strict=True) if c]


def merged(leaves: Sequence[Any], chosen: Sequence[bool], values: Sequence[Any]) -> list[Any]:
    """The leaves with these values in place of the chosen ones."""
    left = iter(values)
    return [next(left) if c else leaf for leaf, c in zip(leaves, chosen, strict=True)]
