"""Fast paths over time, and which step has which."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax

from ..cells.gru import gru_step
from ..cells.min_gru import min_gru_step
from .gru import gru_unroll
from .min_gru import min_gru_unroll

_JITTED = type(jax.jit(lambda: None))


class FastPath(NamedTuple):
    """A function over time that is equivalent to `unroll` of a step."""

    unroll: Callable[..., tuple[Any, Any]]
    regularised: bool
    """Whether it takes `save`, `state_scale`, `unit_mask`, `zoneout` and `implementation`."""


FAST_PATHS: dict[Callable[..., Any], FastPath] = {
    gru_step: FastPath(gru_unroll, regularised=True),
    min_gru_step: FastPath(min_gru_unroll, regularised=False),
}


def fast_path(step: Callable[..., Any]) -> FastPath | None:
    """The fast path of a step, also of a jitted one, and of a partial one without arguments."""
    while True:
        if isinstance(step, _JITTED):
            step = step.__wrapped__  # type: ignore[attr-defined]
        elif isinstance(step, partial) and not step.args and not step.keywords:
            step = step.func
        else:
            break
    return next((path for known, path in FAST_PATHS.items() if known is step), None)
