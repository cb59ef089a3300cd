"""Runs the library over meshes of two CPU devices, in a process that `test_sharding.py` starts.

The number of devices is fixed when JAX starts. Axes are of type Auto and Explicit, or manual in a
`shard_map`. It raises where outputs or gradients differ from those on one device, and prints the
collectives in the programs of the gradients.
"""

import json
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gru_jax

T, B, I, H = 6, 4, 3, 8
ROWS = P(None, "rows")  # time, rows
COLLECTIVES = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
NOISE = {"dropout": 0.2, "input_dropout": 0.2, "recurrent_dropout": 0.2, "zoneout": 0.1}


def models():
    """Parameters by name, no bias zero."""
    key, raised = jax.random.key(0), partial(jax.tree.map, lambda leaf: leaf + 0.1)
    stack = partial(gru_jax.init_gru_stack, key, I, (H, H))
    return {
        "after": raised(gru_jax.init_gru(key, I, H, reset="after")),
        "before": raised(gru_jax.init_gru(key, I, H)),
        "wide after": raised(gru_jax.init_gru(key, I, 128, reset="after")),
        "wide before": raised(gru_jax.init_gru(key, I, 128)),
        "both ways": raised(stack(bidirectional=True, reset="after")),
        "one way": raised(stack()),
        "LSTMs": stack(init=gru_jax.init_lstm),
        "layer norm": gru_jax.init_layer_norm_gru(key, I, H),
        "minGRU": gru_jax.init_min_gru(key, I, H),
        "generate": raised(gru_jax.init_gru(key, I, H)),
        "head": raised(gru_jax.init_readout(key, H, I)),
    }


