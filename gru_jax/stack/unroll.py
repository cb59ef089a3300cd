"""Layers and directions: GRUs, or any other cells, on top of each other."""

from collections.abc import Sequence
from typing import Any, SupportsFloat

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._checks import (
    as_array,
    check_bool,
    check_callable,
    check_flags,
    check_key,
    check_option,
    check_rate,
)
from .._scan import prepare, restarted
from .._state import dtype_of
from ..cells.gru import gru_step
from ..recurrence import fast_path
from ..recurrence.options import SAVES, Program, Save, check_implementation
from .layer import Cell, Flags, Step, check_connected, connect, drop, expected, output, run_layer
from .params import Bidirectional, GRUStack, check_stack, per_layer, states_for


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
      hs: the state of each layer; None, for all or for one layer, means zeros.
      x: the input `[..., I]`.
      resets: bool `[...]`; see `gru_step`.
      reset_state: what a reset puts in each layer, as in `gru_stack_unroll`.
      step: the cell.
      residual: see `gru_stack_unroll`.
      zoneout: a rate in [0, 1), taken in expectation; see `gru_stack_unroll`.

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
    reset_states = per_layer("reset_state", stack, reset_state)
    for i, params in enumerate(stack.layers):
        try:
            h = restarted(states[i], resets, reset_states[i])
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
    implementation: Program | None = None,
) -> tuple[tuple[Any, ...], jax.Array]:
    """Runs a stack over a sequence, one layer after the other, each by `gru_unroll`.

    Every layer reads the outputs of the one below; a bidirectional one concatenates its forward
    and backward outputs, `[T, ..., 2H]`. Backwards, a row starts at its last unmasked step, and a
    reset at t separates t from t − 1 as it does forwards.

    With a key, for training, dropout and zoneout are drawn:

    - dropout: zeroes each input of the second and higher layers, anew at each step, and scales
      the rest by 1 / (1 − rate), as `torch.nn.GRU`;
    - input_dropout: the same for the inputs of every layer, but with one draw for all steps;
    - recurrent_dropout: the same for the state where it enters a layer's products, with one draw
      for all steps; it is copied whole. Both after Gal & Ghahramani 2016;
    - zoneout: lets each unit keep its old state, drawn anew at each step (Krueger et al. 2017).

    Without a key, for evaluation, nothing is dropped and zoneout takes its expectation,
    h ← rate · h + (1 − rate) · h'.

    Args:
      stack: the layers.
      h0s: the first state of each layer, `Bidirectional(forward, backward)` for one that runs both
        ways; None, for all or for one layer, means zeros.
      xs: the inputs `[T, ..., I]`. T may be 0.
      mask: bool `[T, ...]`; see `unroll`.
      resets: bool `[T, ...]`; see `unroll`.
      reset_state: what a reset puts in each layer, zeros by default: a sequence like `h0s`, of
        arrays `[H]` or `[..., H]`; see `unroll`.
      step: the cell. Layers of `gru_step` and `min_gru_step`, jitted or not, run as `gru_unroll`
        and `min_gru_unroll`, of any other step by `unroll`. Only `gru_step` takes
        recurrent_dropout, zoneout and `save`. Of a state with several parts the first is the
        output.
      residual: whether layers whose inputs are as wide as their outputs return the sum of both.
      dropout: a rate, like the other three a Python number in [0, 1).
      input_dropout: a rate in [0, 1).
      recurrent_dropout: a rate in [0, 1).
      zoneout: a rate in [0, 1).
      key: the key is consumed; None evaluates.
      save: see `gru_unroll`.
      implementation: see `gru_unroll`. Only `gru_step` has kernels: "pallas" is refused for others,
        rather than run by a loop.

    Returns:
      `(h_lasts, hs)`: the last state of each layer, shaped as `h0s`, and the last layer's outputs
      `[T, ..., H]` or `[T, ..., 2H]`, zero where masked.

    Raises:
      ValueError: the wrong number of states, a rate outside [0, 1), a regularisation or
        implementation that the cell does not take, `residual` or `dropout` without layers that
        they apply to, or what the cell refuses.

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
    check_option("save", save, SAVES)
    check_implementation(implementation)
    dropout = check_rate("dropout", dropout)
    input_dropout = check_rate("input_dropout", input_dropout)
    recurrent_dropout = check_rate("recurrent_dropout", recurrent_dropout)
    zoneout = check_rate("zoneout", zoneout)
    path = fast_path(step)
    regularised = path is not None and path.regularised
    if not regularised and (recurrent_dropout or zoneout or save != "gates"):
        raise ValueError("recurrent_dropout, zoneout and save are for step=gru_step only.")
    if implementation == "pallas" and not regularised:
        raise ValueError(
            'implementation is "pallas", but there are kernels for step=gru_step only: use None.'
        )
    if dropout and len(stack.layers) == 1:
        raise ValueError(
            f"dropout is {dropout}, but must be 0 with a single layer: it acts between layers. Use "
            "input_dropout or recurrent_dropout, or drop inputs and outputs yourself."
        )
    key = None if key is None else check_key("key", key)
    mask = check_flags("mask", mask, {xs.shape[:-1]})
    resets = check_flags("resets", resets, {xs.shape[:-1]})
    hs, mask, resets = prepare(xs, mask, resets)
    cell = Cell(step, recurrent_dropout, zoneout, save, implementation)
    h_lasts, connected = [], not residual
    states = states_for("h0s", stack, h0s, hs, time_axes=1)
    reset_states = per_layer("reset_state", stack, reset_state)
    for i, (params, h0) in enumerate(zip(stack.layers, states, strict=True)):
        # Outputs of a layer may be wider than the next weights; the cell checks the user's inputs.
        inputs, keys = hs.astype(dtype_of(params)) if i else hs, [None, None]
        if key is not None:
            each, whole, *keys = jax.random.split(jax.random.fold_in(key, i), 4)
            if dropout and i > 0:
                inputs *= drop(each, dropout, inputs.shape, inputs.dtype)
            if input_dropout:
                inputs *= drop(whole, input_dropout, inputs.shape[1:], inputs.dtype)[None]
        try:
            flags = Flags(mask, resets, reset_states[i])
            h_last, ys = run_layer(cell, params, h0, inputs, flags, keys)
        except ValueError as error:
            error.add_note(f"This is layer {i} of the stack.")
            raise
        h_lasts.append(h_last)
        hs, this = connect(residual, hs, ys)
        connected |= this
    check_connected(connected)
    return tuple(h_lasts), hs
