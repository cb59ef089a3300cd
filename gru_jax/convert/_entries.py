"""Validation of weights and parameters, and the order and signs of the gates."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._checks import check_option
from ..cells.gru import GRUParams
from ..stack.params import Bidirectional, GRUStack
from ._arrays import to_array
from ._formats import Format

_SHOWN = 10  # names in an error message


def read(what: str, entries: Mapping[str, Any], names: Sequence[str]) -> list[jax.Array]:
    """The entries with these names as new arrays of one dtype, in this order.

    Entries that are None count as absent. Tracers stay tracers.

    Args:
      what: the entries' owner, for error messages.
      entries: the weights by name.
      names: the names, each of which must be present, and no other.

    Raises:
      ValueError: a missing or unknown name, a value that is not a floating array, mixed dtypes.
    """
    present = {name for name, value in entries.items() if value is not None}
    missing, extra = sorted(set(names) - present), sorted(present - set(names), key=str)
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
    """A list of names for an error message, truncated to the first ten."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{list(names[:_SHOWN])}{more}"


def require(
    what: str, name: str, array: jax.Array, shape: tuple[int | None, ...], meaning: str
) -> None:
    """Raises `ValueError` for an array of another or an empty shape; None stands for any size."""
    fits = array.ndim == len(shape) and 0 not in array.shape
    if not fits or any(
        want not in (None, have) for want, have in zip(shape, array.shape, strict=False)
    ):
        wanted = str(tuple(shape)).replace("None", "any")
        raise ValueError(
            f"{what}: {name} has shape {array.shape}, but must have {wanted} = {meaning}."
        )


def hidden_size(what: str, name: str, array: jax.Array, axis: int) -> int:
    """H, inferred from a recurrent matrix whose gates are concatenated along `axis`."""
    hidden = array.shape[1 - axis] if array.ndim == 2 else 0
    if not hidden or array.shape[axis] != 3 * hidden:
        meaning = ("(3H, H)", "(H, 3H)")[axis]
        cells = {4: ", and has an LSTM's four gates", 1: ", and has a simple RNN's single gate"}
        found = cells.get(array.shape[axis] // hidden, "") if hidden else ""
        raise ValueError(f"{what}: {name} has shape {array.shape}, but must have {meaning}{found}.")
    return hidden


def gates(array: jax.Array) -> list[jax.Array]:
    """The three gate blocks along the last axis."""
    return jnp.split(array, 3, axis=-1)


def concatenate(*blocks: jax.Array) -> jax.Array:
    """Gate blocks, concatenated along the last axis."""
    return jnp.concatenate(blocks, axis=-1)


def from_rzn(array: jax.Array) -> jax.Array:
    """Gates r | z | n as z | r | n, with z negated."""
    r, z, n = gates(array)
    return concatenate(-z, r, n)


def to_rzn(array: jax.Array) -> jax.Array:
    """The inverse of `from_rzn`."""
    z, r, n = gates(array)
    return concatenate(r, -z, n)


def negated_z(array: jax.Array) -> jax.Array:
    """Gates z | r | n with z negated, because σ(−a) = 1 − σ(a); its own inverse."""
    z, r, n = gates(array)
    return concatenate(-z, r, n)


def checked(form: Format, params: Any, name: str = "params") -> GRUParams:
    """A validated copy of the parameters of one cell.

    A copy, so that donating the arrays made from it does not delete the caller's.

    Args:
      form: the format that must be able to represent them.
      params: the caller's parameters.
      name: of the argument, for error messages.

    Raises:
      ValueError: another class, a position of the reset gate or a bias that the format does not
        have, or arrays of the wrong shape or dtype.
    """
    if not isinstance(params, GRUParams):
        hints = {GRUStack: " Convert its layers one by one.", Bidirectional: " Convert its parts."}
        raise ValueError(
            f"{name}: {form.cell} is made from a GRUParams, not from a {type(params).__name__}."
            f"{hints.get(type(params), '')}"
        )
    check_option(f"{name}.reset", params.reset, ("before", "after"))
    if params.reset not in form.resets:
        raise ValueError(
            f'{name}.reset is "{params.reset}", but {form.cell} resets {form.resets[0]} the '
            "product. The two are different functions, and neither converts into the other."
        )
    fields = {field: getattr(params, field) for field in ("w_x", "w_h", "b", "b_hn")}
    names = [field for field, array in fields.items() if array is not None or field.startswith("w")]
    arrays = dict(zip(names, read(name, fields, names), strict=True))
    hidden = hidden_size(name, "w_h", arrays["w_h"], axis=1)
    require(name, "w_x", arrays["w_x"], (None, 3 * hidden), "(I, 3H)")
    if "b" in arrays:
        require(name, "b", arrays["b"], (3 * hidden,), "(3H,)")
    if "b_hn" in arrays:
        require(name, "b_hn", arrays["b_hn"], (hidden,), "(H,)")
        if params.reset == "before":
            raise ValueError(f'{name}.b_hn is an array, but reset="before" has no such bias.')
    for field in ("b", "b_hn"):
        if field not in form.biases:
            check_zero(f"{name}.{field}", arrays.get(field), form)
    return GRUParams(**arrays, reset=params.reset)


def check_zero(name: str, bias: jax.Array | None, form: Format) -> None:
    """Raises `ValueError` unless a bias that the format cannot store is None or zero."""
    if isinstance(bias, jax.core.Tracer):
        raise ValueError(
            f"{name} is traced and may not be zero, but {form.cell} has no such bias: "
            "convert outside jit and grad, or set it to None."
        )
    if bias is not None and jnp.any(bias):
        raise ValueError(f"{name} is not zero, but {form.cell} has no such bias: train without it.")


def zero_bias(params: GRUParams) -> jax.Array:
    """A bias `[3H]` of zeros, in the dtype of the parameters."""
    return jnp.zeros(3 * params.hidden_size, params.w_h.dtype)


def biases(params: GRUParams) -> tuple[jax.Array, jax.Array] | None:
    """The biases b `[3H]` and b_hn `[H]`, zeros for a missing one; None if both are missing."""
    if params.b is None and params.b_hn is None:
        return None
    zeros = zero_bias(params)
    b = zeros if params.b is None else params.b
    return b, zeros[: params.hidden_size] if params.b_hn is None else params.b_hn
