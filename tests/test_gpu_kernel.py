"""What is particular to the kernels for NVIDIA GPUs: warpgroups, tiles and dtypes.

`test_kernels.py` and the contract run over them, too; `test_gpu_compiled.py` compiles them.
"""

from unittest import mock

import gpu_simulator
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import assert_close
from jax.experimental.pallas import mosaic_gpu as plgpu
from test_kernels import by, flags, gradients, lowered, problem

from gru_jax.recurrence import gpu, gpu_block

RESETS = pytest.mark.parametrize("reset", ["before", "after"])
SIZES = {"steps": 3, "rows": 9, "hidden": 70}  # two warpgroups, two blocks of rows, none full


def simulated(arguments, **keywords):
    """Gradients by the kernels and by the scan, with all flags."""
    return by(gpu_simulator.IMPLEMENTATION, gradients, *arguments, **keywords)


@gpu_simulator.needs_jax
@RESETS
def test_several_warpgroups_and_blocks(reset):
    keywords = flags("mask", "resets", "state_scale", **SIZES)
    actual, expected = simulated(problem(reset, **SIZES), **keywords)
    assert_close(actual, expected, rtol=2e-5, atol=5e-5)  # sums over 27 rows and steps


@gpu_simulator.needs_jax
def test_bfloat16():
    params, h0, xs = problem("after", dtype=jnp.bfloat16)
    keywords = flags("unit_mask")
    actual, expected = simulated((params, h0.astype(jnp.bfloat16), xs), **keywords)
    # The scan rounds every gate to the 8 bits of bfloat16, the kernel only what it returns.
    assert_close(actual, expected, rtol=6e-2, atol=6e-2)


def read(block, *sums):
    """As `Block.products`, but what is read of shared memory is seen by the race detector."""
    first = 3 * jax.lax.axis_index("warpgroup")
    return tuple(
        sum(block.weights[first + gate] @ block.operands[operand].T for gate, operand in terms)
        for terms in sums
    )


def publish_late(block, parts):
    """As `Block.publish`, but others are told before it is done."""
    plgpu.barrier_arrive(block.barrier)
    for operand, part in parts:
        block.operands.at[operand, :, block._units()].T[...] = part


@gpu_simulator.needs_jax
@pytest.mark.parametrize(
    ("reset", "sizes"),
    [
        ("after", {}),
        ("after", {"SHARED_MEMORY": (3 * 128 + 3 * 8) * 128 * 4}),
        ("before", {}),
        ("before", {"PROCESSORS": 1}),
    ],
    ids=["after", "after, operands of one step only", "before", "before, 16 rows in a block"],
)
def test_no_race(reset, sizes, monkeypatch):
    monkeypatch.setattr(gpu_block.Block, "products", read)
    for name, size in sizes.items():
        monkeypatch.setattr(gpu_block, name, size)
    actual, expected = simulated(problem(reset, **SIZES), **flags("resets", **SIZES))
    assert_close(actual, expected, rtol=2e-5, atol=5e-5)


@gpu_simulator.needs_jax
def test_a_race_is_found(monkeypatch):
    monkeypatch.setattr(gpu_block.Block, "products", read)
    monkeypatch.setattr(gpu_block.Block, "publish", publish_late)
    with pytest.raises(Exception, match=r"RACE DETECTED|a race"):
        simulated(problem("after", **SIZES))


@gpu_simulator.needs_jax
@pytest.mark.parametrize(
    ("hidden", "dtype", "state", "precision", "message"),
    [
        (128, np.float32, np.float32, None, None),
        (192, jnp.bfloat16, np.float32, "highest", None),
        (192, jnp.bfloat16, jnp.bfloat16, None, None),
        (129, np.float32, np.float32, None, "H = 129 in float32: shared memory does not hold"),
        (193, jnp.bfloat16, np.float32, None, "H = 193 in bfloat16: shared memory does not hold"),
        (5, np.float16, np.float32, None, "float16 weights with a float32 state"),
        (5, np.float32, np.float32, "highest", "float32 at precision 'highest'"),
        (5, np.float32, np.float32, "float32", "float32 at precision 'float32'"),
    ],
)
def test_what_is_not_taken_is_refused(hidden, dtype, state, precision, message):
    params, h0, xs = problem("after", hidden=hidden, dtype=dtype)
    arguments = params, h0.astype(state), xs
    with jax.default_matmul_precision(precision):
        if message is None:
            assert "mosaic_gpu" in lowered("cuda", *arguments).as_text()
            return
        with pytest.raises(ValueError, match=f"the kernel for cuda does not take {message}"):
            lowered("cuda", *arguments)


@gpu_simulator.needs_jax
def test_other_gpus_are_refused(monkeypatch):
    """What `wgmma` is not an instruction of, before and after Hopper."""
    for capability in ("8.0", "10.0"):
        device = mock.Mock(compute_capability=capability)
        monkeypatch.setattr(gpu, "_devices", lambda device=device: [device])
        jax.clear_caches()
        with pytest.raises(ValueError, match=f"not take compute capability {capability}: it needs"):
            lowered("cuda", *problem("after"))
    jax.clear_caches()


@pytest.mark.skipif(jax.__version_info__ >= (0, 11), reason="JAX is new enough")
def test_an_old_jax_is_refused():
    with pytest.raises(ValueError, match=r"does not take JAX 0\.10.*: install 0.11 or newer"):
        lowered("cuda", *problem("after"))
