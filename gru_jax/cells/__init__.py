"""Cells, each in a file of its own: equations, parameters, an initialiser and one step.

`unroll(step, params, h0, xs)` runs each over time, `gru_stack_unroll(stack, None, xs, step=step)`
in layers, and `zero_state(params)` is where each begins. Matrices act from the right, w_x
`[I, k H]` on the input and w_h `[H, k H]` on the state, for k gates.
"""

from typing import Any

from .gru import GRUParams
from .layer_norm_gru import LayerNormGRUParams
from .lstm import LSTMParams
from .mgu import MGUParams
from .min_gru import MinGRUParams
from .rnn import RNNParams

CELLS: tuple[type[Any], ...] = (
    GRUParams,
    RNNParams,
    LSTMParams,
    MGUParams,
    LayerNormGRUParams,
    MinGRUParams,
)
"""The parameter classes of all cells."""
