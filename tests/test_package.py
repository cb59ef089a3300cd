"""The package: public names, their examples, and what an import does."""

import subprocess
import sys
from types import ModuleType

import jax
import pytest

import gru_jax

NAMES = {
    "Bidirectional",
    "GRUParams",
    "GRUStack",
    "LSTMParams",
    "LSTMState",
    "LayerNormGRUParams",
    "MGUParams",
    "MinGRUParams",
    "RNNParams",
    "ReadoutParams",
    "Solution",
    "chunked_loss",
    "generate",
    "generate_step",
    "gru_stack_step",
    "gru_stack_unroll",
    "gru_step",
    "gru_unroll",
    "gru_unroll_parallel",
    "init_gru",
    "init_gru_stack",
    "init_layer_norm_gru",
    "init_lstm",
    "init_mgu",
    "init_min_gru",
    "init_readout",
    "init_rnn",
    "layer_norm_gru_step",
    "lstm_step",
    "mgu_step",
    "min_gru_step",
    "min_gru_unroll",
    "readout",
    "rnn_step",
    "sequence_mask",
    "unroll",
    "zero_state",
}


def test_public_names():
    public = {
        name
        for name, value in vars(gru_jax).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public == NAMES
    assert isinstance(gru_jax.convert, ModuleType)
    assert set(gru_jax.__all__) == NAMES | {"convert"}


PROGRAM = """
import importlib, sys
import jax, jax.numpy
configuration, before = dict(jax.config.values), set(sys.modules)
import gru_jax
assert jax.config.values == configuration
loaded = {name.split(".")[0] for name in set(sys.modules) - before}
assert loaded <= {"gru_jax", "jax", "numpy", *sys.stdlib_module_names}, loaded

importlib.reload(gru_jax)  # as a notebook does
for name in [name for name in sys.modules if name.startswith("gru_jax")]:
    del sys.modules[name]
import gru_jax
"""


def test_import():
    """It loads nothing but JAX, changes no configuration, and can be repeated."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "function",
    [
        gru_jax.gru_step,
        gru_jax.gru_unroll,
        gru_jax.gru_stack_unroll,
        gru_jax.unroll,
        gru_jax.chunked_loss,
        gru_jax.generate,
        gru_jax.readout,
    ],
)
def test_public_functions_are_not_jitted(function):
    """The caller decides what is compiled with what."""
    assert not isinstance(function, type(jax.jit(lambda: 0)))
