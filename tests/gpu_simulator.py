"""JAX's simulator of NVIDIA GPUs, in which the GPU kernels run on CPU.

It is private to JAX, and used nowhere else. It multiplies in float32 what a GPU rounds to TF32, and
ends with an error where two warpgroups race.
"""

import warnings
from functools import cache

import jax
import numpy as np
import pytest
from jax.experimental.pallas import mosaic_gpu as plgpu

from gru_jax.recurrence import gpu

needs_jax = pytest.mark.skipif(
    jax.__version_info__ < (0, 11), reason=f"JAX {jax.__version__} is too old for the GPU kernels"
)


def make(body, *, out_type, **sizes):
    """As `plgpu.kernel`, but simulated.

    In a callback, because the simulator has side effects, which a custom derivative must not have.
    """

    @cache
    def compiled():
        return jax.jit(plgpu.kernel(body, out_type=out_type, **sizes))

    def run(*args):
        from jax._src.pallas.mosaic_gpu.interpret import interpret_pallas_call, params

        try:
            simulator = params.InterpretGPUParams(detect_races=True)
            with params.force_gpu_interpret_mode(simulator), warnings.catch_warnings():
                # NumPy's products, of what a reset replaces
                warnings.filterwarnings("ignore", "invalid value encountered in matmul")
                results = list(map(np.asarray, compiled()(*args)))
            assert not interpret_pallas_call.get_races().races_found, "a race"
        finally:
            interpret_pallas_call.reset_gpu_interpret_mode_state()
        return results

    return lambda *args: jax.pure_callback(run, out_type, *args)


IMPLEMENTATION = gpu.implementation(make=make)
