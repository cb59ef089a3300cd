"""Reading other frameworks' weights: every entry accounted for, every shape checked."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._params import GRUParams, Reset


def read(what: str, entries: Mapping[str, Any], names: Sequence[str]) -> list[jax.Array]:
    """The entries of these names as arrays, in this order; nothing else may be there.

    Entries that are None count as absent. A jax.Array, traced ones too, stays what it is.
    """
    there = {name for name, value in entries.items() if value is not None}
    missing, extra = sorted(set(names) - there), sorted(there - set(names))
    if missing or extra:
        problems = [f"lacks {missing}"] * bool(missing) + [f"has unknown {extra}"] * bool(extra)
        raise ValueError(f"{what} {' and '.join(problems)}, but must have {sorted(names)}.")
    return [as_jax(entries[name]) for name in names]


def as_jax(value: Any) -> jax.Array:
    """An array of any framework that NumPy can read."""
    return value if isinstance(value, jax.Array) else jnp.asarray(np.asarray(value))


def require(what: str, name: str, array: jax.Array, shape: tuple[int, ...], meaning: str) -> None:
    """Refuses an entry of another shape."""
    if array.shape != shape:
        raise ValueError(
            f"{what}: {name} has shape {array.shape}, but must have {shape} = {meaning}."
        )


def hidden_size(what: str, name: str, array: jax.Array, axis: int, gates: int = 3) -> int:
    """H, read off a matrix between the state `[H]` and the gates, which are along `axis`."""
    if array.ndim != 2 or array.shape[axis] != gates * array.shape[1 - axis]:
        meaning = (f"({gates}H, H)", f"(H, {gates}H)")[axis]
        raise ValueError(f"{what}: {name} has shape {array.shape}, but must have {meaning}.")
    return array.shape[1 - axis]


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a/b": 1}."""
    items: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            items |= flat(value, f"{prefix}{name}/")
        else:
            items[prefix + str(name)] = value
    return items


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


def reset_of(what: str, params: GRUParams, wanted: Reset | None) -> None:
    """Refuses parameters that the framework's cell cannot represent; None takes both resets."""
    if not isinstance(params, GRUParams):
        raise ValueError(f"{what} is made from a GRUParams, not from a {type(params).__name__}.")
    if wanted is not None and params.reset != wanted:
        raise ValueError(
            f'params.reset is "{params.reset}", but {what} resets {wanted} the product. '
            "The two are different functions, and neither converts into the other."
        )


def biases(params: GRUParams) -> tuple[jax.Array, jax.Array] | None:
    """The arrays b and b_hn of reset="after", zeros for a missing one, or None without any."""
    if params.b is None and params.b_hn is None:
        return None
    zeros = jnp.zeros(3 * params.hidden_size, params.w_h.dtype)
    b = zeros if params.b is None else params.b
    return b, zeros[: params.hidden_size] if params.b_hn is None else params.b_hn
