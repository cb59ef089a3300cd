"""The fast twin's derivatives on sequences long and wide enough for chunks, with every `save`."""

import os
import re
import subprocess
import sys
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import assert_close, random_flags, random_inputs, random_params
from test_fast import RESETS, loss, twin

import gru_jax
from gru_jax.recurrence.cpu import is_single_row_and_large as in_halves

SAVE = pytest.mark.parametrize("save", ["gates", "states", "chunks"])
WIDE = {"batch": (32,), "hidden": 128}  # 2^16 numbers are 16 steps
LONG = 51  # three chunks of 16 steps and three steps left


def problem(reset="before", steps=LONG, **shapes):
    shapes = WIDE | shapes
    params = random_params(reset=reset, hidden=shapes["hidden"])
    return params, *random_inputs(steps=steps, **shapes)


def gradients(unroll, arguments, **keywords):
    return jax.jit(jax.value_and_grad(partial(loss, unroll, **keywords), argnums=(0, 1, 2)))(
        *arguments
    )


def with_(save):
    return partial(gru_jax.gru_unroll, save=save)


def in_chunks(function, *arguments):
    """Whether a compiled program has loops within loops."""
    return jax.jit(function).lower(*arguments).as_text().count("stablehlo.while") > 2


def flags_of(names, **shapes):
    return {
        name: random_flags(seed, probability=0.8, **shapes)
        for seed, name in enumerate(names.split())
    }


@cache  # compiled once for every `save`
def gradients_of_twin_in_chunks(reset, steps, reverse, names):
    flags = flags_of(names, steps=steps, batch=(32,))
    return gradients(twin, problem(reset, steps), reverse=reverse, **flags)


@RESETS
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("steps", "flags"), [(48, ""), (LONG, "mask resets")])
@SAVE
def test_twin_in_chunks(reset, save, reverse, flags, steps):
    arguments = problem(reset, steps)
    keywords = flags_of(flags, steps=steps, batch=(32,))
    assert in_chunks(jax.grad(partial(loss, with_(save))), *arguments)
    actual = gradients(with_(save), arguments, reverse=reverse, **keywords)
    expected = gradients_of_twin_in_chunks(reset, steps, reverse, flags)
    # the weights' gradients are sums of 1600 terms in another order
    assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@RESETS
def test_values_in_chunks(reset):
    """Where nothing is differentiated chunks are longer."""
    shapes = {"batch": (256,), "hidden": 256}  # 2^20 numbers are 16 steps
    keywords = flags_of("mask resets", steps=LONG, batch=(256,)) | {"reverse": True}
    arguments = problem(reset, **shapes)
    fast, plain = (partial(unroll, **keywords) for unroll in (gru_jax.gru_unroll, twin))
    assert in_chunks(fast, *arguments)
    assert_close(jax.jit(fast)(*arguments), jax.jit(plain)(*arguments), atol=1e-5)


@RESETS
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 10])
@pytest.mark.parametrize("reverse", [False, True])
def test_saving_changes_nothing_on_short_sequences(reset, steps, reverse):
    params = random_params(reset=reset)
    arguments = (params, *random_inputs(steps=steps))
    keywords = {"mask": random_flags(1, steps=steps), "resets": random_flags(2, steps=steps)}
    expected = gradients(twin, arguments, reverse=reverse, **keywords)
    for save in ("gates", "states", "chunks"):
        actual = gradients(with_(save), arguments, reverse=reverse, **keywords)
        assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def derivatives_of_higher_order(unroll, reset):
    """Forward mode alone, forward over reverse, and reverse over reverse, in one direction."""
    params, h0, xs = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), problem(reset))
    function = partial(loss, unroll)
    gradient = jax.grad(function)
    direction = jax.tree.map(jnp.sin, params)

    def slope(params, h0, xs):
        along = jax.tree.map(jnp.vdot, gradient(params, h0, xs), direction)
        return sum(jax.tree.leaves(along))

    def derivatives(params, h0, xs):
        tangents = (direction, jnp.sin(h0), jnp.sin(xs))
        return (
            jax.jvp(function, (params, h0, xs), tangents),
            jax.jvp(lambda params: gradient(params, h0, xs), (params,), (direction,)),
            jax.grad(slope)(params, h0, xs),
        )

    return jax.jit(derivatives)(params, h0, xs)


