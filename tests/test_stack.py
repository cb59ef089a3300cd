"""Stacks: against the NumPy oracle, layer by layer, and every promise about noise and state."""

import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from common import B, I, T, as_float64, assert_close, random_flags, random_inputs, random_params
from jax.extend.core import jaxprs_in_params

import gru_jax
from gru_jax import Bidirectional, GRUStack

SIZES = (7, 6)
RESETS = pytest.mark.parametrize("reset", ["before", "after"])


def random_stack(reset="before", bidirectional=True, sizes=SIZES, inputs=I):
    """A stack whose biases are not zero, and a first state for each layer."""
    layers, h0s = [], []
    rng = np.random.default_rng(0)
    for i, hidden in enumerate(sizes):
        params = [
            random_params(2 * i + j, reset=reset, inputs=inputs, hidden=hidden)
            for j in range(1 + bidirectional)
        ]
        states = [
            jnp.asarray(rng.normal(size=(B, hidden)), jnp.float32) for _ in range(1 + bidirectional)
        ]
        layers.append(Bidirectional(*params) if bidirectional else params[0])
        h0s.append(Bidirectional(*states) if bidirectional else states[0])
        inputs = hidden * (1 + bidirectional)
    return GRUStack(tuple(layers)), tuple(h0s)


def backwards(params, h0, xs, mask, resets):
    """The oracle from behind: each episode of each row on its own, from its last unmasked step."""
    h_last, hs = np.array(h0), np.zeros((*xs.shape[:-1], h0.shape[-1]))
    for row in range(xs.shape[1]):
        steps = [t for t in range(len(xs)) if mask[t, row]]
        h = h0[row]
        for t, later in reversed(list(zip(steps, [*steps[1:], None], strict=True))):
            if later is not None and resets[later, row]:
                h = np.zeros_like(h)
            h = hs[t, row] = oracle.gru_step(params, h, xs[t, row])
        h_last[row] = h
    return h_last, hs


def oracle_stack(stack, h0s, xs, mask, resets):
    h_lasts = []
    for params, h0 in zip(stack.layers, h0s, strict=True):
        if isinstance(params, Bidirectional):
            there, hs = oracle.gru_unroll(
                params.forward, h0.forward, xs, mask=mask, resets=resets & mask
            )
            here, hs_back = backwards(params.backward, h0.backward, xs, mask, resets)
            h_lasts.append(Bidirectional(there, here))
            xs = np.concatenate([hs, hs_back], axis=-1)
        else:
            h_last, xs = oracle.gru_unroll(params, h0, xs, mask=mask, resets=resets & mask)
            h_lasts.append(h_last)
    return tuple(h_lasts), xs


@RESETS
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_oracle(reset, bidirectional, seed):
    """Masks with holes, resets inside and next to them, in both directions."""
    stack, h0s = random_stack(reset, bidirectional)
    _, xs = random_inputs(steps=9)
    mask, resets = random_flags(seed, steps=9, probability=0.7), random_flags(9 + seed, steps=9)
    actual = jax.jit(gru_jax.gru_stack_unroll)(stack, h0s, xs, mask=mask, resets=resets)
    wide = as_float64((stack, h0s, xs))
    assert_close(actual, oracle_stack(*wide, np.asarray(mask), np.asarray(resets)), atol=5e-6)


def row_of(tree, row):
    return jax.tree.map(lambda leaf: leaf[row], tree)


def test_a_padded_row_is_the_shorter_row():
    stack, h0s = random_stack()
    _, xs = random_inputs()
    lengths = np.array([5, 3, 1, 0])
    h_lasts, hs = gru_jax.gru_stack_unroll(stack, h0s, xs, mask=gru_jax.sequence_mask(lengths, T))
    for row, length in enumerate(lengths):
        alone_lasts, alone = gru_jax.gru_stack_unroll(stack, row_of(h0s, row), xs[:length, row])
        assert_close(hs[:length, row], alone)
        assert_close(row_of(h_lasts, row), alone_lasts)
        assert not jnp.any(hs[length:, row])


