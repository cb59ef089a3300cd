"""Runs the GRU of `experiments.benchmark.wide` over eight CPU devices, for `test_pods.py`.

The number of devices is fixed when JAX starts. It raises where outputs or gradients differ from
those of `gru_unroll` on one device, and prints the collectives in the program of the gradients.
"""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding

import gru_jax
from experiments.benchmark import wide

T, B, I, H = 6, 4, 3, 16
KINDS = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"


def main():
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    keys = jax.random.split(jax.random.key(0), 4)
    params = gru_jax.init_gru(keys[0], I, H, reset="after")
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)  # no bias is zero
    h0, xs = jax.random.normal(keys[1], (B, H)), jax.random.normal(keys[2], (T, B, I))
    weights = jax.random.normal(keys[3], (T, B, H))
    mesh = jax.make_mesh((8,), (wide.UNITS,), axis_types=(AxisType.Auto,))

    def expected(params, h0, xs):
        h_last, hs = gru_jax.gru_unroll(params, h0, xs)
        return jnp.sum(weights * hs) + jnp.sum(h_last**2), (h_last, hs)

    def sharded(params, h0, xs):
        h_last, hs = wide.unroll(mesh, params, h0, xs)
        return jnp.sum(weights * hs) + jnp.sum(h_last**2), (h_last, hs)

    def placed(leaf, spec):
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    given = jax.tree.map(placed, wide.per_gate(params), wide.SPECS), placed(h0, wide.ROWS), xs
    gradient = jax.jit(jax.value_and_grad(sharded, argnums=(0, 1, 2), has_aux=True))
    program = gradient.lower(*given).compile()
    (value, (h_last, hs)), (d_params, *others) = program(*given)
    for leaf in (*jax.tree.leaves(d_params), others[0], h_last, hs):
        assert leaf.sharding.shard_shape(leaf.shape)[-1] == H // 8
    reference = jax.value_and_grad(expected, argnums=(0, 1, 2), has_aux=True)
    values, (d_expected, *d_others) = jax.jit(reference)(params, h0, xs)
    actual = (value, (h_last, hs)), d_params, others
    for a, e in zip(
        jax.tree.leaves(actual),
        jax.tree.leaves((values, wide.per_gate(d_expected), d_others)),
        strict=True,
    ):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5)
    print(json.dumps(sorted(re.findall(f" ({KINDS})(?:-start)?\\(", program.as_text()))))


if __name__ == "__main__":
    main()
