"""Resets of single steps, and the state that a reset begins with, in every cell and layer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import B, H, T, assert_close, random_flags, random_inputs, random_params
from test_cells import randomised
from test_numbers import EACH, cell

import gru_jax

RESETS = random_flags(2)
MASK = random_flags(1, probability=0.7)


def fresh_state(params, batch, seed=5):
    return randomised(gru_jax.zero_state(params, batch), seed)


@EACH
@pytest.mark.parametrize("batch", [None, (), (B,)])
def test_a_step_resets_its_state(name, batch):
    """As purejaxrl's users write it by hand."""
    params, step, h, xs = cell(name)
    flags = RESETS[0]
    fresh = None if batch is None else fresh_state(params, batch)

    def by_hand(h, fresh):
        return jnp.where(flags[:, None], jnp.broadcast_to(fresh, h.shape), h)

    zeros = jax.tree.map(jnp.zeros_like, h)
    expected = step(params, jax.tree.map(by_hand, h, zeros if fresh is None else fresh), xs[0])
    assert_close(step(params, h, xs[0], resets=flags, reset_state=fresh), expected)


def looped(step, params, h, xs, *, fresh, mask, reverse):
    """One step at a time, with the step's own resets."""
    outputs = [None] * T
    for t in reversed(range(T)) if reverse else range(T):
        new = step(params, h, xs[t], resets=RESETS[t], reset_state=fresh)
        keep = jnp.ones(B, bool) if mask is None else mask[t]
        h = jax.tree.map(lambda n, o, keep=keep: jnp.where(keep[:, None], n, o), new, h)
        outputs[t] = jax.tree.map(lambda n, keep=keep: jnp.where(keep[:, None], n, 0 * n), new)
    return h, jax.tree.map(lambda *steps: jnp.stack(steps), *outputs)


def weighted(result):
    h_last, hs = result
    return sum(
        jnp.sum(jnp.sin(jnp.arange(leaf.size, dtype=leaf.dtype).reshape(leaf.shape)) * leaf)
        for leaf in jax.tree.leaves((h_last, hs))
    )