def test_packed_episodes_are_the_episodes_apart_in_both_directions():
    stack, _ = random_stack()
    _, xs = random_inputs(steps=8)
    resets = jnp.zeros((8, B), bool).at[3].set(True)
    _, packed = gru_jax.gru_stack_unroll(stack, None, xs, resets=resets)
    first = gru_jax.gru_stack_unroll(stack, None, xs[:3])[1]
    second = gru_jax.gru_stack_unroll(stack, None, xs[3:])[1]
    assert_close(packed, jnp.concatenate([first, second]))


def test_none_stands_for_zeros():
    stack, h0s = random_stack()
    _, xs = random_inputs()
    zeros = gru_jax.zero_state(stack, (B,))
    chex.assert_trees_all_equal_shapes_and_dtypes(zeros, h0s)
    expected = gru_jax.gru_stack_unroll(stack, zeros, xs)
    assert_close(gru_jax.gru_stack_unroll(stack, None, xs), expected, rtol=0, atol=0)
    assert_close(gru_jax.gru_stack_unroll(stack, [None, zeros[1]], xs), expected, rtol=0, atol=0)


@pytest.mark.parametrize(("residual", "zoneout"), [(False, 0.0), (True, 0.0), (True, 0.3)])
def test_streaming_is_the_whole_pass(residual, zoneout):
    stack, h0s = random_stack(bidirectional=False, sizes=(7, 7))
    _, xs = random_inputs()
    h_lasts, hs = gru_jax.gru_stack_unroll(stack, h0s, xs, residual=residual, zoneout=zoneout)
    states, ys = h0s, []
    for x in xs:
        states, y = gru_jax.gru_stack_step(stack, states, x, residual=residual, zoneout=zoneout)
        ys.append(y)
    assert_close((states, jnp.stack(ys)), (h_lasts, hs))


def test_residual_adds_where_sizes_agree():
    stack, _ = random_stack(bidirectional=False, sizes=(7, 7))
    _, xs = random_inputs()
    first = gru_jax.gru_unroll(stack.layers[0], gru_jax.zero_state(stack.layers[0], (B,)), xs)[1]
    second = gru_jax.gru_unroll(stack.layers[1], gru_jax.zero_state(stack.layers[1], (B,)), first)
    assert_close(
        gru_jax.gru_stack_unroll(stack, None, xs, residual=True)[1], first + second[1], rtol=1e-5
    )


def plain(params, h0, xs, scale, unit_mask):
    """`gru_unroll` with both kinds of noise, written out in JAX."""
    size = params.hidden_size
    outputs, h = [], h0
    for x, happens in zip(xs, unit_mask, strict=True):
        a, b = x @ params.w_x, params.b[None]
        held = h * scale
        u = held @ params.w_h
        z, r = (jax.nn.sigmoid((a + u + b)[:, i * size : (i + 1) * size]) for i in (0, 1))
        a_n = (a + b)[:, 2 * size :]
        if params.reset == "before":
            n = jnp.tanh(a_n + (r * held) @ params.w_h[:, 2 * size :])
        else:
            n = jnp.tanh(a_n + r * (u[:, 2 * size :] + params.b_hn[None]))
        h = jnp.where(happens, (1 - z) * h + z * n, h)
        outputs.append(h)
    return h, jnp.stack(outputs)


@RESETS
@pytest.mark.parametrize("save", ["gates", "states", "chunks"])
def test_noise_in_the_fast_recurrence(reset, save):
    """Values and gradients, against the plain loop."""
    params = random_params(reset=reset)
    h0, xs = random_inputs()
    rng = np.random.default_rng(3)
    scale = jnp.asarray(rng.integers(0, 2, h0.shape) * 2, jnp.float32)
    unit_mask = jnp.asarray(rng.random((T, *h0.shape)) < 0.6)

    def loss(run, *arguments):
        h_last, hs = run(*arguments)
        weights = jnp.sin(jnp.arange(hs.size, dtype=hs.dtype).reshape(hs.shape))
        return jnp.sum(weights * hs) + jnp.sum(h_last**2)

    def fast(params, h0, xs):
        return gru_jax.gru_unroll(params, h0, xs, save=save, state_scale=scale, unit_mask=unit_mask)

    def slow(params, h0, xs):
        return plain(params, h0, xs, scale, unit_mask)

    actual, expected = (
        jax.jit(jax.value_and_grad(lambda *a, run=run: loss(run, *a), argnums=(0, 1, 2)))(
            params, h0, xs
        )
        for run in (fast, slow)
    )
    assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def gradient_of_inputs(stack, xs, **noise):
    return jax.grad(lambda xs: jnp.sum(gru_jax.gru_stack_unroll(stack, None, xs, **noise)[1]))(xs)


