"""Which implementation runs on which platform: the only module that knows a platform."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import jax

from . import accelerators, cpu, scan
from .interface import Cell, Implementation, Unsupported
from .options import Options

IMPLEMENTATIONS: dict[str, Implementation] = {
    "cpu": cpu.tuned(),
}
"""By platform, as `jax.lax.platform_dependent` names it."""
OTHERS = accelerators.SCAN
"""On every other platform."""


def run(
    operation: Literal["states", "tangents"], cell: Cell, options: Options, *args: Any
) -> tuple[Any, Any]:
    """One of the two operations, by the implementation of the platform it is compiled for.

    Args:
      operation: which.
      cell: the cell.
      options: the static options.
      *args: weights, carry and steps, as `Operation` takes them.
    """

    def by(implementation: Implementation, *args: Any) -> tuple[Any, Any]:
        try:
            return getattr(implementation, operation)(cell, options, *args)  # type: ignore[no-any-return]
        except Unsupported:
            return by(scan.SCAN, *args)

    branches = {name: partial(by, each) for name, each in IMPLEMENTATIONS.items()}
    result: tuple[Any, Any] = jax.lax.platform_dependent(
        *args, default=partial(by, OTHERS), **branches
    )
    return result


def of_models(
    one_by_one: Callable[..., Any], at_once: Callable[..., Any], values: list[Any], work: Any
) -> Any:
    """Runs models of equal sizes, mapped over the first axis of all values.

    Args:
      one_by_one: runs one model after the other.
      at_once: runs them as a batch.
      values: the arguments of both.
      work: the multiplications of one model in one step.
    """
    if not cpu.is_large(work):
        return at_once(*values)
    return jax.lax.platform_dependent(*values, cpu=one_by_one, default=at_once)


@contextmanager
def replaced(platform: str, implementation: Implementation) -> Iterator[None]:
    """Runs another implementation on a platform meanwhile, to compare the two."""
    given = IMPLEMENTATIONS[platform]
    try:
        IMPLEMENTATIONS[platform] = implementation
        jax.clear_caches()  # type: ignore[no-untyped-call]
        yield
    finally:
        IMPLEMENTATIONS[platform] = given
        jax.clear_caches()  # type: ignore[no-untyped-call]
