"""GRUStack: the parameters of layers and directions, and their states."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax

from ._checks import as_array
from ._params import init_gru, state_size, zero_state


class Bidirectional(NamedTuple):
    """Two of the same for a layer of a `GRUStack` that runs both ways: parameters, or states.

    Attributes:
      forward: of the direction from the first step to the last.
      backward: of the direction from each row's last unmasked step to the first.
    """

    forward: Any
    backward: Any

    @property
    def state_size(self) -> "Bidirectional":
        """The sizes of both directions' states."""
        return Bidirectional(state_size(self.forward), state_size(self.backward))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GRUStack:
    """Layers, from the input up; a pytree.

    Attributes:
      layers: a layer is a `GRUParams`, or `Bidirectional(forward, backward)` of two, or the
        parameters of any other cell.
    """

    layers: tuple[Any, ...]

    @property
    def state_size(self) -> tuple[Any, ...]:
        """The size of every layer's state."""
        return tuple(map(state_size, self.layers))


def init_gru_stack(
    key: jax.Array,
    input_size: int,
    hidden_sizes: Sequence[int],
    *,
    bidirectional: bool = False,
    init: Callable[..., Any] = init_gru,
    **options: Any,
) -> GRUStack:
    """Draws the layers of a stack.

    Args:
      key: the key is consumed.
      input_size: I.
      hidden_sizes: H of each layer, from the input up.
      bidirectional: whether every layer runs in both directions; the next one reads both states.
        A stack that mixes is made by hand: `GRUStack((Bidirectional(...), init_gru(...)))`.
      init: the initialiser of a cell, `(key, input_size, hidden_size, **options) -> params`.
      **options: passed on to `init`; for `init_gru` `reset`, `bias`, `dtype`, `preset`, ...

    Returns:
      A `GRUStack`.

    Raises:
      ValueError: no layer, or what `init` refuses.

    >>> import jax, gru_jax
    >>> stack = gru_jax.init_gru_stack(jax.random.key(0), 3, (5, 4), bidirectional=True)
    >>> stack.layers[1].backward.w_x.shape
    (10, 12)
    """
    if not hidden_sizes:
        raise ValueError("hidden_sizes is empty, but must have a size for each layer.")
    layers = []
    for layer_key, hidden_size in zip(
        jax.random.split(key, len(hidden_sizes)), hidden_sizes, strict=True
    ):
        if bidirectional:
            forward_key, backward_key = jax.random.split(layer_key)
            forward = init(forward_key, input_size, hidden_size, **options)
            backward = init(backward_key, input_size, hidden_size, **options)
            layers.append(Bidirectional(forward, backward))
        else:
            layers.append(init(layer_key, input_size, hidden_size, **options))
        input_size = hidden_size * (2 if bidirectional else 1)
    return GRUStack(tuple(layers))


def states_of(name: str, stack: GRUStack, hs: Any, batch_shape: tuple[int, ...]) -> list[Any]:
    """A state for each layer, zeros for None."""
    if hs is None:
        hs = [None] * len(stack.layers)
    if len(hs) != len(stack.layers):
        raise ValueError(
            f"{name} has {len(hs)} states, but must have {len(stack.layers)}, one for each layer."
        )
    states = []
    for i, (params, h) in enumerate(zip(stack.layers, hs, strict=True)):
        if h is None:
            h = zero_state(params, batch_shape)
        if isinstance(params, Bidirectional) != isinstance(h, Bidirectional):
            raise ValueError(
                f"{name}[{i}] is a {type(h).__name__}, but layer {i} is a {type(params).__name__}: "
                "a layer that runs both ways takes Bidirectional(forward, backward), no other does."
            )
        states.append(jax.tree.map(partial(as_array, f"{name}[{i}]"), h))
    return states