def test_input_dropout_is_drawn_once_for_all_steps():
    stack, _ = random_stack(bidirectional=False, sizes=(7,))
    _, xs = random_inputs(steps=20)
    dropped = gradient_of_inputs(stack, xs, input_dropout=0.5, key=jax.random.key(0)) == 0
    assert jnp.all(dropped == dropped[:1])
    assert 0 < jnp.mean(dropped) < 1


def test_dropout_is_drawn_at_each_step_and_not_for_the_first_layer():
    identity = jnp.eye(3, 9, k=6) * 100  # the first layer puts out sign(x) where z is near one
    stack = GRUStack(
        (
            gru_jax.GRUParams(identity, jnp.zeros((3, 9)), jnp.repeat(jnp.array([50.0, 0, 0]), 3)),
            gru_jax.GRUParams(
                identity / 1e4, jnp.zeros((3, 9)), jnp.repeat(jnp.array([50.0, 0, 0]), 3)
            ),
        )
    )
    xs = jnp.ones((40, 25, 3))
    _, hs = gru_jax.gru_stack_unroll(stack, None, xs, dropout=0.25, key=jax.random.key(0))
    values = np.unique(np.round(hs, 5))
    np.testing.assert_allclose(values, [0, np.tanh(0.01 / 0.75)], atol=2e-5)
    assert abs(float(jnp.mean(hs == 0)) - 0.25) < 0.03  # 3000 draws, σ = 0.008
    assert jnp.any(hs[0] != hs[1])


def test_recurrent_dropout_and_zoneout():
    stack, h0s = random_stack(bidirectional=False, sizes=(50,))
    _, xs = random_inputs(steps=20)
    key = jax.random.key(0)
    whole = gru_jax.gru_stack_unroll(stack, h0s, xs)[1]
    dropped = gru_jax.gru_stack_unroll(stack, h0s, xs, recurrent_dropout=0.3, key=key)[1]
    assert jnp.max(jnp.abs(dropped - whole)) > 0.01
    _, kept = gru_jax.gru_stack_unroll(stack, h0s, xs, zoneout=0.3, key=key)
    unchanged = jnp.mean(kept[1:] == kept[:-1])
    assert abs(float(unchanged) - 0.3) < 0.03  # 3800 draws, σ = 0.0075
    for noise in ({"input_dropout": 0.3}, {"recurrent_dropout": 0.3}):
        assert_close(gru_jax.gru_stack_unroll(stack, h0s, xs, **noise)[1], whole, rtol=0, atol=0)


def test_zoneout_evaluates_to_its_expectation():
    stack, h0s = random_stack(bidirectional=False, sizes=(7,))
    h0, xs = h0s[0], random_inputs()[1]
    _, hs = gru_jax.gru_stack_unroll(stack, h0s, xs, zoneout=0.25)
    h = h0
    for x, actual in zip(xs, hs, strict=True):
        h = 0.25 * h + 0.75 * gru_jax.gru_step(stack.layers[0], h, x)
        assert_close(actual, h)


def test_the_key_decides_and_directions_differ():
    params = random_params()
    stack = GRUStack((Bidirectional(params, params),))
    _, xs = random_inputs(steps=1)
    noise = {"recurrent_dropout": 0.5, "zoneout": 0.5}
    h0s = (Bidirectional(jnp.ones((B, 7)), jnp.ones((B, 7))),)
    run = jax.jit(lambda key: gru_jax.gru_stack_unroll(stack, h0s, xs, **noise, key=key)[1])
    first, again, other = run(jax.random.key(0)), run(jax.random.key(0)), run(jax.random.key(1))
    assert jnp.array_equal(first, again)
    assert not jnp.array_equal(first, other)
    assert not jnp.array_equal(*jnp.split(first, 2, axis=-1))