def inputs(steps=T, rows=B):
    """xs, mask and resets."""
    xs = jax.random.normal(jax.random.key(1), (steps, rows, I))
    lengths = jnp.tile(jnp.array([steps, 2, 0, steps // 2]), rows // 4)
    resets = jnp.zeros((steps, rows), bool).at[2].set(True)
    return xs, gru_jax.sequence_mask(lengths, steps), resets


def functions(model, rows):
    """Functions of xs, mask and resets by name; they see `rows` rows at a time."""
    key, after, both = jax.random.key(0), model["after"], model["both ways"]
    lstm = model["LSTMs"].layers[0]

    def flagged(run, *arguments, **keywords):
        return lambda xs, mask, resets: run(
            *arguments, None, xs, mask=mask, resets=resets, **keywords
        )

    def token_step(params, h, token):
        x = jax.nn.one_hot(token, I)
        return gru_jax.generate_step(after, model["head"], h, x, activation=lambda y: y)

    def last(xs):
        return gru_jax.gru_unroll(after, None, xs)[0]

    def tokens(xs, mask, resets):
        prompt = mask[:2].astype(jnp.int32)
        return gru_jax.generate(key, token_step, (), last(xs), prompt, 3, temperature=0)

    def own_prompt(xs, mask, resets):
        prompt = jnp.zeros((2, rows), int)
        return gru_jax.generate(key, token_step, after, last(xs), prompt, 3)

    def mapped(xs, mask, resets):
        run = partial(gru_jax.gru_unroll, after, None)
        return jax.vmap(run, in_axes=1, out_axes=(0, 1))(xs)

    result = {
        "gates": flagged(gru_jax.gru_unroll, after),
        "chunks": flagged(gru_jax.gru_unroll, model["before"], save="chunks"),
        "reverse": flagged(
            gru_jax.gru_unroll, after, save="states", reverse=True, reset_state=jnp.ones(H)
        ),
        "unroll": flagged(gru_jax.unroll, gru_jax.gru_step, model["before"]),
        "layer norm": flagged(gru_jax.unroll, gru_jax.layer_norm_gru_step, model["layer norm"]),
        "minGRU": flagged(gru_jax.min_gru_unroll, model["minGRU"]),
        "stack": flagged(gru_jax.gru_stack_unroll, both),
        "LSTMs": flagged(gru_jax.gru_stack_unroll, model["LSTMs"], step=gru_jax.lstm_step),
        "noise": flagged(gru_jax.gru_stack_unroll, both, key=key, **NOISE),
        "zoneout": flagged(gru_jax.gru_stack_unroll, both, zoneout=0.1),
        "stream": lambda xs, mask, resets: gru_jax.gru_stack_step(
            model["one way"], None, xs[0], resets=resets[0]
        ),
        "no time": lambda xs, mask, resets: gru_jax.gru_stack_unroll(both, None, xs[:0]),
        "vmap": mapped,
        "readout": lambda xs, mask, resets: gru_jax.readout(
            model["head"], gru_jax.gru_unroll(after, None, xs)[1]
        ),
        "generate": tokens,
        "own state": lambda xs, mask, resets: gru_jax.gru_unroll(after, jnp.zeros((rows, H)), xs),
        "own states": lambda xs, mask, resets: gru_jax.unroll(
            gru_jax.lstm_step, lstm, gru_jax.zero_state(lstm, (rows,)), xs
        ),
        "own prompt": own_prompt,
    }
    try:
        from flax import linen

        from gru_jax.flax.linen import RNN
    except ImportError:
        return result
    layer = RNN(linen.GRUCell(H), time_major=True, return_carry=True)
    variables = layer.init(key, inputs()[0])
    return result | {"linen": lambda xs, mask, resets: layer.apply(variables, xs, resets=resets)}


def placed(mesh, arrays):
    """The arrays `[T, rows, ...]`, half of the rows on each device."""
    return [jax.device_put(array, NamedSharding(mesh, ROWS)) for array in arrays]


def check_outputs(model, meshes):
    """All functions give what they give on one device."""
    arrays = inputs()
    expected = {name: jax.jit(f)(*arrays) for name, f in functions(model, B).items()}
    for kind, mesh in meshes.items():
        manual = kind == "shard_map"
        for name, f in functions(model, B // 2 if manual else B).items():
            own = manual and name.startswith("own")  # the user made it for these rows
            sharded, result = f, expected[name]
            if manual:

                def spec(leaf):  # rows first, or after time
                    after_time = leaf.ndim > 2 or leaf.shape[-1] in (B, B // 2)
                    return ROWS if after_time else P("rows")

                specs = jax.tree.map(spec, result)
                sharded = jax.shard_map(f, mesh=mesh, in_specs=(ROWS,) * 3, out_specs=specs)
            with jax.set_mesh(mesh):
                actual = jax.jit(sharded)(*placed(mesh, arrays))
            if own or (manual and name == "noise"):
                continue  # each device draws its own noise
            compare(actual, result, f"{name} with {kind}", rtol=1e-7, atol=1e-5)


def check_what_varies(model, mesh):
    """Under `shard_map` where only the mask, or only the key, differs between devices."""
    after, both, (xs, mask, _) = model["after"], model["both ways"], inputs()
    masks, keys = jnp.stack([mask, ~mask]), jax.random.split(jax.random.key(0))
    for f, each in (
        (lambda m: gru_jax.gru_unroll(after, None, xs, mask=m[0])[1], masks),
        (lambda m: gru_jax.unroll(gru_jax.gru_step, after, None, xs, mask=m[0])[1], masks),
        (lambda m: gru_jax.min_gru_unroll(model["minGRU"], None, xs, resets=m[0])[1], masks),
        (lambda k: gru_jax.gru_stack_unroll(both, None, xs, key=k[0], **NOISE)[1], keys),
    ):
        with jax.set_mesh(mesh):
            run = jax.shard_map(f, mesh=mesh, in_specs=P("rows"), out_specs=P("rows"))
            assert jax.jit(run)(each).shape[0] == 2 * T


def parallel(*arguments, **keywords):
    """`gru_unroll_parallel` without its `Solution`."""
    return gru_jax.gru_unroll_parallel(*arguments, **keywords)[:2]


def generated(model, params, h0, xs, *, mask, resets):
    """Tokens after a prompt, the most probable ones: the states before and after them."""

    def token_step(params, h, token):
        x = jax.nn.one_hot(token, I)
        return gru_jax.generate_step(params, model["head"], h, x, activation=lambda y: y)

    h, _ = gru_jax.gru_unroll(params, h0, xs, mask=mask, resets=resets)
    prompt = mask[:2].astype(jnp.int32)
    last, _ = gru_jax.generate(jax.random.key(0), token_step, params, h, prompt, 3, temperature=0)
    return h, last


def check_gradients(model, meshes):
    """Gradients, with a mask and resets, equal those on one device.

    Returns the collectives in each program.
    """
    gru, stack = gru_jax.gru_unroll, gru_jax.gru_stack_unroll
    small, long = inputs(), inputs(51, 32)  # with 128 units in chunks on CPU
    collectives = {}
    for name, run, keywords, arrays in (
        ("after", gru, {}, small),
        ("wide after", gru, {}, long),
        ("wide before", gru, {}, long),
        ("before", gru, {"reverse": True, "save": "states"}, small),
        ("after", parallel, {"jacobian": "full"}, small),
        ("before", parallel, {"jacobian": "diagonal"}, small),
        ("generate", partial(generated, model), {}, small),
        ("one way", stack, {}, small),
        ("both ways", stack, {}, small),
        ("both ways", stack, {"key": jax.random.key(0)} | NOISE, small),
    ):

        def loss(params, xs, mask, resets, run=run, keywords=keywords, axes=()):
            _, hs = run(params, None, xs, mask=mask, resets=resets, **keywords)
            return jax.lax.psum(jnp.sum(hs**2), axes) if axes else jnp.sum(hs**2)

        expected = jax.jit(jax.grad(loss, argnums=(0, 1)))(model[name], *arrays)
        for kind, mesh in meshes.items():
            sharded, manual = loss, kind == "shard_map"
            if manual:
                local, specs = partial(loss, axes=("rows",)), (P(), *[ROWS] * 3)
                sharded = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=P())
            with jax.set_mesh(mesh):
                weights = jax.device_put(model[name], NamedSharding(mesh, P()))
                arguments = weights, *placed(mesh, arrays)
                gradient = jax.jit(jax.grad(sharded, argnums=(0, 1)))
                compiled = gradient.lower(*arguments).compile()
                actual = compiled(*arguments)
            title = f"{name} with {' '.join([kind, *keywords])}"
            collectives[title] = sorted(set(re.findall(f" ({COLLECTIVES})", compiled.as_text())))
            assert actual[1].sharding.shard_shape(actual[1].shape)[1] == arrays[0].shape[1] // 2
            if not (manual and "key" in keywords):  # each device draws its own noise
                # the weights' gradients are sums of up to 1600 terms in another order
                compare(actual, expected, title, rtol=1e-4, atol=1e-4)
    return collectives


def compare(actual, expected, title, **tolerances):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, **tolerances, err_msg=title)


def main():
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    types = {"Auto": AxisType.Auto, "Explicit": AxisType.Explicit, "shard_map": AxisType.Auto}
    meshes = {
        kind: jax.make_mesh((2,), ("rows",), axis_types=(axis,)) for kind, axis in types.items()
    }
    model = jax.jit(models)()
    check_outputs(model, meshes)
    check_what_varies(model, meshes["shard_map"])
    print(json.dumps(check_gradients(model, meshes)))


if __name__ == "__main__":
    main()
