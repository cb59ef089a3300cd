"""Validation of a cell's parameters, states and inputs."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._checks import as_array, check_shape, kind
from .._state import state_size

Params = TypeVar("Params")


def check_params(
    params: Any, cls: type[Params], gates: int, vectors: Mapping[str, int], hint: str = ""
) -> Params:
    """The parameters of a cell as JAX arrays, checked against each other.

    Not done when a cell's parameters are made, because transformations and checkpoint libraries
    build pytrees whose leaves are no arrays.

    Args:
      params: what the user gave.
      cls: what it must be: a dataclass with w_x `[I, gates · H]`, and w_h `[H, gates · H]` unless
        the cell has no recurrent matrix.
      gates: the number of gates.
      vectors: the sizes of other entries, in H; each of them may be None.
      hint: appended where `params` is of another class.
    """
    if not isinstance(params, cls):
        raise ValueError(f"params is {kind(params)}, but must be a {cls.__name__}{hint}.")
    arrays = {
        field.name: as_array(f"params.{field.name}", getattr(params, field.name))
        for field in dataclasses.fields(params)  # type: ignore[arg-type]
        if not field.metadata.get("static") and getattr(params, field.name) is not None
    }
    names = [field.name for field in dataclasses.fields(params)]  # type: ignore[arg-type]
    first = "w_h" if "w_h" in names else "w_x"
    for name in {"w_x", first}:
        if name not in arrays or arrays[name].ndim != 2:
            found = f"has shape {arrays[name].shape}" if name in arrays else "is None"
            raise ValueError(f"params.{name} {found}, but must be a matrix: use jax.vmap for more.")
    matrix = arrays[first]
    hidden = matrix.shape[0] if first == "w_h" else matrix.shape[1] // gates
    width = gates * hidden
    if matrix.shape[1] != width:
        meaning = ("I", "H")[first == "w_h"]
        raise ValueError(
            f"params.{first} has shape {matrix.shape}, but must have ({meaning}, {_times(gates)})."
        )
    if arrays["w_x"].shape[1] != width:
        raise ValueError(
            f"params.w_x has shape {arrays['w_x'].shape}, but must have (I, {width}) = "
            f"(I, {_times(gates)})."
        )
    for name, array in arrays.items():
        if name in vectors:
            n = vectors[name]
            check_shape(f"params.{name}", array, (n * hidden,), f"({_times(n)},)")
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"params.{name} is {array.dtype}, but must be a floating dtype.")
        if array.dtype != matrix.dtype:
            raise ValueError(
                f"params.{name} is {array.dtype}, but params.{first} is {matrix.dtype}: "
                "cast the parameters to one dtype."
            )
    if hidden < 1 or arrays["w_x"].shape[0] < 1:
        raise ValueError(f"params.w_x has shape {arrays['w_x'].shape}, but sizes are at least 1.")
    return dataclasses.replace(params, **arrays)  # type: ignore[type-var]


def check_state(name: str, params: Any, h: jax.Array, batch_shape: tuple[Any, ...]) -> None:
    """Raises `ValueError` for a state of the wrong shape, or too narrow a dtype to carry."""
    check_shape(name, h, (*batch_shape, params.hidden_size), "(*batch, H)")
    weights = params.w_x.dtype
    wider = jnp.issubdtype(h.dtype, jnp.floating) and h.dtype.itemsize > weights.itemsize
    if h.dtype != weights and not wider:
        raise ValueError(
            f"{name} is {h.dtype}, but must be {weights} like the parameters, or wider: "
            f"use {name}.astype({weights})."
        )


def check_input(name: str, params: Any, x: jax.Array, time_axes: int) -> None:
    """Raises `ValueError` for an input without its features, or not in the parameters' dtype."""
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


def check_states(name: str, params: Any, h: Any, batch_shape: tuple[Any, ...]) -> None:
    """`check_state` for every part of a state, which must be a pytree like the cell's."""
    structure: Any = jax.tree.structure(state_size(params))
    if structure != jax.tree.structure(h):
        raise ValueError(f"{name} is {kind(h)}, but must be a state like {structure}.")
    for leaf in jax.tree.leaves(h):
        check_state(name, params, leaf, batch_shape)


def check_step(params: Any, h: ArrayLike, x: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """The state and the input of a step as arrays, checked against the parameters."""
    h, x = as_array("h", h), as_array("x", x)
    check_input("x", params, x, time_axes=0)
    check_state("h", params, h, x.shape[:-1])
    return h, x


def _times(n: int) -> str:
    return f"{n}H" if n > 1 else "H"
