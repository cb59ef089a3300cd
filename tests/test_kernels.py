"""The kernels in their simulators, against the plain scan, and what they refuse.

A new kernel is one more row of KERNELS, and one of the contract, which runs over the kernels, too,
by `-m simulator`.
"""

from functools import partial
from unittest import mock

import gpu_simulator
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import (
    assert_close,
    random_flags,
    random_inputs,
    random_params,
    random_stack,
    weighted_sum,
)
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P
from lstm_fast_path import LSTM

import gru_jax
from gru_jax.recurrence import platforms, tpu
from gru_jax.recurrence.options import Options
from gru_jax.recurrence.unroll import Flags, fast_unroll

KERNELS = {
    "tpu": pytest.param(tpu.implementation(interpret=True)),
    "gpu": pytest.param(gpu_simulator.IMPLEMENTATION, marks=gpu_simulator.needs_jax),
}
each_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
tpu_kernel = pytest.mark.parametrize("kernel", [KERNELS["tpu"]], ids=["tpu"])

ROUNDING = {"rtol": 2e-5, "atol": 2e-5}  # sums of as many products in another order


def problem(reset, *, steps=7, rows=3, inputs=3, hidden=5, dtype=np.float32):
    params = random_params(reset=reset, inputs=inputs, hidden=hidden, dtype=dtype)
    h0, xs = random_inputs(steps=steps, batch=(rows,), inputs=inputs, hidden=hidden, dtype=dtype)
    return params, h0.astype(jnp.float32), xs


def flags(*names, steps=7, rows=3, hidden=5):
    values = {
        "mask": random_flags(1, steps=steps, batch=(rows,)),
        "resets": random_flags(2, steps=steps, batch=(rows,)),
        "unit_mask": random_flags(3, steps=steps, batch=(rows, hidden)),
        "state_scale": 2 * random_flags(4, steps=rows, batch=(hidden,)).astype(jnp.float32),
    }
    return {name: values[name] for name in names}


def loss(params, h0, xs, fresh=None, **keywords):
    """A sum that weighs every output differently."""
    given = {} if fresh is None else {"reset_state": fresh}
    return weighted_sum(gru_jax.gru_unroll(params, h0, xs, **given, **keywords))


def gradients(*arguments, function=loss, **keywords):
    """With respect to all arguments."""
    everything = tuple(range(len(arguments)))
    return jax.jit(jax.value_and_grad(partial(function, **keywords), everything))(*arguments)


def by(kernel, run, *args, **keywords):
    """The results of a function of the `implementation` by the kernel, and by the scan."""
    expected = run(*args, implementation="scan", **keywords)
    with platforms.replaced("cpu", kernel):
        return run(*args, implementation="pallas", **keywords), expected


CASES = {
    "nothing": ("after", (), {}),
    "mask and resets": ("before", (np.ones((3, 5), np.float32),), flags("mask", "resets")),
    "reverse, states": (
        "after",
        (np.ones(5, np.float32),),
        flags("mask", "resets", "state_scale") | {"reverse": True, "save": "states"},
    ),
    "units, chunks": (
        "before",
        (),
        flags("resets", "unit_mask") | {"save": "chunks", "unroll": 3},
    ),
    "zoneout": ("after", (), flags("unit_mask") | {"zoneout": 0.3, "reverse": True}),
}


@each_kernel
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(kernel, case):
    reset, fresh, keywords = CASES[case]
    assert_close(*by(kernel, gradients, *problem(reset), *fresh, **keywords), **ROUNDING)


@tpu_kernel
@pytest.mark.parametrize(("reset", "reverse"), [("before", False), ("after", True)])
def test_several_tiles_of_rows_and_blocks_of_steps(kernel, reset, reverse):
    """Neither the last tile nor the last block is full."""
    sizes = {"steps": 19, "rows": 270, "hidden": 130}
    keywords = flags("mask", "resets", **sizes) | {"reverse": reverse}
    actual, expected = by(kernel, gradients, *problem(reset, **sizes), **keywords)
    assert_close(actual, expected, rtol=1e-4, atol=1e-3)  # sums over 5,130 rows and steps