@RESETS
def test_derivatives_of_higher_order_in_chunks(reset):
    with jax.enable_x64(True):
        expected = derivatives_of_higher_order(twin, reset)
        for save in ("gates", "states", "chunks"):
            actual = derivatives_of_higher_order(with_(save), reset)
            assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@RESETS
@pytest.mark.parametrize("save", ["gates", "states"])
def test_vmap_in_chunks(reset, save):
    """Over examples of a wide batch, and per-example gradients of long unbatched sequences."""
    params, h0, xs = problem(reset)
    h0, xs = jnp.stack([h0, 2 * h0]), jnp.stack([xs, 2 * xs], 1)
    mapped = jax.vmap(with_(save), in_axes=(None, 0, 1), out_axes=(0, 1))
    gradient = jax.jit(
        jax.grad(lambda *arguments: jnp.sum(mapped(*arguments)[1] ** 2), argnums=(0, 1, 2))
    )
    flat = h0.reshape(-1, *h0.shape[2:]), xs.reshape(len(xs), -1, *xs.shape[3:])
    plain = jax.grad(lambda *arguments: jnp.sum(twin(*arguments)[1] ** 2), argnums=(0, 1, 2))
    expected = plain(params, *flat)
    actual = gradient(params, h0, xs)
    assert_close(
        jax.tree.map(lambda a, e: a.reshape(e.shape), actual, expected),
        expected,
        rtol=1e-4,
        atol=1e-3,  # the weights' gradients are sums of 3300 terms, up to 500 in all
    )


@RESETS
@pytest.mark.parametrize("save", ["gates", "states"])
@pytest.mark.parametrize("hidden", [256, 257])
def test_a_single_row_of_a_large_state(reset, save, hidden):
    """Its products are taken in halves, where there are halves."""
    arguments = problem(reset, steps=3, batch=(1,), hidden=hidden)
    assert in_halves(arguments[1], arguments[0].w_h) == (hidden % 2 == 0)

    def whole(params, h0, xs, **_):  # without a batch axis they are not taken apart
        h_last, hs = twin(params, h0[0], xs[:, 0])
        return h_last[None], hs[:, None]

    actual, expected = (gradients(unroll, arguments) for unroll in (with_(save), whole))
    assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def temporary_bytes(function, *arguments):
    compiled = jax.jit(function).lower(*arguments).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def last_state(unroll, params, h0, xs):
    return jnp.sum(unroll(params, h0, xs)[0])


def test_memory_falls_with_what_is_saved():
    arguments = problem(steps=1024)
    one_array = 4 * 1024 * 32 * 128
    used = {
        save: temporary_bytes(jax.grad(partial(last_state, with_(save))), *arguments)
        for save in ("gates", "states", "chunks")
    }
    assert 4 * one_array < used["gates"] < 6 * one_array
    assert one_array < used["states"] < 2 * one_array
    assert used["chunks"] < 0.5 * one_array


@RESETS
def test_gradients_of_shared_parameters_are_never_held_per_example(reset):
    """No [B, H, 3H] under the gradient of a vmap, whose cotangents are summed over the batch."""
    params, h0, xs = problem(reset, steps=6, batch=(512,))

    def total(params, h0, xs):
        mapped = jax.vmap(gru_jax.gru_unroll, in_axes=(None, 0, 1), out_axes=(0, 1))
        return jnp.sum(mapped(params, h0, xs)[1])

    per_example = 4 * 512 * 128 * 3 * 128
    assert temporary_bytes(jax.grad(total), params, h0, xs) < 0.5 * per_example