def products_in_loops(jaxpr, inside=False):
    """The shapes of what products inside scans give, in a jaxpr and all below it."""
    shapes = []
    for equation in jaxpr.eqns:
        if inside and equation.primitive.name == "dot_general":
            shapes.append(equation.outvars[0].aval.shape)
        loop = inside or equation.primitive.name == "scan"
        for below in jaxprs_in_params(equation.params):
            shapes += products_in_loops(below, loop)
    return shapes


def test_noise_keeps_the_fast_recurrence():
    """One product per step, forwards and backwards, and none of a weight's gradient."""
    stack, h0s = random_stack("after", bidirectional=False, sizes=(7,))
    _, xs = random_inputs()
    noise = {"recurrent_dropout": 0.5, "zoneout": 0.5, "input_dropout": 0.5}

    def loss(stack, **noise):
        return jnp.sum(gru_jax.gru_stack_unroll(stack, h0s, xs, **noise)[1])

    quiet, noisy = (
        products_in_loops(jax.make_jaxpr(jax.grad(lambda s, kw=kw: loss(s, **kw)))(stack).jaxpr)
        for kw in ({}, {**noise, "key": jax.random.key(0)})
    )
    assert sorted(quiet) == sorted(noisy)
    assert len(noisy) == 2


def test_an_ensemble_by_vmap():
    keys = jax.random.split(jax.random.key(0), 3)
    stacks = jax.vmap(lambda key: gru_jax.init_gru_stack(key, I, SIZES, bidirectional=True))(keys)
    _, xs = random_inputs()
    together = jax.vmap(lambda stack: gru_jax.gru_stack_unroll(stack, None, xs)[1])(stacks)
    for i in range(3):
        stack = row_of(stacks, i)
        assert_close(together[i], gru_jax.gru_stack_unroll(stack, None, xs)[1])


def test_bfloat16_layers_with_a_float32_state():
    stack, h0s = random_stack()
    stack16 = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), stack)
    _, xs = random_inputs()
    h_lasts, hs = gru_jax.gru_stack_unroll(stack16, h0s, xs.astype(jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves((h_lasts, hs))} == {jnp.dtype("float32")}
    # bfloat16 has 8 bits; two layers' products
    assert_close(hs, gru_jax.gru_stack_unroll(stack, h0s, xs)[1], rtol=0, atol=5e-2)


def test_initialisation():
    stack = gru_jax.init_gru_stack(
        jax.random.key(0), I, (7, 6), bidirectional=True, reset="after", preset="torch"
    )
    assert [layer.forward.w_x.shape for layer in stack.layers] == [(I, 21), (14, 18)]
    assert not jnp.array_equal(stack.layers[0].forward.w_h, stack.layers[0].backward.w_h)
    assert stack.layers[1].backward.reset == "after"


def test_equal_layers_by_scan():
    """Layers of one size, stacked along an axis of their own, are scanned over."""
    keys = jax.random.split(jax.random.key(0), 3)
    layers = jax.vmap(lambda key: gru_jax.init_gru(key, 7, 7))(keys)
    _, xs = random_inputs(inputs=7)
    h0 = jnp.zeros((B, 7))
    hs, _ = jax.lax.scan(lambda xs, p: (gru_jax.gru_unroll(p, h0, xs)[1], None), xs, layers)
    stack = GRUStack(tuple(row_of(layers, i) for i in range(3)))
    assert_close(hs, gru_jax.gru_stack_unroll(stack, None, xs)[1])


SHARDED = """
import jax, jax.numpy as jnp, numpy as np, gru_jax
from jax.sharding import NamedSharding, PartitionSpec as P

jax.config.update("jax_num_cpu_devices", 2)
mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
stack = gru_jax.init_gru_stack(jax.random.key(0), 3, (7, 6), bidirectional=True)
xs = jax.random.normal(jax.random.key(1), (5, 4, 3))
h0s = gru_jax.zero_state(stack, (4,))
gradient = jax.jit(jax.value_and_grad(
    lambda stack, h0s, xs: jnp.sum(gru_jax.gru_stack_unroll(stack, h0s, xs)[1] ** 2)
))
expected = gradient(stack, h0s, xs)
put = lambda tree, *axes: jax.device_put(tree, NamedSharding(mesh, P(*axes)))
sharded = put(stack), put(h0s, "batch"), put(xs, None, "batch")
assert "all-gather" not in gradient.lower(*sharded).compile().as_text()
close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
jax.tree.map(close, gradient(*sharded), expected)
"""


def test_sharded_equals_unsharded():
    subprocess.run([sys.executable, "-c", SHARDED], check=True)


def test_safetensors_round_trip(tmp_path):
    """As the README has it."""
    safetensors = pytest.importorskip("safetensors.numpy")
    stack, _ = random_stack()
    leaves, structure = jax.tree_util.tree_flatten_with_path(stack)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    assert names[0] == "layers.0.forward.w_x"
    arrays = {name: np.asarray(leaf) for name, (_, leaf) in zip(names, leaves, strict=True)}
    safetensors.save_file(arrays, tmp_path / "stack.safetensors")
    arrays = safetensors.load_file(tmp_path / "stack.safetensors")
    restored = jax.tree.unflatten(structure, [jnp.asarray(arrays[name]) for name in names])
    assert_close(restored, stack, rtol=0, atol=0)


def test_orbax_round_trip(tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint")
    stack, _ = random_stack()
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "stack", stack)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "stack", jax.tree.map(jnp.zeros_like, stack))
    assert jax.tree.structure(restored) == jax.tree.structure(stack)
    assert_close(restored, stack, rtol=0, atol=0)


