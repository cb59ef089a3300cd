"""Reading other frameworks' weights: every entry accounted for, every shape checked."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._checks import check_option
from ..cells.gru import GRUParams, Reset
from ..stack.params import Bidirectional, GRUStack
from ._arrays import to_array

_SHOWN = 10  # names of a message


def read(what: str, entries: Mapping[str, Any], names: Sequence[str]) -> list[jax.Array]:
    """The entries of these names as new arrays of one dtype, in this order.

    Nothing else may be there; entries that are None count as absent. Tracers stay tracers.
    """
    there = {name for name, value in entries.items() if value is not None}
    missing, extra = sorted(set(names) - there), sorted(there - set(names), key=str)
    if missing or extra:
        problems = [f"lacks {missing}"] * bool(missing)
        problems += [f"has unknown {shortened(extra)}"] * bool(extra)
        raise ValueError(f"{what} {' and '.join(problems)}, but must have {sorted(names)}.")
    arrays = [to_array(f"{what}: {name}", entries[name]) for name in names]
    for name, array in zip(names, arrays, strict=True):
        if array.dtype != arrays[0].dtype:
            raise ValueError(
                f"{what}: {name} is {array.dtype}, but {names[0]} is {arrays[0].dtype}: "
                "cast the weights to one dtype."
            )
    return arrays


def shortened(names: Sequence[str]) -> str:
    """A list of names for a message, cut off where it is long."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{list(names[:_SHOWN])}{more}"


def require(
    what: str, name: str, array: jax.Array, shape: tuple[int | None, ...], meaning: str
) -> None:
    """Refuses an entry of another shape, or of an empty one; None stands for any size."""
    fits = array.ndim == len(shape) and 0 not in array.shape
    if not fits or any(
        want not in (None, have) for want, have in zip(shape, array.shape, strict=False)
    ):
        wanted = str(tuple(shape)).replace("None", "any")
        raise ValueError(
            f"{what}: {name} has shape {array.shape}, but must have {wanted} = {meaning}."
        )


def hidden_size(what: str, name: str, array: jax.Array, axis: int, gates: int = 3) -> int:
    """H, read off a matrix between the state `[H]` and the gates, which are along `axis`."""
    hidden = array.shape[1 - axis] if array.ndim == 2 else 0
    if not hidden or array.shape[axis] != gates * hidden:
        meaning = (f"({gates}H, H)", f"(H, {gates}H)")[axis]
        cells = {4: ", and has an LSTM's four gates", 1: ", and has a simple RNN's single gate"}
        found = cells.get(array.shape[axis] // hidden, "") if hidden else ""
        raise ValueError(f"{what}: {name} has shape {array.shape}, but must have {meaning}{found}.")
    return hidden


def gates(array: jax.Array) -> list[jax.Array]:
    """The three gate blocks along the last axis."""
    return jnp.split(array, 3, axis=-1)


def joined(*blocks: jax.Array) -> jax.Array:
    """Gate blocks, put together again along the last axis."""
    return jnp.concatenate(blocks, axis=-1)


def from_rzn(array: jax.Array) -> jax.Array:
    """Gates r | z | n as z | r | n, with z negated."""
    r, z, n = gates(array)
    return joined(-z, r, n)


def to_rzn(array: jax.Array) -> jax.Array:
    """The inverse of `from_rzn`."""
    z, r, n = gates(array)
    return joined(r, -z, n)


def negated_z(array: jax.Array) -> jax.Array:
    """Gates z | r | n with z negated, for σ(−a) = 1 − σ(a): its own inverse."""
    z, r, n = gates(array)
    return joined(-z, r, n)


def reset_of(what: str, params: Any, wanted: Reset | None, name: str = "params") -> None:
    """Refuses parameters that the framework's cell cannot represent; None takes both resets."""
    if not isinstance(params, GRUParams):
        parts = {GRUStack: " Convert its layers one by one.", Bidirectional: " Convert its parts."}
        raise ValueError(
            f"{name}: {what} is made from a GRUParams, not from a {type(params).__name__}."
            f"{parts.get(type(params), '')}"
        )
    if wanted is not None and params.reset != wanted:
        raise ValueError(
            f'{name}.reset is "{params.reset}", but {what} resets {wanted} the product. '
            "The two are different functions, and neither converts into the other."
        )


def checked(what: str, params: GRUParams, wanted: Reset | None, name: str = "params") -> GRUParams:
    """A copy of parameters that fit the framework and each other.

    Every array that is made of the copy can be donated without the user's own being deleted.
    """
    reset_of(what, params, wanted, name)
    check_option(f"{name}.reset", params.reset, ("before", "after"))
    arrays = {field: getattr(params, field) for field in ("w_x", "w_h", "b", "b_hn")}
    names = [field for field, array in arrays.items() if array is not None or "w" in field]
    copies = dict(zip(names, read(name, arrays, names), strict=True))
    hidden = hidden_size(name, "w_h", copies["w_h"], axis=1)
    require(name, "w_x", copies["w_x"], (None, 3 * hidden), "(I, 3H)")
    if "b" in copies:
        require(name, "b", copies["b"], (3 * hidden,), "(3H,)")
    if "b_hn" in copies:
        require(name, "b_hn", copies["b_hn"], (hidden,), "(H,)")
        if params.reset == "before":
            raise ValueError(f'{name}.b_hn is an array, but reset="before" has no such bias.')
    return GRUParams(**copies, reset=params.reset)


def check_zero(name: str, bias: jax.Array | None, reason: str) -> None:
    """Refuses a bias that the framework has no place for, unless it is known to be zero."""
    if isinstance(bias, jax.core.Tracer):
        raise ValueError(
            f"{name} is traced and may be other than zero, but {reason}: "
            "convert outside jit and grad, or set it to None."
        )
    if bias is not None and jnp.any(bias):
        raise ValueError(f"{name} is not zero, but {reason}.")


def zero_bias(params: GRUParams) -> jax.Array:
    """A bias `[3H]` of zeros."""
    return jnp.zeros(3 * params.hidden_size, params.w_h.dtype)


def biases(params: GRUParams) -> tuple[jax.Array, jax.Array] | None:
    """The arrays b and b_hn of reset="after", zeros for a missing one, or None without any."""
    if params.b is None and params.b_hn is None:
        return None
    zeros = zero_bias(params)
    b = zeros if params.b is None else params.b
    return b, zeros[: params.hidden_size] if params.b_hn is None else params.b_hn
