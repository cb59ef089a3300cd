"""GRUStack: the parameters of layers and directions, and their states."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import as_array, check_bool, check_callable, check_key, check_size, kind
from .._state import state_size, zeros_for
from ..cells.gru import init_gru


class Bidirectional(NamedTuple):
    """The two directions of a layer of a `GRUStack`: their parameters, or their states.

    Attributes:
      forward: of the direction from the first step to the last.
      backward: of the direction from each row's last unmasked step to the first.

    >>> import jax, gru_jax
    >>> forward_key, backward_key = jax.random.split(jax.random.key(0))
    >>> forward = gru_jax.init_gru(forward_key, 3, 5)
    >>> backward = gru_jax.init_gru(backward_key, 3, 4)
    >>> layer = gru_jax.Bidirectional(forward, backward)
    >>> [h.shape for h in gru_jax.zero_state(layer, (2,))]
    [(2, 5), (2, 4)]
    """

    forward: Any
    backward: Any

    @property
    def state_size(self) -> "Bidirectional":
        """The sizes of both directions' states."""
        return Bidirectional(state_size(self.forward), state_size(self.backward))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class GRUStack:
    """The parameters of layers on top of each other, a pytree.

    Attributes:
      layers: the layers' parameters, from the input up: a layer is a `GRUParams`, the parameters of
        another cell, or a `Bidirectional` of two of them.

    >>> import jax, gru_jax
    >>> keys = jax.random.split(jax.random.key(0))
    >>> stack = gru_jax.GRUStack((gru_jax.init_gru(keys[0], 3, 5), gru_jax.init_gru(keys[1], 5, 4)))
    >>> [h.shape for h in gru_jax.zero_state(stack, (2,))]
    [(2, 5), (2, 4)]
    """

    layers: tuple[Any, ...]

    @property
    def state_size(self) -> tuple[Any, ...]:
        """The size of every layer's state."""
        return tuple(map(state_size, self.layers))


def init_gru_stack(
    key: jax.Array,
    input_size: SupportsIndex,
    hidden_sizes: Sequence[SupportsIndex] | np.ndarray,
    *,
    bidirectional: bool = False,
    init: Callable[..., Any] = init_gru,
    **options: Any,
) -> GRUStack:
    """Draws the layers of a stack.

    Args:
      key: the key is consumed.
      input_size: I, the number of features of one input `[..., I]`.
      hidden_sizes: H of each layer, from the input up, such as `(64,) * num_layers`.
      bidirectional: whether every layer runs in both directions; the next one reads both states.
        A stack that mixes is made by hand: `GRUStack((Bidirectional(...), init_gru(...)))`.
      init: the initialiser of a cell, `(key, input_size, hidden_size, **options) -> params`.
      **options: passed on to `init`; for `init_gru` `reset`, `bias`, `dtype`, `preset`, ...

    Returns:
      A `GRUStack`.

    Raises:
      ValueError: no layer, sizes that are no sequence, or what `init` refuses.

    >>> import jax, gru_jax
    >>> stack = gru_jax.init_gru_stack(jax.random.key(0), 3, (5, 4), bidirectional=True)
    >>> stack.layers[1].backward.w_x.shape
    (10, 12)
    """
    key = check_key("key", key)
    input_size = check_size("input_size", input_size)
    check_bool("bidirectional", bidirectional)
    check_callable("init", init, "(key, input_size, hidden_size, **options) -> params")
    try:
        given: Any = hidden_sizes
        is_sequence = np.ndim(given) == 1
    except ValueError:  # ragged
        is_sequence = False
    if not is_sequence:
        raise ValueError(
            f"hidden_sizes is {hidden_sizes!r}, but must be a sequence with a size for each layer, "
            "such as (64,), or (64,) * num_layers."
        )
    sizes = [check_size(f"hidden_sizes[{i}]", size) for i, size in enumerate(hidden_sizes)]
    if not sizes:
        raise ValueError("hidden_sizes is empty, but must have a size for each layer.")
    layers = []
    for layer_key, hidden_size in zip(jax.random.split(key, len(sizes)), sizes, strict=True):
        if bidirectional:
            forward_key, backward_key = jax.random.split(layer_key)
            forward = init(forward_key, input_size, hidden_size, **options)
            backward = init(backward_key, input_size, hidden_size, **options)
            layers.append(Bidirectional(forward, backward))
        else:
            layers.append(init(layer_key, input_size, hidden_size, **options))
        input_size = hidden_size * (2 if bidirectional else 1)
    return check_stack(GRUStack(tuple(layers)))


def check_stack(stack: Any) -> GRUStack:
    """The stack, NumPy's arrays as JAX's."""
    if not isinstance(stack, GRUStack):
        hint = "; one layer runs by gru_unroll, or as GRUStack((params,))"
        raise ValueError(f"stack is {kind(stack)}, but must be a GRUStack{hint}.")
    if not isinstance(stack.layers, tuple | list) or not stack.layers:
        raise ValueError(f"stack.layers is {stack.layers!r}, but must be a tuple of layers.")
    for i, layer in enumerate(stack.layers):
        leaves = jax.tree.leaves(layer)
        if not any(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves):
            raise ValueError(f"stack.layers[{i}] is {kind(layer)}, but must be parameters.")
    result: GRUStack = jax.tree.map(
        lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, stack
    )
    return result


def states_for(name: str, stack: GRUStack, hs: Any, x: jax.Array, time_axes: int) -> list[Any]:
    """A state for each layer, zeros for None, for inputs `[..., I]` or `[T, ..., I]`."""
    states = per_layer(name, stack, hs)
    for i, (params, h) in enumerate(zip(stack.layers, states, strict=True)):
        if h is None:
            states[i] = zeros_for(params, x, time_axes)
        elif isinstance(h, Bidirectional):
            zeros = zeros_for(params, x, time_axes)
            states[i] = Bidirectional(
                zeros.forward if h.forward is None else h.forward,
                zeros.backward if h.backward is None else h.backward,
            )
        states[i] = jax.tree.map(partial(as_array, f"{name}[{i}]"), states[i])
    return states


def per_layer(name: str, stack: GRUStack, values: Any) -> list[Any]:
    """States, or None, as a list with one for each layer."""
    if values is None:
        return [None] * len(stack.layers)
    if not isinstance(values, tuple | list) or isinstance(values, Bidirectional):
        raise ValueError(f"{name} is {kind(values)}, but must be a tuple with one for each layer.")
    if len(values) != len(stack.layers):
        raise ValueError(
            f"{name} has {len(values)} states, but must have {len(stack.layers)}, one for each "
            "layer."
        )
    for i, (params, value) in enumerate(zip(stack.layers, values, strict=True)):
        both = isinstance(params, Bidirectional)
        if value is not None and both != isinstance(value, Bidirectional):
            raise ValueError(
                f"{name}[{i}] is {kind(value)}, but layer {i} is {kind(params)}: "
                "a layer that runs both ways takes Bidirectional(forward, backward), no other does."
            )
    return list(values)