@tpu_kernel
def test_a_cell_with_a_pytree_state(kernel):
    params = gru_jax.init_lstm(jax.random.key(0), 3, 5)
    h, xs = random_inputs(steps=7, batch=(3,), hidden=5)
    given = Flags(*flags("mask", "resets").values(), None, None, None)

    def of_lstm(params, state, xs, **options):
        return weighted_sum(fast_unroll(LSTM, params, state, xs, given, Options(**options)))

    arguments = params, gru_jax.LSTMState(h, h[..., ::-1]), xs
    assert_close(*by(kernel, gradients, *arguments, function=of_lstm), **ROUNDING)


@each_kernel
@pytest.mark.parametrize("sizes", [{"steps": 0}, {"rows": 0}], ids=["no steps", "no rows"])
def test_nothing_to_run_on(kernel, sizes):
    assert_close(*by(kernel, gradients, *problem("after", **sizes)))


@each_kernel
def test_second_derivatives(kernel):
    """Backpropagation through the tangents of the gradient."""
    params, h0, xs = problem("after")

    def along(h0, **keywords):
        gradient = jax.grad(lambda h0: loss(params, h0, xs, **keywords))
        return weighted_sum(jax.jvp(gradient, (h0,), (jnp.cos(h0),))[1])

    keywords = flags("mask", "resets")
    actual, expected = by(kernel, gradients, h0, function=along, **keywords)
    assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@each_kernel
def test_gradients_of_mapped_rows_and_of_mapped_cotangents(kernel):
    params, h0, xs = problem("after", rows=4)

    def both(implementation):
        unroll = partial(gru_jax.gru_unroll, params, implementation=implementation)
        of_row = jax.grad(lambda h0, xs: weighted_sum(unroll(h0, xs)), argnums=(0, 1))
        of_rows = jax.vmap(of_row, (0, 1), (0, 1))
        return jax.jit(lambda h0: (of_rows(h0, xs), jax.jacrev(lambda h0: unroll(h0, xs)[0])(h0)))

    def run(implementation):
        return both(implementation)(h0)

    assert_close(*by(kernel, run), **ROUNDING)


@each_kernel
def test_mixed_precision(kernel):
    """Weights and inputs in bfloat16, of 8 bits, which every product's operands are rounded to."""
    actual, expected = by(kernel, gradients, *problem("before", dtype=jnp.bfloat16))
    assert_close(actual, expected, rtol=3e-2, atol=3e-2)


def test_no_race_on_a_tpu():
    """Several tiles and blocks, of which the last are not full; memory is NaN until it is written.

    The last tile's rows beyond the batch hold what comes out of such memory.
    """
    from jax._src.pallas.mosaic.interpret import interpret_pallas_call as simulator

    simulated = tpu.implementation(interpret=pltpu.InterpretParams(detect_races=True))
    with mock.patch.multiple("gru_jax.recurrence.tpu_loop", ROWS=8, STEPS=2):
        sizes = {"steps": 5, "rows": 11}
        keywords = flags("mask", "resets", **sizes)
        actual, expected = by(simulated, gradients, *problem("after", **sizes), **keywords)
    assert_close(actual, expected, **ROUNDING)
    assert not simulator.races.races_found


@each_kernel
def test_pallas_runs_the_kernel_of_each_of_several_models(kernel):
    models = jax.tree.map(lambda w: jnp.stack([w, 2 * w]), random_params(hidden=5))
    h0, xs = random_inputs(steps=7, batch=(3,), hidden=5)

    def run(implementation):
        of_one = partial(loss, h0=h0, xs=xs, implementation=implementation)
        program = jax.jit(jax.vmap(jax.grad(of_one)))
        text = str(jax.make_jaxpr(program)(models))
        return program(models), text.count("pallas_call") + text.count("pure_callback")

    (actual, kernels), (expected, none) = by(kernel, run)
    assert_close(actual, expected, **ROUNDING)
    assert kernels > none == 0


@pytest.mark.parametrize("transform", [lambda f: f, jax.grad], ids=["values", "gradient"])
def test_a_platform_without_a_kernel_is_refused_when_it_is_compiled_for(transform):
    traced = jax.jit(transform(partial(loss, implementation="pallas"))).trace(*problem("after"))
    with pytest.raises(ValueError, match='is "pallas", but there is no kernel for this platform'):
        traced.lower(lowering_platforms=("cpu",))


