"""The cells that experiments compare, of equal size."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import gru_jax

Name = Literal["rnn", "lstm", "gru"]


class Cell(NamedTuple):
    """One of the library's cells."""

    init: Callable[..., Any]
    step: Callable[..., Any]
    unroll: Callable[..., tuple[Any, Any]]
    gates: int


CELLS: Mapping[str, Cell] = {
    "rnn": Cell(gru_jax.init_rnn, gru_jax.rnn_step, partial(gru_jax.unroll, gru_jax.rnn_step), 1),
    "lstm": Cell(
        gru_jax.init_lstm, gru_jax.lstm_step, partial(gru_jax.unroll, gru_jax.lstm_step), 4
    ),
    "gru": Cell(gru_jax.init_gru, gru_jax.gru_step, gru_jax.gru_unroll, 3),
}


def size_of(cell: str, inputs: int, gru_size: int) -> int:
    """The hidden size with as many parameters as a GRU of `gru_size`, as nearly as can be."""
    gates = CELLS[cell].gates
    wanted = 3 * gru_size * (gru_size + inputs + 1)
    return min(range(1, 4 * gru_size), key=lambda h: abs(gates * h * (h + inputs + 1) - wanted))
