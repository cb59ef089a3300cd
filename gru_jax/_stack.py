"""Layers and directions: GRUs, or any other cells, on top of each other."""

from collections.abc import Sequence
from typing import Any, SupportsFloat

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ._cell import gru_step
from ._checks import (
    as_array,
    check_bool,
    check_callable,
    check_flags,
    check_key,
    check_option,
    check_rate,
)
from ._layer import Cell, Flags, Step, check_connected, connect, drop, expected, output, run_layer
from ._masks import resets_from_behind
from ._options import Save
from ._scan import prepare, restarted
from ._stack_params import Bidirectional, GRUStack, check_stack, per_layer, states_for
from ._state import dtype_of


def gru_stack_step(
    stack: GRUStack,
    hs: Sequence[Any] | None,
    x: ArrayLike,
    *,
    resets: ArrayLike | None = None,
    reset_state: Sequence[Any] | None = None,
    step: Step = gru_step,
    residual: bool = False,
    zoneout: SupportsFloat = 0.0,
) -> tuple[tuple[Any, ...], jax.Array]:
    """One step of every layer, for streams: as `gru_stack_unroll` without a key, step by step.

    Args:
      stack: the layers, none of them bidirectional.
      hs: the state of each layer; None, of all or of one layer, stands for zeros.
      x: the input `[..., I]`.
      resets: bool `[...]`; see `gru_step`.
      reset_state: what a reset puts in each layer, as in `gru_stack_unroll`.
      step: the cell.
      residual: see `gru_stack_unroll`.
      zoneout: see `gru_stack_unroll`.

    Returns:
      `(hs, y)`: the next states, and the last layer's output `[..., H]`.

    Raises:
      ValueError: a bidirectional layer, the wrong number of states, or what `step` refuses.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> stack = gru_jax.init_gru_stack(jax.random.key(0), 3, (5, 4))
    >>> hs = None
    >>> for x in jnp.ones((7, 3)):
    ...     hs, y = gru_jax.gru_stack_step(stack, hs, x)
    >>> [h.shape for h in hs], y.shape
    ([(5,), (4,)], (4,))
    """
    stack, x = check_stack(stack), as_array("x", x)
    if x.ndim < 1:
        raise ValueError(f"x has shape {x.shape}, but must have (*batch, I).")
    check_callable("step", step, "(params, h, x) -> h'")
    check_bool("residual", residual)
    zoneout = check_rate("zoneout", zoneout)
    resets = check_flags("resets", resets, {x.shape[:-1]}, "(*batch) of x")
    if any(isinstance(layer, Bidirectional) for layer in stack.layers):
        raise ValueError("stack has a bidirectional layer, which needs the whole sequence.")
    news, connected = [], not residual
    states = states_for("hs", stack, hs, x, time_axes=0)
    fresh = per_layer("reset_state", stack, reset_state)
    for i, params in enumerate(stack.layers):
        try:
            h = restarted(states[i], resets, fresh[i])
            new = expected(step, zoneout)(params, h, x.astype(dtype_of(params)) if i else x)
        except ValueError as error:
            error.add_note(f"This is layer {i} of the stack.")
            raise
        news.append(new)
        x, this = connect(residual, x, output(new))
        connected |= this
    check_connected(connected)
    return tuple(news), jnp.copy(x)  # y is not the buffer of a state, which may be donated