def lowered(platform, *arguments, **keywords):
    run = partial(loss, implementation="pallas", **keywords)
    return jax.jit(run).trace(*arguments).lower(lowering_platforms=(platform,))


@pytest.mark.parametrize(
    ("hidden", "dtype", "state", "message"),
    [
        (5, np.float32, jnp.float32, None),
        (1024, np.float32, jnp.float32, "H = 1024 in float32: the chip's VMEM does not hold"),
        (1024, jnp.bfloat16, jnp.float32, None),
        (5, jnp.bfloat16, jnp.bfloat16, "a state of bfloat16: make h0 float32"),
        (5, np.float16, jnp.float32, "weights of float16: make them float32 or bfloat16"),
    ],
)
def test_what_the_tpu_kernel_does_not_take_is_refused(hidden, dtype, state, message):
    params, h0, xs = problem("after", hidden=hidden, dtype=dtype)
    arguments = params, h0.astype(state), xs
    if message is None:
        assert "tpu_custom_call" in lowered("tpu", *arguments).as_text()
        return
    with pytest.raises(
        ValueError, match=f'"pallas", but the kernel for tpu does not take {message}'
    ):
        lowered("tpu", *arguments)


def test_a_tpu_with_more_memory_takes_more_weights():
    chip = mock.Mock(vmem_capacity_bytes=128 * 2**20)
    with mock.patch.object(pltpu, "get_tpu_info", return_value=chip):
        program = lowered("tpu", *problem("after", hidden=1152)).as_text()
    assert "tpu_custom_call" in program


@pytest.mark.parametrize(
    ("platform", "kernel"),
    [("tpu", "tpu_custom_call"), pytest.param("cuda", "mosaic_gpu", marks=gpu_simulator.needs_jax)],
)
def test_rows_over_devices_within_shard_map(platform, kernel):
    mesh = AbstractMesh((2,), ("rows",), axis_types=(AxisType.Auto,))

    def of_device(params, h0, xs, mask):
        return gru_jax.gru_unroll(params, h0, xs, mask=mask, implementation="pallas")

    specs = P(), P("rows"), P(None, "rows"), P(None, "rows")
    run = jax.shard_map(of_device, mesh=mesh, in_specs=specs, out_specs=(P("rows"), specs[2]))
    gradient = jax.jit(jax.grad(lambda *args: weighted_sum(run(*args)), argnums=(0, 1, 2)))
    arguments = *problem("after", rows=4), *flags("mask", rows=4).values()
    program = gradient.trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
    assert program.count(f"custom_call @{kernel}") == 2


def test_the_scan_can_be_asked_for():
    programs = {
        jax.jit(partial(loss, implementation=each)).lower(*problem("after")).as_text()
        for each in (None, "scan")
    }
    assert len(programs) == 1


@pytest.mark.parametrize("value", ["Pallas", "", 1, True])
def test_an_unknown_implementation_is_refused(value):
    message = "implementation is .*, but must be one of 'scan', 'pallas'"
    with pytest.raises(ValueError, match=message):
        loss(*problem("after"), implementation=value)
    stack, h0s = random_stack()
    with pytest.raises(ValueError, match=message):
        gru_jax.gru_stack_unroll(stack, h0s, random_inputs()[1], implementation=value)


def test_a_stack_hands_the_implementation_to_its_layers():
    stack, h0s = random_stack()
    run = jax.jit(partial(gru_jax.gru_stack_unroll, implementation="pallas"))
    traced = run.trace(stack, h0s, random_inputs()[1])
    kernels = traced.lower(lowering_platforms=("tpu",)).as_text().count("custom_call @tpu")
    assert kernels == 4  # two layers, each in both directions


@pytest.mark.parametrize("cell", ["min_gru", "lstm"])
def test_cells_without_kernels_are_refused(cell):
    init, step = (getattr(gru_jax, name) for name in (f"init_{cell}", f"{cell}_step"))
    stack = gru_jax.init_gru_stack(jax.random.key(0), 3, (5, 4), init=init)
    run = partial(gru_jax.gru_stack_unroll, stack, None, random_inputs()[1], step=step)
    with pytest.raises(ValueError, match="there are kernels for step=gru_step only"):
        run(implementation="pallas")
    run(implementation="scan")
