"""Test configuration: what a careful user switches on, and where the data lies."""

import os
from pathlib import Path

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

_SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
if _SHARED_DATA.is_dir():
    os.environ.setdefault("GRU_JAX_DATA", str(_SHARED_DATA))


@pytest.fixture
def jax_defaults():
    """JAX's own promotion rules, which optax's code relies on."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def quick_compilation():
    """For small networks, which run for less time than XLA needs to optimise them."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
