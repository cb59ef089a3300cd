"""The GRU for JAX: pure functions over parameter pytrees."""

from ._cell import gru_step as gru_step
from ._fast import gru_unroll as gru_unroll
from ._params import GRUParams as GRUParams
from ._params import init_gru as init_gru
from ._params import zero_state as zero_state
from ._readout import ReadoutParams as ReadoutParams
from ._readout import generate as generate
from ._readout import generate_step as generate_step
from ._readout import init_readout as init_readout
from ._readout import readout as readout
from ._scan import sequence_mask as sequence_mask
from ._scan import unroll as unroll
