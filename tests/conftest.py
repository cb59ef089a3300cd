"""Test configuration: strict checks of JAX, quick compilation, and where the data is."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

_ROOT = Path(__file__).resolve().parents[1]

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Everything below is set in the environment as well, so that the processes which tests start, and
# pytest-xdist's workers, compile in the same way.

# Small networks run for less time than XLA needs to optimise them. `.ci/run` also tests the
# programs that users get.
_QUICK = os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") == "1"
jax.config.update("jax_disable_most_optimizations", _QUICK)

# XLA's older code generator, on one thread, compiles a small program four times faster.
_XLA_FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"


def _accepts(flags: str) -> bool:
    """Whether this version of XLA knows the flags: it ends the process where it does not."""
    done = subprocess.run(
        [sys.executable, "-c", "import jaxlib.xla_client; jaxlib.xla_client.CompileOptions()"],
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


_given = os.environ.get("XLA_FLAGS", "")
if _QUICK and _XLA_FLAGS not in _given and _accepts(_XLA_FLAGS):
    os.environ["XLA_FLAGS"] = f"{_XLA_FLAGS} {_given}".strip()

# Compiled programs are kept in a folder that all workers and later runs share; small ones too,
# which JAX would not keep by default.
_CACHE = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_ROOT / ".jax_cache"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
jax.config.update("jax_compilation_cache_dir", _CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# Threads of XLA on CPU, of which a machine of two cores would have two. Each warpgroup of a
# simulated GPU kernel blocks one, as do the kernel and the program that calls it.
os.environ.setdefault("NPROC", str(max(4, os.cpu_count() or 1)))

_SHARED_DATA = _ROOT.parent / "shared" / "data"
if _SHARED_DATA.is_dir():
    os.environ.setdefault("GRU_JAX_DATA", str(_SHARED_DATA))


@pytest.fixture(autouse=True)
def _platform_of_the_contract(request):
    """Runs a row of the contract as on its platform, backwards too."""
    if not request.node.path.name.startswith("test_contract"):
        yield
        return
    from contract import IMPLEMENTATIONS, on_platform

    given = getattr(request.node, "callspec", None)
    with on_platform(IMPLEMENTATIONS.get(given and given.params.get("name"))):
        yield


@pytest.fixture
def jax_defaults():
    """JAX's own promotion rules, which optax's code relies on."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
