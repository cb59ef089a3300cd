"""What a user meets first: the import, the names, the examples."""

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
    "generate",
    "generate_step",
    "gru_stack_step",
    "gru_stack_unroll",
    "gru_step",
    "gru_unroll",
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


@pytest.mark.parametrize("name", sorted(NAMES))
def test_everything_is_documented_with_a_runnable_example(name):
    """The examples themselves are run as doctests."""
    public = getattr(gru_jax, name)
    assert public.__module__.startswith("gru_jax.")
    assert len(public.__doc__) > 100
    if not isinstance(public, type):
        assert ">>> " in public.__doc__


def test_import_loads_jax_and_nothing_else():
    code = "import sys, jax, jax.numpy; before = set(sys.modules); import gru_jax; " + (
        "print({name.split('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = eval(done.stdout)
    assert loaded <= {"gru_jax", "jax", "numpy", *sys.stdlib_module_names}, loaded


def test_import_changes_no_configuration():
    code = "import jax; a = dict(jax.config.values); import gru_jax; assert jax.config.values == a"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "function",
    [
        gru_jax.gru_step,
        gru_jax.gru_unroll,
        gru_jax.gru_stack_unroll,
        gru_jax.unroll,
        gru_jax.generate,
        gru_jax.readout,
    ],
)
def test_nothing_is_jitted_behind_the_callers_back(function):
    """The caller decides what is compiled with what."""
    assert not isinstance(function, type(jax.jit(lambda: 0)))
