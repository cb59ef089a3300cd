"""Argument validation: every refusal names the argument, what it was and what it should be."""

import operator
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike


def kind(value: object) -> str:
    """What a value is, for messages: "None", "a str", "a traced float32 []"."""
    if value is None:
        return "None"
    if isinstance(value, jax.core.Tracer):
        return f"a traced {value.dtype}{list(value.shape)}"
    return f"a {type(value).__name__}"


def check_size(name: str, size: Any, least: int = 1) -> int:
    """The size as a Python integer; raises `ValueError` if it is not one, or below `least`."""
    try:
        if isinstance(size, bool | np.bool_):
            raise TypeError
        size = operator.index(size)
    except TypeError:
        raise ValueError(f"{name} is {kind(size)}, but must be a Python integer.") from None
    if size < least:
        raise ValueError(f"{name} is {size}, but must be at least {least}.")
    return int(size)


def check_sizes(name: str, sizes: Any, example: str) -> tuple[int, ...]:
    """A sequence of sizes as Python integers; symbolic dimensions of `jax.export` stay."""
    if isinstance(sizes, str) or not isinstance(sizes, Sequence | np.ndarray):
        raise ValueError(f"{name} is {kind(sizes)}, but must be a sequence of sizes, {example}.")
    return tuple(
        size if is_symbolic(size) else check_size(f"{name}[{i}]", size, least=0)
        for i, size in enumerate(sizes)
    )


def is_symbolic(size: Any) -> bool:
    """Whether a size is a dimension variable of `jax.export`, known only when the export runs."""
    return not isinstance(size, int | np.integer) and jax.export.is_symbolic_dim(size)


def check_bool(name: str, value: object) -> None:
    """Raises `ValueError` if the value is not a Python bool."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} is {_value(value)}, but must be True or False.")


def check_option(name: str, value: object, known: Sequence[str]) -> None:
    """Raises `ValueError` for an unknown option."""
    if not isinstance(value, str) or value not in known:
        options = ", ".join(map(repr, known))
        raise ValueError(f"{name} is {_value(value)}, but must be one of {options}.")


def check_rate(name: str, rate: object) -> float:
    """The rate as a Python number; raises `ValueError` if it is not in [0, 1)."""
    number = python_number(rate)
    if number is None or not 0 <= number < 1:
        raise ValueError(f"{name} is {_value(rate)}, but must be a Python number in [0, 1).")
    return number


def python_number(value: object) -> float | None:
    """A real scalar that is known at trace time as a Python float, otherwise None."""
    if isinstance(value, bool | np.bool_ | str | jax.core.Tracer):
        return None
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return None
    real = jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)
    return float(array) if real and array.ndim == 0 else None


def check_callable(name: str, value: object, signature: str) -> None:
    """Raises `ValueError` if the value cannot be called."""
    if not callable(value):
        raise ValueError(f"{name} is {kind(value)}, but must be a function {signature}.")


def check_floating(name: str, dtype: DTypeLike) -> None:
    """Raises `ValueError` for a dtype that is not real floating-point."""
    try:
        if dtype is None or isinstance(dtype, jax.Array | np.ndarray):
            raise TypeError
        found: Any = jnp.dtype(dtype)
    except TypeError:
        found = kind(dtype)
    if not isinstance(found, np.dtype) or not jnp.issubdtype(found, jnp.floating):
        raise ValueError(f"{name} is {found}, but must be a floating dtype.")


def check_key(name: str, key: Any) -> jax.Array:
    """A single random key, typed (`jax.random.key`) or raw (`jax.random.PRNGKey`)."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    raw = dtype == jnp.uint32 and isinstance(key, jax.Array | np.ndarray)
    if not typed and not raw:
        raise ValueError(f"{name} is {kind(key)}, but must be a key: use jax.random.key(seed).")
    if len(shape or ()) != int(raw):
        raise ValueError(
            f"{name} has shape {shape}, but must be a single key: use jax.vmap over several."
        )
    result: jax.Array = jnp.asarray(key) if raw else key
    try:
        if raw:
            jax.random.wrap_key_data(result)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} has shape {shape}, but must be a key of JAX's default implementation: "
            "use jax.random.key(seed)."
        ) from error
    return result


def check_shape(name: str, array: jax.Array, shape: tuple[Any, ...], meaning: str) -> None:
    """Raises `ValueError` for an array of another shape."""
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, but must have {shape} = {meaning}.")


def as_array(name: str, value: ArrayLike | Sequence[Any]) -> jax.Array:
    """Converts an argument, naming it where it is no array of numbers or keys."""
    if isinstance(value, jax.Array) and getattr(value, "weak_type", None) is False:
        return value  # as `jnp.asarray` would, which takes longer than all the rest
    try:
        if value is None or any(isinstance(x, str | bytes) for x in jax.tree.leaves(value)):
            raise TypeError
        return jnp.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} is {kind(value)}, but must be an array.") from error


def check_time_axis(name: str, tree: Any) -> tuple[Any, Any]:
    """A pytree of arrays `[T, ...]`, and T; raises `ValueError` for other leading axes."""
    tree = jax.tree.map(partial(as_array, name), tree)
    lengths = {leaf.shape[:1] for leaf in jax.tree.leaves(tree)}
    if len(lengths) != 1 or () in lengths:
        raise ValueError(
            f"{name} has leading axes {sorted(lengths, key=str)}, but must have one time axis T "
            "common to all."
        )
    ((length,),) = lengths
    return tree, length


def check_flags(
    name: str,
    flags: ArrayLike | None,
    shapes: set[tuple[Any, ...]],
    meaning: str = "(T, *batch) of xs and h0",
) -> jax.Array | None:
    """Flags as an array; raises `ValueError` if not bool, or not one per step and batch entry."""
    if flags is None:
        return None
    flags = as_array(name, flags)
    if flags.dtype != jnp.bool_:
        lengths = ", or sequence_mask(lengths, T) for lengths" if name == "mask" else ""
        raise ValueError(f"{name} is {flags.dtype}, but must be bool: use {name} != 0{lengths}.")
    if shapes != {flags.shape}:
        wanted = " and ".join(map(str, shapes))
        time = "time leads, and " if meaning.startswith("(T") else ""
        raise ValueError(
            f"{name} has shape {flags.shape}, but must have {wanted} = {meaning}: "
            f"{time}nothing is broadcast."
        )
    return flags


def _value(value: object) -> str:
    plain = isinstance(value, str | int | float | np.bool_ | np.number)
    return repr(value) if plain else kind(value)
