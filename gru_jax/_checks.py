"""What every argument must be, and what the user is told where it is not."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

if TYPE_CHECKING:
    from ._params import GRUParams


def check_size(name: str, size: int) -> None:
    """Refuses a size below 1."""
    if size < 1:
        raise ValueError(f"{name} is {size}, but must be at least 1.")


def check_option(name: str, value: object, known: Sequence[str]) -> None:
    """Refuses an unknown option."""
    if value not in known:
        raise ValueError(f"{name} is {value!r}, but must be one of {', '.join(map(repr, known))}.")


def check_rate(name: str, rate: float) -> None:
    """Refuses a probability outside [0, 1)."""
    if not 0 <= rate < 1:
        raise ValueError(f"{name} is {rate}, but must be a rate in [0, 1).")


def check_floating(name: str, dtype: DTypeLike) -> None:
    """Refuses a dtype that is not floating."""
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{name} is {jnp.dtype(dtype)}, but must be a floating dtype.")


def check_shape(name: str, array: jax.Array, shape: tuple[int, ...], meaning: str) -> None:
    """Refuses an array of another shape."""
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, but must have {shape} = {meaning}.")


def check_params(params: "GRUParams") -> "GRUParams":
    """Refuses parameters whose arrays do not fit together; makes JAX arrays of NumPy's.

    Not done when a `GRUParams` is made, because transformations and checkpoint libraries build
    pytrees whose leaves are no arrays.
    """
    params = jax.tree.map(partial(as_array, "params"), params)
    check_option("params.reset", params.reset, ("before", "after"))
    if params.w_h.ndim != 2 or params.w_h.shape[1] != 3 * params.w_h.shape[0]:
        raise ValueError(
            f"params.w_h has shape {params.w_h.shape}, but must have (H, 3H), gates z | r | n."
        )
    hidden = params.hidden_size
    if params.w_x.ndim != 2 or params.w_x.shape[1] != 3 * hidden:
        raise ValueError(
            f"params.w_x has shape {params.w_x.shape}, but must have (I, {3 * hidden}) = (I, 3H)."
        )
    if params.b is not None:
        check_shape("params.b", params.b, (3 * hidden,), "(3H,)")
    if params.b_hn is not None:
        if params.reset == "before":
            raise ValueError(
                'params.b_hn is an array, but reset="before" has no such bias: '
                "leave it None and add it to the candidate's part of params.b."
            )
        check_shape("params.b_hn", params.b_hn, (hidden,), "(H,)")
    for name in ("w_x", "b", "b_hn"):
        array = getattr(params, name)
        if array is not None and array.dtype != params.w_h.dtype:
            raise ValueError(
                f"params.{name} is {array.dtype}, but params.w_h is {params.w_h.dtype}: "
                "cast the parameters to one dtype."
            )
    return params


def check_state(name: str, params: Any, h: jax.Array, batch_shape: tuple[int, ...]) -> None:
    """Refuses a state of the wrong shape, or too narrow a dtype to carry."""
    check_shape(name, h, (*batch_shape, params.hidden_size), "(*batch, H)")
    weights = params.w_x.dtype
    floating = jnp.issubdtype(h.dtype, jnp.floating)
    wider = floating and h.dtype.itemsize > weights.itemsize
    if h.dtype != weights and not wider:
        raise ValueError(
            f"{name} is {h.dtype}, but must be {weights} like the parameters, or wider: "
            f"use {name}.astype({weights})."
        )


def check_input(name: str, params: Any, x: jax.Array, time_axes: int) -> None:
    """Refuses an input without its feature axis, or of a dtype other than the parameters'."""
    meaning = "(T, *batch, I)" if time_axes else "(*batch, I)"
    if x.ndim <= time_axes or x.shape[-1] != params.input_size:
        raise ValueError(
            f"{name} has shape {x.shape}, but must have {meaning} with I = {params.input_size}."
        )
    if x.dtype != params.w_x.dtype:
        raise ValueError(
            f"{name} is {x.dtype}, but must be {params.w_x.dtype} like the parameters: "
            f"use {name}.astype({params.w_x.dtype})."
        )


def as_array(name: str, value: ArrayLike) -> jax.Array:
    """Converts an argument, naming it where it is no array."""
    try:
        return jnp.asarray(value)
    except TypeError as error:
        raise ValueError(f"{name} is a {type(value).__name__}, but must be an array.") from error


def check_flags(
    name: str, flags: ArrayLike | None, shapes: set[tuple[int, ...]]
) -> jax.Array | None:
    """Refuses a mask or resets not of dtype bool, or not one flag per step and batch entry."""
    if flags is None:
        return None
    flags = as_array(name, flags)
    if flags.dtype != jnp.bool_:
        raise ValueError(f"{name} is {flags.dtype}, but must be bool: use {name} != 0.")
    if shapes != {flags.shape}:
        wanted = " and ".join(map(str, sorted(shapes)))
        raise ValueError(
            f"{name} has shape {flags.shape}, but must have {wanted} = (T, *batch): "
            "time leads, and nothing is broadcast."
        )
    return flags
