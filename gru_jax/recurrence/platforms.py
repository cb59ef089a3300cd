"""Which implementation runs on which platform: the only module that knows a platform."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any, Literal

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from . import accelerators, cpu, scan
from .interface import Cell, Implementation, Unsupported
from .options import Options

IMPLEMENTATIONS: dict[str, Implementation] = {
    "cpu": cpu.tuned(),
}
"""What None and "scan" run, by platform as `jax.lax.platform_dependent` names it: whatever is
fastest there by a record in `experiments/results`."""
OTHERS = accelerators.SCAN
"""What they run on every other platform."""


def _imported(module: str) -> Implementation:
    """Not before it is asked for: Pallas takes longer to import than the rest of the library."""
    result: Implementation = import_module(f".{module}", __package__).IMPLEMENTATION
    return result


KERNELS: dict[str, Callable[[], Implementation]] = {
    "cuda": partial(_imported, "gpu"),
    "tpu": partial(_imported, "tpu"),
}
"""What "pallas" runs, by platform."""


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
        return getattr(implementation, operation)(cell, options, *args)  # type: ignore[no-any-return]

    def or_scan(implementation: Implementation, *args: Any) -> tuple[Any, Any]:
        try:
            return by(implementation, *args)
        except Unsupported:
            return by(scan.SCAN, *args)

    def or_error(platform: str, *args: Any) -> tuple[Any, Any]:
        try:
            return by(KERNELS[platform](), *args)
        except Unsupported as reason:
            return refused(f"the kernel for {platform} does not take {reason}", *args)

    def refused(why: str, *args: Any) -> tuple[Any, Any]:
        return jax.tree.map(partial(_refused.bind, why=why), by(scan.SCAN, *args))  # type: ignore[no-any-return]

    if options.implementation == "pallas":
        branches = {platform: partial(or_error, platform) for platform in KERNELS}
        default = partial(refused, "there is no kernel for this platform")
    else:
        branches = {name: partial(or_scan, each) for name, each in IMPLEMENTATIONS.items()}
        default = partial(by, OTHERS)
    result: tuple[Any, Any] = jax.lax.platform_dependent(*args, default=default, **branches)
    return result


def of_models(
    programs: tuple[Callable[..., Any], Callable[..., Any]],
    options: Options,
    values: list[Any],
    work: Any,
) -> Any:
    """Runs models of equal sizes, mapped over the first axis of all values.

    Args:
      programs: one that runs one model after the other, and one that runs them as a batch. Only the
        first runs kernels.
      options: the static options.
      values: the arguments of both.
      work: the multiplications of one model in one step.
    """
    one_by_one, at_once = programs
    if options.implementation == "pallas":
        return one_by_one(*values)
    if not cpu.is_large(work):
        return at_once(*values)
    return jax.lax.platform_dependent(*values, cpu=one_by_one, default=at_once)


@contextmanager
def replaced(platform: str, implementation: Implementation) -> Iterator[None]:
    """Runs another implementation on a platform meanwhile, whichever is asked for."""
    given, kernels = IMPLEMENTATIONS[platform], dict(KERNELS)
    try:
        IMPLEMENTATIONS[platform] = implementation
        KERNELS[platform] = lambda: implementation
        jax.clear_caches()  # type: ignore[no-untyped-call]
        yield
    finally:
        IMPLEMENTATIONS[platform] = given
        KERNELS.clear()
        KERNELS.update(kernels)
        jax.clear_caches()  # type: ignore[no-untyped-call]


def _refuse(*_: Any, why: str) -> Any:
    raise ValueError(f'implementation is "pallas", but {why}: use None.')


_refused: Any = Primitive("refused")
"""The identity, which cannot be compiled: which platform that is for is known only then."""
_refused.def_impl(_refuse)
_refused.def_abstract_eval(lambda x, **_: x)
ad.deflinear2(  # type: ignore[no-untyped-call]
    _refused, lambda cotangent, _, why: [_refused.bind(cotangent, why=why)]
)
batching.defvectorized(_refused)  # type: ignore[no-untyped-call]
mlir.register_lowering(_refused, _refuse)
