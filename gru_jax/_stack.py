"""Layers and directions: GRUs, or any other cells, on top of each other."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ._cell import gru_step
from ._checks import as_array, check_flags, check_rate
from ._fast import Save
from ._layer import (
    Step,
    check_connected,
    connect,
    drop,
    dtype_of,
    expected,
    output,
    run_layer,
)
from ._scan import prepare, resets_from_behind
from ._stack_params import Bidirectional, GRUStack, states_of


def gru_stack_step(
    stack: GRUStack,
    hs: Sequence[Any] | None,
    x: ArrayLike,
    *,
    step: Step = gru_step,
    residual: bool = False,
    zoneout: float = 0.0,
) -> tuple[tuple[Any, ...], jax.Array]:
    """One step of every layer, for streams: as `gru_stack_unroll` without a key, step by step.

    Args:
      stack: the layers, none of them bidirectional.
      hs: the state of each layer; None, of all or of one layer, stands for zeros.
      x: the input `[..., I]`.
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
    x = as_array("x", x)
    check_rate("zoneout", zoneout)
    if any(isinstance(layer, Bidirectional) for layer in stack.layers):
        raise ValueError("stack has a bidirectional layer, which needs the whole sequence.")
    news, connected = [], not residual
    states = states_of("hs", stack, hs, x.shape[:-1])
    for i, (params, h) in enumerate(zip(stack.layers, states, strict=True)):
        new = expected(step, zoneout)(params, h, x.astype(dtype_of(params)) if i else x)
        news.append(new)
        x, this = connect(residual, x, output(new))
        connected |= this
    check_connected(connected)
    return tuple(news), x


def gru_stack_unroll(
    stack: GRUStack,
    h0s: Sequence[Any] | None,
    xs: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    step: Step = gru_step,
    residual: bool = False,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    zoneout: float = 0.0,
    key: jax.Array | None = None,
    save: Save = "gates",
) -> tuple[tuple[Any, ...], jax.Array]:
    """Runs a stack over a sequence, one layer after the other, each by `gru_unroll`.

    Every layer reads the outputs of the one below; a bidirectional one puts out its two states
    side by side, `[T, ..., 2H]`. Backwards, a row starts at its last unmasked step, and a reset at
    t separates t from t − 1 as it does forwards.

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
      step: the cell. Any other than `gru_step` runs by `unroll`, without recurrent_dropout and
        zoneout. Of a state with several parts the first is the output.
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
        not take it, `residual` without layers it could be for, or what the cell refuses.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> stack = gru_jax.init_gru_stack(jax.random.key(0), 3, (5, 4), bidirectional=True)
    >>> xs = jnp.ones((7, 2, 3))
    >>> h_lasts, hs = gru_jax.gru_stack_unroll(stack, None, xs)
    >>> h_lasts[0].forward.shape, hs.shape
    ((2, 5), (7, 2, 8))
    """
    xs = as_array("xs", xs)
    for name, rate in (
        ("dropout", dropout),
        ("input_dropout", input_dropout),
        ("recurrent_dropout", recurrent_dropout),
        ("zoneout", zoneout),
    ):
        check_rate(name, rate)
    if step is not gru_step and (recurrent_dropout or zoneout):
        raise ValueError("recurrent_dropout and zoneout are for step=gru_step only.")
    mask = check_flags("mask", mask, {xs.shape[:-1]})
    resets = check_flags("resets", resets, {xs.shape[:-1]})
    hs, mask, resets = prepare(xs, mask, resets)
    run = partial(run_layer, step, mask, recurrent_dropout, zoneout, save)
    h_lasts, connected = [], not residual
    states = states_of("h0s", stack, h0s, hs.shape[1:-1])
    for i, (params, h0) in enumerate(zip(stack.layers, states, strict=True)):
        # outputs may be wider than the weights; the user's own inputs are left to the cell's check
        inputs, keys = hs.astype(dtype_of(params)) if i else hs, [key, key]
        if key is not None:
            each, whole, *keys = jax.random.split(jax.random.fold_in(key, i), 4)
            if dropout and i > 0:
                inputs *= drop(each, dropout, inputs.shape, inputs.dtype)
            if input_dropout:
                inputs *= drop(whole, input_dropout, inputs.shape[1:], inputs.dtype)[None]
        try:
            if isinstance(params, Bidirectional):
                back = None if resets is None else resets_from_behind(mask, resets)
                there, left = run(params.forward, h0.forward, inputs, resets, False, keys[0])
                here, right = run(params.backward, h0.backward, inputs, back, True, keys[1])
                h_last, ys = Bidirectional(there, here), jnp.concatenate([left, right], axis=-1)
            else:
                h_last, ys = run(params, h0, inputs, resets, False, keys[0])
        except ValueError as error:
            error.add_note(f"This is layer {i} of the stack.")
            raise
        h_lasts.append(h_last)
        hs, this = connect(residual, hs, ys)
        connected |= this
    check_connected(connected)
    return tuple(h_lasts), hs