def gru_stack_unroll(
    stack: GRUStack,
    h0s: Sequence[Any] | None,
    xs: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reset_state: Sequence[Any] | None = None,
    step: Step = gru_step,
    residual: bool = False,
    dropout: SupportsFloat = 0.0,
    input_dropout: SupportsFloat = 0.0,
    recurrent_dropout: SupportsFloat = 0.0,
    zoneout: SupportsFloat = 0.0,
    key: jax.Array | None = None,
    save: Save = "gates",
) -> tuple[tuple[Any, ...], jax.Array]:
    """Runs a stack over a sequence, one layer after the other, each by `gru_unroll`.

    Every layer reads the outputs of the one below; a bidirectional one concatenates its forward
    and backward outputs, `[T, ..., 2H]`. Backwards, a row starts at its last unmasked step, and a
    reset at t separates t from t − 1 as it does forwards.

    The key decides what the noise does. With a key it is drawn, for training:

    - dropout: zeroes each input of the second and higher layers, anew at each step, and scales
      the rest by 1 / (1 − rate), as `torch.nn.GRU`;
    - input_dropout: the same for the inputs of every layer, but with one draw for all steps;
    - recurrent_dropout: the same for the state where it enters a layer's products, with one draw
      for all steps; it is copied whole. Both after Gal & Ghahramani 2016;
    - zoneout: lets each unit keep its old state, drawn anew at each step (Krueger et al. 2017).

    Without a key, for evaluation, dropouts do nothing and zoneout takes its expectation,
    h ← rate · h + (1 − rate) · h', for which each layer runs by `unroll`.

    Args:
      stack: the layers.
      h0s: the first state of each layer, `Bidirectional(forward, backward)` for one that runs both
        ways; None, of all or of one layer, stands for zeros.
      xs: the inputs `[T, ..., I]`. T may be 0.
      mask: bool `[T, ...]`; see `unroll`.
      resets: bool `[T, ...]`; see `unroll`.
      reset_state: what a reset puts in each layer, zeros by default: a sequence like `h0s`, of
        arrays `[H]` or `[..., H]`; see `unroll`.
      step: the cell. Any other than `gru_step` runs by `unroll`, without recurrent_dropout,
        zoneout and `save`. Of a state with several parts the first is the output.
      residual: whether layers whose inputs are as wide as their outputs put out the sum of both.
      dropout: a rate, see above; like all rates a Python number in [0, 1).
      input_dropout: a rate.
      recurrent_dropout: a rate.
      zoneout: a rate.
      key: the key is consumed; None evaluates.
      save: see `gru_unroll`.

    Returns:
      `(h_lasts, hs)`: the last state of each layer, shaped as `h0s`, and the last layer's outputs
      `[T, ..., H]` or `[T, ..., 2H]`, zero where masked.

    Raises:
      ValueError: the wrong number of states, a rate outside [0, 1), noise for a cell that does
        not take it, `residual` or `dropout` without layers it could be for, or what the cell
        refuses.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> stack = gru_jax.init_gru_stack(jax.random.key(0), 3, (5, 4), bidirectional=True)
    >>> xs = jnp.ones((7, 2, 3))
    >>> h_lasts, hs = gru_jax.gru_stack_unroll(stack, None, xs)
    >>> h_lasts[0].forward.shape, hs.shape
    ((2, 5), (7, 2, 8))
    """
    stack, xs = check_stack(stack), as_array("xs", xs)
    if xs.ndim < 2:
        raise ValueError(f"xs has shape {xs.shape}, but must have (T, *batch, I).")
    check_callable("step", step, "(params, h, x) -> h'")
    check_bool("residual", residual)
    check_option("save", save, ("gates", "states", "chunks"))
    dropout = check_rate("dropout", dropout)
    input_dropout = check_rate("input_dropout", input_dropout)
    recurrent_dropout = check_rate("recurrent_dropout", recurrent_dropout)
    zoneout = check_rate("zoneout", zoneout)
    if step is not gru_step and (recurrent_dropout or zoneout or save != "gates"):
        raise ValueError("recurrent_dropout, zoneout and save are for step=gru_step only.")
    if dropout and len(stack.layers) == 1:
        raise ValueError(
            f"dropout is {dropout}, but must be 0 with a single layer: it acts between layers. Use "
            "input_dropout or recurrent_dropout, or drop inputs and outputs yourself."
        )
    key = None if key is None else check_key("key", key)
    mask = check_flags("mask", mask, {xs.shape[:-1]})
    resets = check_flags("resets", resets, {xs.shape[:-1]})
    hs, mask, resets = prepare(xs, mask, resets)
    cell = Cell(step, recurrent_dropout, zoneout, save)
    h_lasts, connected = [], not residual
    states = states_for("h0s", stack, h0s, hs, time_axes=1)
    fresh = per_layer("reset_state", stack, reset_state)
    for i, (params, h0) in enumerate(zip(stack.layers, states, strict=True)):
        # outputs may be wider than the weights; the user's own inputs are left to the cell's check
        inputs, keys = hs.astype(dtype_of(params)) if i else hs, [key, key]
        if key is not None:
            each, whole, *keys = jax.random.split(jax.random.fold_in(key, i), 4)
            if dropout and i > 0:
                inputs *= drop(each, dropout, inputs.shape, inputs.dtype)
            if input_dropout:
                inputs *= drop(whole, input_dropout, inputs.shape[1:], inputs.dtype)[None]
        forth = Flags(mask, resets, fresh[i], reverse=False)
        try:
            if isinstance(params, Bidirectional):
                new = fresh[i] or Bidirectional(None, None)
                back = Flags(mask, _from_behind(mask, resets), new.backward, reverse=True)
                forth = forth._replace(reset_state=new.forward)
                there, left = run_layer(cell, params.forward, h0.forward, inputs, forth, keys[0])
                here, right = run_layer(cell, params.backward, h0.backward, inputs, back, keys[1])
                h_last, ys = Bidirectional(there, here), jnp.concatenate([left, right], axis=-1)
            else:
                h_last, ys = run_layer(cell, params, h0, inputs, forth, keys[0])
        except ValueError as error:
            error.add_note(f"This is layer {i} of the stack.")
            raise
        h_lasts.append(h_last)
        hs, this = connect(residual, hs, ys)
        connected |= this
    check_connected(connected)
    return tuple(h_lasts), hs


def _from_behind(mask: jax.Array | None, resets: jax.Array | None) -> jax.Array | None:
    return None if resets is None else resets_from_behind(mask, resets)
