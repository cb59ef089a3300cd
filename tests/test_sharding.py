"""The library over a mesh of two devices: Auto, Explicit and `shard_map`, values and collectives.

Run in processes of their own, which have two CPU devices.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, re, sys, warnings
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
import gru_jax

KIND = sys.argv[1]
T, B, I, H = 6, 4, 3, 8
ROWS = P(None, "rows")  # time, rows
HERE = B // 2 if KIND == "shard_map" else B  # rows that a function sees
mesh = jax.make_mesh((2,), ("rows",), axis_types=(getattr(AxisType, KIND, AxisType.Auto),))

def bumped(params):
    return jax.tree.map(lambda leaf: leaf + jnp.array(0.1, leaf.dtype), params)

key = jax.random.key(0)
after = bumped(gru_jax.init_gru(key, I, H, reset="after"))
before = bumped(gru_jax.init_gru(key, I, H))
both = bumped(gru_jax.init_gru_stack(key, I, (H, H), bidirectional=True, reset="after"))
one_way = bumped(gru_jax.init_gru_stack(key, I, (H, H)))
lstms = gru_jax.init_gru_stack(key, I, (H, H), init=gru_jax.init_lstm)
normed = gru_jax.init_layer_norm_gru(key, I, H)
min_gru, head = gru_jax.init_min_gru(key, I, H), bumped(gru_jax.init_readout(key, H, I))
xs = jax.random.normal(jax.random.key(1), (T, B, I))
mask = gru_jax.sequence_mask(jnp.array([6, 2, 0, 3]), T)
resets = jnp.zeros((T, B), bool).at[2].set(True)
noise = {"dropout": 0.2, "input_dropout": 0.2, "recurrent_dropout": 0.2, "zoneout": 0.1}

def token_step(params, h, token):
    x = jax.nn.one_hot(token, I)
    return gru_jax.generate_step(after, head, h, x, activation=lambda y: y)

def tokens(xs, mask, resets):
    h, _ = gru_jax.gru_unroll(after, None, xs)
    prompt = mask[:2].astype(jnp.int32)
    return gru_jax.generate(key, token_step, (), h, prompt, 3, temperature=0)

def flagged(run, *arguments, **keywords):
    return lambda xs, mask, resets: run(
        *arguments, None, xs, mask=mask, resets=resets, **keywords
    )

CASES = {
    "gates": flagged(gru_jax.gru_unroll, after),
    "chunks": flagged(gru_jax.gru_unroll, before, save="chunks"),
    "reverse": flagged(
        gru_jax.gru_unroll, after, save="states", reverse=True, reset_state=jnp.ones(H)
    ),
    "unroll": flagged(gru_jax.unroll, gru_jax.gru_step, before),
    "layer norm": flagged(gru_jax.unroll, gru_jax.layer_norm_gru_step, normed),
    "minGRU": flagged(gru_jax.min_gru_unroll, min_gru),
    "stack": flagged(gru_jax.gru_stack_unroll, both),
    "LSTMs": flagged(gru_jax.gru_stack_unroll, lstms, step=gru_jax.lstm_step),
    "noise": flagged(gru_jax.gru_stack_unroll, both, key=key, **noise),
    "zoneout": flagged(gru_jax.gru_stack_unroll, both, zoneout=0.1),
    "stream": lambda xs, mask, resets: gru_jax.gru_stack_step(
        one_way, None, xs[0], resets=resets[0]
    ),
    "no time": lambda xs, mask, resets: gru_jax.gru_stack_unroll(both, None, xs[:0]),
    "vmap": lambda xs, mask, resets: jax.vmap(
        lambda xs: gru_jax.gru_unroll(after, None, xs), in_axes=1, out_axes=(0, 1)
    )(xs),
    "readout": lambda xs, mask, resets: gru_jax.readout(
        head, gru_jax.gru_unroll(after, None, xs)[1]
    ),
    "generate": tokens,
    "whole state": lambda xs, mask, resets: gru_jax.gru_unroll(after, jnp.zeros((HERE, H)), xs),
    "whole states": lambda xs, mask, resets: gru_jax.unroll(
        gru_jax.lstm_step, lstms.layers[0], gru_jax.zero_state(lstms.layers[0], (HERE,)), xs
    ),
    "whole prompt": lambda xs, mask, resets: gru_jax.generate(
        key, token_step, after, gru_jax.gru_unroll(after, None, xs)[0], jnp.zeros((2, HERE), int), 3
    ),
}
try:
    from flax import linen as nn
    from gru_jax.flax.linen import RNN
    layer = RNN(nn.GRUCell(H), time_major=True, return_carry=True)
    variables = layer.init(key, xs)
    CASES["linen"] = lambda xs, mask, resets: layer.apply(variables, xs, resets=resets)
except ImportError:
    pass

def spec(leaf):  # rows first, or after time
    return ROWS if leaf.ndim > 2 or leaf.shape[-1] in (B, HERE) else P("rows")

def over_the_mesh(f, expected):
    if KIND != "shard_map":
        return jax.jit(f)
    specs = jax.tree.map(spec, expected)
    return jax.jit(jax.shard_map(f, mesh=mesh, in_specs=(ROWS,) * 3, out_specs=specs))

def collectives(f, *arguments):
    text = jax.jit(f).lower(*arguments).compile().as_text()
    names = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    return re.findall(f" ({names})(?:-start)?[(]", text)

report = {}
with jax.set_mesh(mesh):
    sharded = [jax.device_put(a, NamedSharding(mesh, ROWS)) for a in (xs, mask, resets)]
    for name, f in CASES.items():
        if name.startswith("whole") and KIND == "shard_map":
            expected = jax.eval_shape(f, xs[:, :HERE], mask[:, :HERE], resets[:, :HERE])
            over_the_mesh(f, expected)(*sharded)  # the state of the rows here, as the user made it
            continue
        expected = jax.jit(f)(xs, mask, resets)
        actual = over_the_mesh(f, expected)(*sharded)
        if KIND == "shard_map" and name == "noise":
            continue  # each device draws its own
        for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, e, atol=1e-5, err_msg=name)
    if KIND == "shard_map":  # only the mask, or only the key, varies
        masks, keys = jnp.stack([mask, ~mask]), jax.random.split(key)
        for f, each in (
            (lambda m: gru_jax.gru_unroll(after, None, xs, mask=m[0])[1], masks),
            (lambda m: gru_jax.unroll(gru_jax.gru_step, after, None, xs, mask=m[0])[1], masks),
            (lambda m: gru_jax.min_gru_unroll(min_gru, None, xs, resets=m[0])[1], masks),
            (lambda k: gru_jax.gru_stack_unroll(both, None, xs, key=k[0], **noise)[1], keys),
        ):
            run = jax.shard_map(f, mesh=mesh, in_specs=P("rows"), out_specs=P("rows"))
            assert jax.jit(run)(each).shape[0] == 2 * T
    for name in ("gates", "stack", "noise"):
        weights = jax.device_put(after if name == "gates" else both, NamedSharding(mesh, P()))
        run = gru_jax.gru_unroll if name == "gates" else gru_jax.gru_stack_unroll
        keywords = {"key": key} | noise if name == "noise" else {}

        def loss(weights, xs, mask, resets):
            value = jnp.sum(run(weights, None, xs, mask=mask, resets=resets, **keywords)[1] ** 2)
            return jax.lax.psum(value, "rows") if KIND == "shard_map" else value

        if KIND == "shard_map":
            loss = jax.shard_map(loss, mesh=mesh, in_specs=(P(), *[ROWS] * 3), out_specs=P())
        report[name] = collectives(jax.grad(loss), weights, *sharded)
print(json.dumps(report))
"""


@pytest.mark.parametrize("kind", ["Auto", "Explicit", "shard_map"])
def test_values_and_collectives(kind):
    """The states that the library makes are like the inputs; only gradients are summed across."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    for name, collectives in json.loads(done.stdout.splitlines()[-1]).items():
        assert set(collectives) == {"all-reduce"}, name
