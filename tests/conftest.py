"""Test configuration: what a careful user switches on, and where the data lies."""

import os
from pathlib import Path

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Small networks run for less time than XLA needs to optimise them. Through the environment, so that
# the processes which tests start compile alike; `.ci/run` also tests what users compile.
_QUICK = os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
jax.config.update("jax_disable_most_optimizations", _QUICK == "1")

_SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
if _SHARED_DATA.is_dir():
    os.environ.setdefault("GRU_JAX_DATA", str(_SHARED_DATA))


@pytest.fixture
def jax_defaults():
    """JAX's own promotion rules, which optax's code relies on."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
