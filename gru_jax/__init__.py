"""The GRU for JAX: pure functions over parameter pytrees."""

from . import _serialization
from . import convert as convert
from ._cell import gru_step as gru_step
from ._cells import MGUParams as MGUParams
from ._cells import RNNParams as RNNParams
from ._cells import init_mgu as init_mgu
from ._cells import init_rnn as init_rnn
from ._cells import mgu_step as mgu_step
from ._cells import rnn_step as rnn_step
from ._fast import gru_unroll as gru_unroll
from ._generate import generate as generate
from ._layer_norm_gru import LayerNormGRUParams as LayerNormGRUParams
from ._layer_norm_gru import init_layer_norm_gru as init_layer_norm_gru
from ._layer_norm_gru import layer_norm_gru_step as layer_norm_gru_step
from ._lstm import LSTMParams as LSTMParams
from ._lstm import LSTMState as LSTMState
from ._lstm import init_lstm as init_lstm
from ._lstm import lstm_step as lstm_step
from ._masks import sequence_mask as sequence_mask
from ._min_gru import MinGRUParams as MinGRUParams
from ._min_gru import init_min_gru as init_min_gru
from ._min_gru import min_gru_step as min_gru_step
from ._min_gru import min_gru_unroll as min_gru_unroll
from ._params import GRUParams as GRUParams
from ._params import init_gru as init_gru
from ._readout import ReadoutParams as ReadoutParams
from ._readout import generate_step as generate_step
from ._readout import init_readout as init_readout
from ._readout import readout as readout
from ._scan import unroll as unroll
from ._stack import gru_stack_step as gru_stack_step
from ._stack import gru_stack_unroll as gru_stack_unroll
from ._stack_params import Bidirectional as Bidirectional
from ._stack_params import GRUStack as GRUStack
from ._stack_params import init_gru_stack as init_gru_stack
from ._state import zero_state as zero_state

_serialization.register()