@EACH
@pytest.mark.parametrize(
    ("batch", "reverse", "mask"), [((), False, None), ((B,), False, MASK), ((), True, MASK)]
)
def test_a_learned_state_at_resets(name, batch, reverse, mask):
    """Values, and gradients with respect to everything, of `unroll` and of the fast paths."""
    params, step, h0, xs = cell(name)
    fresh = fresh_state(params, batch)
    runs = [partial(gru_jax.unroll, step)]
    if name.startswith("gru"):
        runs += [partial(gru_jax.gru_unroll, save=save) for save in ("gates", "states", "chunks")]
    if name == "min_gru":
        runs.append(gru_jax.min_gru_unroll)

    def loss(run, params, h0, xs, fresh):
        keywords = {"mask": mask, "reverse": reverse}
        if run is looped:
            return weighted(looped(step, params, h0, xs, fresh=fresh, **keywords))
        return weighted(run(params, h0, xs, resets=RESETS, reset_state=fresh, **keywords))

    def gradients(run):
        return jax.jit(jax.value_and_grad(partial(loss, run), argnums=(0, 1, 2, 3)))(
            params, h0, xs, fresh
        )

    expected = gradients(looped)
    for run in runs:
        assert_close(gradients(run), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reset", ["before", "after"])
def test_derivatives_of_every_order_of_the_learned_state(reset):
    with jax.enable_x64(True):
        params = random_params(reset=reset, dtype=np.float64)
        h0, xs = random_inputs(dtype=np.float64)
        fresh = jnp.linspace(-1, 1, H)
        runs = gru_jax.gru_unroll, partial(gru_jax.unroll, gru_jax.gru_step)

        def loss(run, fresh, w_h):
            changed = gru_jax.GRUParams(**vars(params) | {"w_h": w_h})
            return weighted(run(changed, h0, xs, resets=RESETS, reset_state=fresh))

        for transform in (jax.hessian, lambda f: jax.jacfwd(jax.jacrev(f, 1), 0)):
            actual, expected = (transform(partial(loss, run))(fresh, params.w_h) for run in runs)
            assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def test_vmap_over_the_learned_state():
    params = random_params()
    h0, xs = random_inputs()
    states = jnp.stack([jnp.full(H, 0.5), jnp.linspace(-1, 1, H)])
    run = partial(gru_jax.gru_unroll, params)

    def one(h0, xs, resets, state):
        return run(h0, xs, resets=resets, reset_state=state)[1]

    shared = jax.vmap(one, in_axes=(0, 1, 1, None), out_axes=1)(h0, xs, RESETS, states[0])
    assert_close(shared, one(h0, xs, RESETS, states[0]))
    mapped = jax.vmap(one, in_axes=(None, None, None, 0))(h0, xs, RESETS, states)
    assert_close(mapped, jnp.stack([one(h0, xs, RESETS, state) for state in states]))
    rows = jax.vmap(one, in_axes=(0, 1, 1, 0), out_axes=1)
    state = jnp.stack([states[0]] * B)
    assert_close(rows(h0, xs, RESETS, state), one(h0, xs, RESETS, state))


@pytest.mark.parametrize("zoneout", [0.0, 0.2])
@EACH
def test_stacks(name, zoneout):
    """A stack streams what it unrolls, from the learned states of its layers."""
    if zoneout and not name.startswith("gru"):
        pytest.skip("zoneout is for the GRU")
    params, step, _, xs = cell(name)
    above = type(params)(**vars(params) | {"w_x": jnp.resize(params.w_x, (H, params.w_x.shape[1]))})
    stack = gru_jax.GRUStack((params, above))
    fresh = fresh_state(params, (), 1), fresh_state(params, (B,), 2)
    keywords = {"step": step, "zoneout": zoneout, "reset_state": fresh}
    h_lasts, hs = gru_jax.gru_stack_unroll(stack, None, xs, resets=RESETS, **keywords)
    states = None
    for t in range(T):
        states, y = gru_jax.gru_stack_step(stack, states, xs[t], resets=RESETS[t], **keywords)
        assert_close(y, hs[t], atol=1e-5)
    assert_close(states, h_lasts, atol=1e-5)
    only_one = gru_jax.gru_stack_unroll(
        stack, None, xs, resets=RESETS, step=step, reset_state=(None, fresh[1])
    )
    assert jnp.all(jnp.isfinite(only_one[1]))


def test_both_directions_have_a_state_each():
    """Each episode of a row equals the row that begins there with the learned states."""
    stack = gru_jax.init_gru_stack(jax.random.key(0), 3, (H,), bidirectional=True)
    xs = random_inputs()[1]
    fresh = gru_jax.Bidirectional(jnp.full(H, 0.5), jnp.linspace(-1, 1, H))
    resets = jnp.zeros((T, B), bool).at[jnp.array([0, 2])].set(True)
    _, hs = gru_jax.gru_stack_unroll(stack, None, xs, resets=resets, reset_state=(fresh,))
    ones = jax.tree.map(lambda state: jnp.broadcast_to(state, (B, H)), fresh)
    _, first = gru_jax.gru_stack_unroll(stack, (ones,), xs[:2])
    start = gru_jax.Bidirectional(ones.forward, jnp.zeros((B, H)))
    _, second = gru_jax.gru_stack_unroll(stack, (start,), xs[2:])
    assert_close(hs, jnp.concatenate([first, second]))


@EACH
def test_no_first_state_is_zeros(name):
    params, step, h0, xs = cell(name)
    zeros = jax.tree.map(jnp.zeros_like, h0)
    runs = [partial(gru_jax.unroll, step)]
    if name.startswith(("gru", "min")):
        runs.append(gru_jax.min_gru_unroll if name == "min_gru" else gru_jax.gru_unroll)
    for run in runs:
        for steps in (T, 0):
            actual, expected = (run(params, h, xs[:steps]) for h in (None, zeros))
            assert_close(actual, expected, rtol=0, atol=0)
    one_row = gru_jax.unroll(step, params, None, xs[:, 0])[0]
    assert jax.tree.leaves(one_row)[0].shape == (H,)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"reset_state": jnp.zeros(H)}, "reset_state is given, but resets is None"),
        ({"resets": RESETS, "reset_state": jnp.zeros(3)}, r"reset_state has shape \(3,\)"),
        ({"resets": RESETS, "reset_state": jnp.zeros((1, H))}, r"reset_state has shape \(1, 7\)"),
        ({"resets": RESETS, "reset_state": jnp.zeros(H, int)}, "reset_state is int32, but must be"),
        ({"resets": RESETS, "reset_state": "zeros"}, "reset_state is a str, but must be an array"),
        ({"resets": RESETS, "reset_state": (jnp.zeros(H),)}, "reset_state is a tuple, but must be"),
        ({"resets": RESETS[0]}, r"resets has shape \(4,\), but must have \(5, 4\)"),
    ],
)
@pytest.mark.parametrize("run", [gru_jax.gru_unroll, partial(gru_jax.unroll, gru_jax.gru_step)])
def test_refusals(run, keywords, message):
    with pytest.raises(ValueError, match=message):
        run(random_params(), *random_inputs(), **keywords)


@EACH
def test_refusals_of_a_step(name):
    params, step, h, xs = cell(name)
    with pytest.raises(ValueError, match=r"resets has shape \(5, 4\), but must have \(4,\) = "):
        step(params, h, xs[0], resets=RESETS)
    with pytest.raises(ValueError, match="resets is int32, but must be bool"):
        step(params, h, xs[0], resets=RESETS[0].astype(int))
