"""The seams of `gru_jax.recurrence`: cells of any state, implementations per platform, tuning."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import B, H, I, T, assert_close, random_flags, random_inputs, random_params
from jax.test_util import check_grads
from lstm_fast_path import LSTM

import gru_jax
from gru_jax.recurrence import accelerators, cpu, fast_path, platforms, scan
from gru_jax.recurrence.interface import Implementation, Unsupported
from gru_jax.recurrence.options import Options
from gru_jax.recurrence.unroll import Flags, fast_unroll

RESETS = pytest.mark.parametrize("reset", ["before", "after"])


def lstm_problem(dtype=np.float32, batch=(B,)):
    params = gru_jax.init_lstm(jax.random.key(0), I, H, dtype=dtype)
    h, xs = random_inputs(dtype=dtype, batch=batch)
    return params, gru_jax.LSTMState(h, h[..., ::-1]), xs


def lstm_unroll(params, state, xs, mask=None, resets=None, **options):
    flags = Flags(mask, resets, None, None, None)
    return fast_unroll(LSTM, params, state, xs, flags, Options(**options))


def weighted(unroll, params, state, xs, **keywords):
    """A sum that weighs every output differently."""
    leaves = jax.tree.leaves(unroll(params, state, xs, **keywords))
    return sum(
        jnp.sum(jnp.sin(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape) * x) for x in leaves
    )


@pytest.mark.parametrize("save", ["gates", "states", "chunks"])
@pytest.mark.parametrize("reverse", [False, True])
def test_cell_with_a_pytree_state_matches_plain_scan(save, reverse):
    problem = lstm_problem()
    flags = {"mask": random_flags(1), "resets": random_flags(2), "reverse": reverse}
    fast = partial(lstm_unroll, save=save)
    plain = partial(gru_jax.unroll, gru_jax.lstm_step)
    actual, expected = (
        jax.jit(jax.value_and_grad(partial(weighted, run, **flags), argnums=(0, 1, 2)))(*problem)
        for run in (fast, plain)
    )
    assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_second_derivatives_of_a_cell_with_a_pytree_state():
    with jax.enable_x64(True):
        problem = lstm_problem(np.float64)
        function = jax.jit(partial(weighted, lstm_unroll, mask=random_flags(1)))
        check_grads(function, problem, order=2, modes=("fwd", "rev"), rtol=1e-5, atol=1e-5)


def test_vmap_of_a_cell_with_a_pytree_state_is_one_more_batch_axis():
    params, state, xs = lstm_problem()
    h_axes, x_axis = gru_jax.LSTMState(0, 0), 1
    states_axes = gru_jax.LSTMState(1, 1)
    mapped = jax.vmap(lstm_unroll, in_axes=(None, h_axes, x_axis), out_axes=(h_axes, states_axes))

    def program(run):
        return str(jax.make_jaxpr(jax.grad(partial(weighted, run)))(params, state, xs))

    assert_close(mapped(params, state, xs), lstm_unroll(params, state, xs))
    assert program(mapped) == program(lstm_unroll)


# A new implementation, such as a kernel in its simulator, is one more row.
IMPLEMENTATIONS = {
    "accelerators": accelerators.SCAN,
    "tuned for CPU": cpu.tuned(),
    **{f"without {x}": cpu.tuned(cpu.ALL._replace(**{x: False})) for x in cpu.Tuning._fields},
}


@RESETS
def test_implementations_match_the_plain_scan(reset):
    """A single row of a large state, in three chunks: every item of the tuning acts."""
    hidden = 256
    params = random_params(reset=reset, hidden=hidden)
    h0, xs = random_inputs(batch=(1,), hidden=hidden, steps=5 * 2**16 // hidden)

    def run(implementation):
        with platforms.replaced("cpu", implementation):
            loss = jax.jit(jax.value_and_grad(lambda *args: jnp.mean(unroll(*args)[1] ** 2)))
            lowered = loss.lower(params, h0, xs)
            return lowered.compile()(params, h0, xs), lowered.as_text()

    unroll = gru_jax.gru_unroll
    expected, plain = run(scan.SCAN)
    programs = {plain}
    for implementation in IMPLEMENTATIONS.values():
        actual, program = run(implementation)
        assert_close(actual, expected, rtol=1e-4, atol=1e-6)  # sums of 768 terms in another order
        programs.add(program)
    assert len(programs) == 1 + len(IMPLEMENTATIONS)


def test_other_platforms_run_the_scan_for_accelerators():
    params = random_params(reset="after")
    h0, xs = random_inputs()
    gradient = jax.jit(jax.grad(lambda params: jnp.sum(gru_jax.gru_unroll(params, h0, xs)[1])))
    texts = {
        platform: gradient.trace(params).lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "cuda", "tpu")
    }
    with platforms.replaced("cpu", accelerators.SCAN):
        same = gradient.trace(params).lower(lowering_platforms=("cpu",)).as_text()
    counts = {name: text.count("dot_general") for name, text in texts.items()}
    assert counts["cuda"] == counts["tpu"] == same.count("dot_general") != counts["cpu"]


@pytest.mark.parametrize(
    ("steps", "reverse"),
    [(0, False), (7, True), (8, False), (9, True), (19, False), (24, True)],
)
def test_several_steps_per_iteration_are_those_one_by_one(steps, reverse):
    """With and without steps that are left, in a sequence shorter than an iteration, too."""
    problem = random_params(reset="after"), *random_inputs(steps=steps)
    mask = random_flags(1, steps=steps)

    def by(implementation):
        def loss(*arguments):
            return weighted(gru_jax.gru_unroll, *arguments, mask=mask, reverse=reverse)

        with platforms.replaced("cpu", implementation):
            return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(*problem)

    assert_close(by(accelerators.SCAN), by(scan.SCAN), rtol=1e-5, atol=1e-5)


def test_unsupported_arguments_fall_back_to_the_plain_scan():
    def refuse(*args):
        raise Unsupported

    params = random_params()
    h0, xs = random_inputs()
    expected = gru_jax.gru_unroll(params, h0, xs)
    with platforms.replaced("cpu", Implementation(refuse, refuse)):
        assert_close(gru_jax.gru_unroll(params, h0, xs), expected)
        gradient = jax.grad(lambda params: jnp.sum(gru_jax.gru_unroll(params, h0, xs)[1]))(params)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


@RESETS
@pytest.mark.parametrize("save", ["gates", "states", "chunks"])
def test_expected_zoneout_matches_a_mixed_step(reset, save):
    params = random_params(reset=reset)
    problem = params, *random_inputs()
    flags = {"mask": random_flags(1), "resets": random_flags(2)}

    def mixed(params, h, x):
        return 0.3 * h + 0.7 * gru_jax.gru_step(params, h, x)

    fast = partial(gru_jax.gru_unroll, zoneout=0.3, save=save)
    actual, expected = (
        jax.jit(jax.value_and_grad(partial(weighted, run, **flags), argnums=(0, 1, 2)))(*problem)
        for run in (fast, partial(gru_jax.unroll, mixed))
    )
    assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_zoneout_is_refused_outside_its_range():
    h0, xs = random_inputs()
    with pytest.raises(
        ValueError, match=r"zoneout is 1.0, but must be a Python number in \[0, 1\)"
    ):
        gru_jax.gru_unroll(random_params(), h0, xs, zoneout=1.0)


@pytest.mark.parametrize(
    "wrap",
    [lambda f: f, jax.jit, partial, lambda f: partial(jax.jit(f)), lambda f: jax.jit(partial(f))],
    ids=["plain", "jit", "partial", "partial of jit", "jit of partial"],
)
@pytest.mark.parametrize("name", ["gru", "min_gru"])
def test_fast_path_of_a_wrapped_step(name, wrap):
    step, expected = getattr(gru_jax, f"{name}_step"), getattr(gru_jax, f"{name}_unroll")
    path = fast_path(wrap(step))
    assert path is not None
    assert path.unroll is expected


def test_steps_without_a_fast_path():
    bound = partial(gru_jax.gru_step, resets=jnp.zeros(B, bool))
    for step in (gru_jax.lstm_step, bound, lambda params, h, x: h):
        assert fast_path(step) is None


def test_stack_of_min_grus_has_no_loop_over_time():
    stack = gru_jax.init_gru_stack(jax.random.key(0), I, (H, H), init=gru_jax.init_min_gru)
    run = partial(gru_jax.gru_stack_unroll, step=gru_jax.min_gru_step)
    program = str(jax.make_jaxpr(run)(stack, None, jnp.ones((T, B, I))))
    assert "scan[" not in program
