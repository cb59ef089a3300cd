"""Stacks of layers and directions: the NumPy oracle, streaming, residuals, states, what raises."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from common import (
    B,
    I,
    T,
    as_float64,
    assert_close,
    random_flags,
    random_inputs,
    random_params,
    random_stack,
)

import gru_jax
from gru_jax import Bidirectional, GRUStack

RESETS = pytest.mark.parametrize("reset", ["before", "after"])


run = jax.jit(
    gru_jax.gru_stack_unroll,
    static_argnames=("residual", "dropout", "input_dropout", "recurrent_dropout", "zoneout"),
)


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
def test_outputs_match_oracle(reset, bidirectional, seed):
    """Masks with holes, resets inside and next to them, in both directions."""
    stack, h0s = random_stack(reset, bidirectional)
    _, xs = random_inputs(steps=9)
    mask, resets = random_flags(seed, steps=9, probability=0.7), random_flags(9 + seed, steps=9)
    actual = run(stack, h0s, xs, mask=mask, resets=resets)
    wide = as_float64((stack, h0s, xs))
    assert_close(actual, oracle_stack(*wide, np.asarray(mask), np.asarray(resets)), atol=5e-6)


def test_jit_matches_eager():
    stack, h0s = random_stack()
    _, xs = random_inputs()
    keywords = {"mask": random_flags(1), "resets": random_flags(2)}
    eager = gru_jax.gru_stack_unroll(stack, h0s, xs, **keywords)
    assert_close(run(stack, h0s, xs, **keywords), eager)


def row_of(tree, row):
    return jax.tree.map(lambda leaf: leaf[row], tree)


def test_padded_rows_match_shorter_rows():
    stack, h0s = random_stack()
    _, xs = random_inputs()
    lengths = np.array([5, 3, 1, 0])
    h_lasts, hs = run(stack, h0s, xs, mask=gru_jax.sequence_mask(lengths, T))
    for row, length in enumerate(lengths):
        alone_lasts, alone = run(stack, row_of(h0s, row), xs[:length, row])
        assert_close(hs[:length, row], alone)
        assert_close(row_of(h_lasts, row), alone_lasts)
        assert not jnp.any(hs[length:, row])


def test_packed_episodes_match_separate_sequences():
    stack, _ = random_stack()
    _, xs = random_inputs(steps=8)
    resets = jnp.zeros((8, B), bool).at[3].set(True)
    _, packed = run(stack, None, xs, resets=resets)
    first = run(stack, None, xs[:3])[1]
    second = run(stack, None, xs[3:])[1]
    assert_close(packed, jnp.concatenate([first, second]))


def test_first_states_of_none_are_zeros():
    stack, h0s = random_stack()
    _, xs = random_inputs()
    zeros = gru_jax.zero_state(stack, (B,))
    chex.assert_trees_all_equal_shapes_and_dtypes(zeros, h0s)
    expected = run(stack, zeros, xs)
    assert_close(run(stack, None, xs), expected, rtol=0, atol=0)
    assert_close(run(stack, [None, zeros[1]], xs), expected, rtol=0, atol=0)


@pytest.mark.parametrize(("residual", "zoneout"), [(False, 0.0), (True, 0.0), (True, 0.3)])
def test_streaming_matches_unroll(residual, zoneout):
    stack, h0s = random_stack(bidirectional=False, sizes=(7, 7))
    _, xs = random_inputs()
    h_lasts, hs = run(stack, h0s, xs, residual=residual, zoneout=zoneout)
    step = jax.jit(partial(gru_jax.gru_stack_step, residual=residual, zoneout=zoneout))
    states, ys = h0s, []
    for x in xs:
        states, y = step(stack, states, x)
        ys.append(y)
    assert_close((states, jnp.stack(ys)), (h_lasts, hs))


def test_residual_connections():
    stack, _ = random_stack(bidirectional=False, sizes=(7, 7))
    _, xs = random_inputs()
    first = gru_jax.gru_unroll(stack.layers[0], gru_jax.zero_state(stack.layers[0], (B,)), xs)[1]
    second = gru_jax.gru_unroll(stack.layers[1], gru_jax.zero_state(stack.layers[1], (B,)), first)
    assert_close(run(stack, None, xs, residual=True)[1], first + second[1], rtol=1e-5)


def test_vmap_over_stacks_matches_a_loop():
    keys = jax.random.split(jax.random.key(0), 3)
    init = partial(gru_jax.init_gru_stack, input_size=I, hidden_sizes=(7, 6), bidirectional=True)
    stacks = jax.jit(jax.vmap(init))(keys)
    _, xs = random_inputs()
    mapped = jax.jit(jax.vmap(lambda stack: gru_jax.gru_stack_unroll(stack, None, xs)[1]))(stacks)
    for i in range(3):
        assert_close(mapped[i], run(row_of(stacks, i), None, xs)[1])


def test_mixed_precision():
    stack, h0s = random_stack()
    stack16 = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), stack)
    _, xs = random_inputs()
    h_lasts, hs = run(stack16, h0s, xs.astype(jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves((h_lasts, hs))} == {jnp.dtype("float32")}
    # bfloat16 has 8 bits; two layers' products
    assert_close(hs, run(stack, h0s, xs)[1], rtol=0, atol=5e-2)


def test_init():
    stack = gru_jax.init_gru_stack(
        jax.random.key(0), I, (7, 6), bidirectional=True, reset="after", preset="torch"
    )
    assert [layer.forward.w_x.shape for layer in stack.layers] == [(I, 21), (14, 18)]
    assert not jnp.array_equal(stack.layers[0].forward.w_h, stack.layers[0].backward.w_h)
    assert stack.layers[1].backward.reset == "after"


def test_scan_over_layers_of_one_size():
    """Layers of one size, stacked along an axis of their own, are scanned over."""
    keys = jax.random.split(jax.random.key(0), 3)
    layers = jax.jit(jax.vmap(partial(gru_jax.init_gru, input_size=7, hidden_size=7)))(keys)
    _, xs = random_inputs(inputs=7)
    h0 = jnp.zeros((B, 7))
    hs, _ = jax.lax.scan(lambda xs, p: (gru_jax.gru_unroll(p, h0, xs)[1], None), xs, layers)
    stack = GRUStack(tuple(row_of(layers, i) for i in range(3)))
    assert_close(hs, run(stack, None, xs)[1])


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
def test_wrong_arguments_raise(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_error_names_the_layer():
    broken = GRUStack((STACK.layers[0], STACK.layers[0]))
    with pytest.raises(ValueError, match="xs has shape") as raised:
        gru_jax.gru_stack_unroll(broken, None, XS)
    assert raised.value.__notes__ == ["This is layer 1 of the stack."]
