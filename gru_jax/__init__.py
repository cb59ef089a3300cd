"""The GRU for JAX: pure functions over parameter pytrees."""

from . import _serialization as _serialization
from . import convert as convert
from ._chunked_loss import chunked_loss
from ._generate import generate
from ._masks import sequence_mask
from ._readout import ReadoutParams, generate_step, init_readout, readout
from ._scan import unroll
from ._state import zero_state
from .cells.gru import GRUParams, gru_step, init_gru
from .cells.layer_norm_gru import LayerNormGRUParams, init_layer_norm_gru, layer_norm_gru_step
from .cells.lstm import LSTMParams, LSTMState, init_lstm, lstm_step
from .cells.mgu import MGUParams, init_mgu, mgu_step
from .cells.min_gru import MinGRUParams, init_min_gru, min_gru_step
from .cells.rnn import RNNParams, init_rnn, rnn_step
from .recurrence.gru import gru_unroll
from .recurrence.min_gru import min_gru_unroll
from .recurrence.parallel import Solution, gru_unroll_parallel
from .stack.params import Bidirectional, GRUStack, init_gru_stack
from .stack.unroll import gru_stack_step, gru_stack_unroll

__version__ = "0.1.0"

__all__ = (  # noqa: RUF022, by topic
    # the GRU
    "GRUParams",
    "init_gru",
    "gru_step",
    "gru_unroll",
    "gru_unroll_parallel",
    "Solution",
    "zero_state",
    # any cell over time
    "unroll",
    "chunked_loss",
    "sequence_mask",
    # layers and directions
    "GRUStack",
    "Bidirectional",
    "init_gru_stack",
    "gru_stack_step",
    "gru_stack_unroll",
    # outputs and sampling
    "ReadoutParams",
    "init_readout",
    "readout",
    "generate_step",
    "generate",
    # other cells
    "RNNParams",
    "init_rnn",
    "rnn_step",
    "LSTMParams",
    "LSTMState",
    "init_lstm",
    "lstm_step",
    "MGUParams",
    "init_mgu",
    "mgu_step",
    "LayerNormGRUParams",
    "init_layer_norm_gru",
    "layer_norm_gru_step",
    "MinGRUParams",
    "init_min_gru",
    "min_gru_step",
    "min_gru_unroll",
    # weights of other frameworks
    "convert",
)