STACK, H0S = random_stack()
ONE_WAY, _ = random_stack(bidirectional=False)
XS = random_inputs()[1]
KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gru_jax.init_gru_stack(KEY, 3, ()), "hidden_sizes is empty"),
        (lambda: gru_jax.gru_stack_step(STACK, None, XS[0]), "bidirectional layer"),
        (lambda: gru_jax.gru_stack_unroll(STACK, H0S[:1], XS), "h0s has 1 states"),
        (
            lambda: gru_jax.gru_stack_unroll(STACK, [H0S[0], H0S[1].forward], XS),
            r"h0s\[1\] is a ArrayImpl, but layer 1 is a Bidirectional",
        ),
        (lambda: gru_jax.gru_stack_unroll(STACK, None, XS, dropout=1.0), r"dropout is 1.0"),
        (
            lambda: gru_jax.gru_stack_unroll(GRUStack(STACK.layers[:1]), None, XS, dropout=0.1),
            "dropout is 0.1, but must be 0 with a single layer",
        ),
        (lambda: gru_jax.gru_stack_unroll(STACK, None, XS, zoneout=-0.1), r"zoneout is -0.1"),
        (lambda: gru_jax.gru_stack_unroll(STACK, None, XS, residual=True), "residual is True"),
        (lambda: gru_jax.gru_stack_unroll(STACK, None, XS[..., :2]), "xs has shape"),
        (lambda: gru_jax.gru_stack_unroll(STACK, None, XS.astype(int)), "xs is int32"),
        (lambda: gru_jax.gru_stack_step(ONE_WAY, None, XS[0].astype(int)), "x is int32"),
        (lambda: gru_jax.gru_stack_unroll(STACK, None, XS, mask=jnp.ones((B, T), bool)), "mask"),
        (
            lambda: gru_jax.gru_stack_unroll(
                ONE_WAY, None, XS, step=lambda params, h, x: h, zoneout=0.1
            ),
            "gru_step only",
        ),
        (
            lambda: gru_jax.gru_unroll(
                random_params(), *random_inputs(), state_scale=jnp.ones((7,))
            ),
            "state_scale has shape",
        ),
        (
            lambda: gru_jax.gru_unroll(
                random_params(), *random_inputs(), unit_mask=jnp.ones((T, B), bool)
            ),
            "unit_mask has shape",
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_error_names_its_layer():
    broken = GRUStack((STACK.layers[0], STACK.layers[0]))
    with pytest.raises(ValueError, match="xs has shape") as raised:
        gru_jax.gru_stack_unroll(broken, None, XS)
    assert raised.value.__notes__ == ["This is layer 1 of the stack."]