def while_loops(module):
    """For each loop of a StableHLO module: the products in its body, called functions included."""
    functions = dict(
        re.findall(r"^  func\.func \w+ @([\w.]+)\((.*?)^  }", module, flags=re.M | re.S)
    )

    def products(text):
        called = re.findall(r"func\.call @([\w.]+)\(", text)
        return text.count("stablehlo.dot_general") + sum(products(functions[f]) for f in called)

    loops = re.findall(r"^( *)%\S+ = stablehlo\.while(.*?)^\1}(?! do)", module, flags=re.M | re.S)
    return [products(body) for _, body in loops]


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("save", ["gates", "states"])
@pytest.mark.parametrize(("reset", "products"), [("after", 1), ("before", 2)])
def test_accelerators_get_one_lean_loop_per_direction(platform, save, reset, products):
    """With one product per step, two for "before"; the weights' gradients are formed outside."""
    arguments = problem(reset)

    def exported(function):
        return jax.export.export(jax.jit(function), platforms=[platform])(*arguments).mlir_module()

    assert while_loops(exported(with_(save))) == [products]
    gradient = exported(jax.grad(partial(loss, with_(save)), argnums=(0, 1, 2)))
    assert while_loops(gradient) == [products, products]
    assert gradient.count("stablehlo.dot_general") >= 2 * products + 6


def test_the_loops_of_a_module_are_counted():
    """What the test above relies on, on a loop that adds up the weights' gradient: the twin's."""
    arguments = problem("after")
    module = jax.jit(jax.grad(partial(loss, twin))).lower(*arguments).as_text()
    forward, backward = while_loops(module)
    assert forward == 4  # one product of the state and three of the input
    assert backward > 4


SHARDED = """
import jax, jax.numpy as jnp, re, sys
sys.path.insert(0, "tests")
jax.config.update("jax_num_cpu_devices", 2)
from jax.sharding import NamedSharding, PartitionSpec as P
from common import assert_close
from test_tangent import gradients, loss, problem, twin
import gru_jax

reset, way = sys.argv[1:]
mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
params, h0, xs = problem(reset)
expected = gradients(twin, (params, h0, xs))
arguments = (
    jax.device_put(params, NamedSharding(mesh, P())),
    jax.device_put(h0, NamedSharding(mesh, P("batch"))),
    jax.device_put(xs, NamedSharding(mesh, P(None, "batch"))),
)
unroll = gru_jax.gru_unroll
if way == "shard_map":
    specs = (P(), P("batch"), P(None, "batch"))
    unroll = jax.shard_map(
        lambda *arguments: gru_jax.gru_unroll(*arguments),
        mesh=mesh, in_specs=specs, out_specs=specs[1:],
    )
    plain = unroll
    unroll = lambda params, h0, xs, mask, resets, reverse: plain(params, h0, xs)
function = jax.jit(jax.value_and_grad(lambda *a: loss(unroll, *a), argnums=(0, 1, 2)))
compiled = function.lower(*arguments).compile()
value, (d_params, d_h0, d_xs) = compiled(*arguments)
assert_close((value, (d_params, d_h0, d_xs)), expected, rtol=1e-4, atol=1e-4)
assert d_xs.sharding.shard_shape(d_xs.shape)[1] == xs.shape[1] // 2
collectives = re.findall(r" (all-[a-z]+|collective-permute|reduce-scatter)\\(", compiled.as_text())
print(sorted(set(collectives)))
"""


@RESETS
@pytest.mark.parametrize("way", ["jit", "shard_map"])
def test_sharded_equals_unsharded(reset, way):
    """A batch over two devices: no gathers, only the sums of the weights' gradients."""
    done = subprocess.run(
        [sys.executable, "-c", SHARDED, reset, way],
        capture_output=True,
        text=True,
        cwd=os.path.dirname(os.path.dirname(__file__)),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['all-reduce']", done.stdout


def test_an_unknown_option_is_refused():
    params, h0, xs = problem(steps=2)
    with pytest.raises(ValueError, match=r"save is 'everything', but must be one of 'gates', "):
        gru_jax.gru_unroll(params, h0, xs, save="everything")


def test_mixed_precision_in_chunks():
    """bfloat16 weights and inputs, float32 state: errors of bfloat16's size, not more."""
    params, h0, xs = problem("after")
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    exact = gradients(twin, (jax.tree.map(lambda n: n.astype(jnp.float32), narrow), h0, xs))
    (value, (d_params, d_h0, _)) = gradients(
        gru_jax.gru_unroll, (narrow, h0, xs.astype(jnp.bfloat16))
    )
    assert (value.dtype, d_h0.dtype, d_params.w_h.dtype) == ("float32", "float32", "bfloat16")
    difference = np.abs(d_params.w_h.astype(jnp.float32) - exact[1][0].w_h)
    assert np.max(difference) < 0.02 * np.max(np.abs(exact[1][0].w_h))
