"""Compiling for chips that are not here, and counting what their programs launch."""

import jax
import jax.numpy as jnp
import pytest
from common import random_inputs, random_params

import gru_jax
from experiments.benchmark import chips, hlo
from gru_jax.recurrence.accelerators import STEPS

# Of every kind of line one: what is launched, what is not, and loops within loops.
TEXT = """\
HloModule jit_f, is_scheduled=true

%fused (p: f32[2,3]) -> f32[2,3] {
  %p = f32[2,3]{1,0} parameter(0)
  ROOT %negate = f32[2,3]{1,0} negate(%p)
}

%inner_body (t: (s32[], f32[2,3])) -> (s32[], f32[2,3]) {
  %t = (s32[], f32[2,3]{1,0:T(8,128)S(1)}) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %next = s32[]{:T(128)} add(%i, %i)
  %h = f32[2,3]{1,0:T(8,128)S(1)} get-tuple-element(%t), index=1
  %dot = (f32[2,3]{1,0}, /*index=1*/s8[64]{0}) custom-call(%h), custom_call_target="__cublas$gemm"
  %start = (f32[2,3]{1,0}, f32[2,3]{1,0}, u32[]) copy-start(%h)
  %done = f32[2,3]{1,0} copy-done(%start)
  ROOT %tuple = (s32[], f32[2,3]{1,0}) tuple(%next, %done)
}

%inner_condition (t.1: (s32[], f32[2,3])) -> pred[] {
  %t.1 = (s32[], f32[2,3]{1,0}) parameter(0)
  %limit = s32[]{:T(128)} constant(5)
  %i.1 = s32[] get-tuple-element(%t.1), index=0
  ROOT %less = pred[] compare(%i.1, %limit), direction=LT
}

%outer_body (t.2: (s32[], f32[2,3])) -> (s32[], f32[2,3]) {
  %t.2 = (s32[], f32[2,3]{1,0}) parameter(0)
  %i.2 = s32[] copy(%t.2)
  ROOT %loop = (s32[], f32[2,3]{1,0}) while(%t.2), condition=%inner_condition, body=%inner_body
}

%called (p.1: f32[2,3]) -> f32[2,3] {
  %p.1 = f32[2,3]{1,0} parameter(0)
  ROOT %fusion.1 = f32[2,3]{1,0} fusion(%p.1), kind=kLoop, calls=%fused
}

ENTRY %main (x: f32[2,3]) -> f32[2,3] {
  %x = f32[2,3]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %space = f32[2,3]{1,0} custom-call(), custom_call_target="AllocateBuffer"
  %call = f32[2,3]{1,0} call(%x), to_apply=%called
  %async = ((f32[2,3]{1,0}), f32[2,3]{1,0}) async-start(%call), calls=%called
  %awaited = f32[2,3]{1,0} async-done(%async)
  %first = (s32[], f32[2,3]{1,0}) tuple(%zero, %awaited)
  %loops = (s32[], f32[2,3]{1,0}) while(%first), condition=%unknown, body=%outer_body, \
backend_config={"known_trip_count":{"n":"7"}}
  ROOT %result = f32[2,3]{1,0} get-tuple-element(%loops), index=1
}
"""


def test_launches_are_counted():
    counted = hlo.launches(TEXT)
    assert counted == hlo.Launches(2, (hlo.Loop(7, 1), hlo.Loop(35, 2)))
    assert counted.total == 2 + 7 * 1 + 35 * 2


def test_what_depends_on_the_data_is_not_counted():
    with pytest.raises(ValueError, match="trip count is not known"):
        hlo.launches(TEXT.replace("constant(5)", "parameter(1)"))
    with pytest.raises(ValueError, match="conditional"):
        hlo.launches(TEXT.replace("call(%x), to_apply", "conditional(%x), branch_computations"))


def test_loops_without_a_trip_count_may_be_assumed_to_have_one():
    """In the program's order; the outer loop's stands in the text."""
    assert hlo.launches(TEXT, [4]).loops == (hlo.Loop(7, 1), hlo.Loop(7 * 4, 2))
    outer_too = TEXT.replace("known_trip_count", "no_trip_count")
    assert hlo.launches(outer_too, [3, 4]).loops == (hlo.Loop(3, 1), hlo.Loop(3 * 4, 2))
    assert hlo.launches(outer_too, [3]).loops == (hlo.Loop(3, 1), hlo.Loop(3 * 5, 2))
    with pytest.raises(ValueError, match=r"assumed is \[3, 4\], but the program has fewer loops"):
        hlo.launches(TEXT, [3, 4])


def compiled_for(chip, function, *args):
    try:
        return chips.compile_for(chip, function, *args)
    except chips.MissingCompilerError as reason:
        pytest.skip(str(reason))


def nested(x, w):
    """Three times five products, each with the result of the one before."""

    def body(_, x):
        return jax.lax.fori_loop(0, 5, lambda _, x: jnp.tanh(x @ w), x) + 1

    return jax.lax.fori_loop(0, 3, body, x)


X, W = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((64, 128), (128, 128)))


@pytest.mark.parametrize("chip", ["H100", "A100", "TPU v5e"])
def test_launches_of_programs_that_are_known(chip):
    assert compiled_for(chip, jnp.sin, X).launches == hlo.Launches(1, ())
    assert compiled_for(chip, lambda x: jnp.sin(x) + jnp.cos(x), X).launches.total == 1
    program = compiled_for(chip, nested, X, W)
    outer, inner = program.launches.loops
    assert (outer.iterations, inner.iterations) == (3, 15)
    assert 1 <= inner.launches <= 3  # the product, tanh, and the loop's counter
    assert program.seconds > 0
    assert program.kernels == ()


@pytest.mark.parametrize("chip", chips.CHIPS)
def test_every_chip_is_compiled_for(chip):
    params, (_, xs) = random_params(reset="after"), random_inputs(steps=2 * STEPS)
    program = compiled_for(
        chip, lambda params, xs: gru_jax.gru_unroll(params, None, xs), params, xs
    )
    (loop,) = program.launches.loops
    assert loop.iterations == 2
    assert program.temporary_bytes >= 0


def test_a_tpu_kernel_tells_its_memory():
    from jax.experimental import pallas as pl

    def double(x_ref, y_ref):
        y_ref[...] = 2 * x_ref[...]

    spec = pl.BlockSpec((1, 64, 128), lambda i: (i, 0, 0))
    xs = jax.ShapeDtypeStruct((1000, 64, 128), jnp.float32)  # more than the VMEM of the chip
    kernel = pl.pallas_call(
        double, out_shape=xs, grid=(1000,), in_specs=[spec], out_specs=spec, name="double"
    )
    program = compiled_for("TPU v5p", kernel, xs)
    assert program.launches.total == 1
    (kernel,) = program.kernels
    # input and output, two buffers each
    assert kernel == chips.Kernel("double", 2 * 2 * 64 * 128 * 4, None, None, None)


def test_a_gpu_kernel_tells_registers_and_shared_memory():
    from jax.experimental.pallas import mosaic_gpu as plgpu

    def double(x_ref, y_ref, shared):
        shared[...] = 2 * x_ref[...]
        plgpu.commit_smem()
        plgpu.copy_smem_to_gmem(shared, y_ref)
        plgpu.wait_smem_to_gmem(0)

    kernel = plgpu.kernel(double, out_type=X, scratch_types=[plgpu.SMEM(X.shape, X.dtype)])
    program = compiled_for("H100", kernel, X)
    assert program.launches.total == 1
    (found,) = program.kernels
    assert found.name == "double"
    assert found.memory_bytes == 64 * 128 * 4
    assert 0 < found.registers <= 255
    assert found.spilled_bytes == 0
    assert found.target == "sm_90a"
    # assembled once in a process, which the second program must not forget
    again = compiled_for("H100", lambda x: kernel(x) + 1, X)
    assert again.kernels == program.kernels
    with pytest.raises(ValueError, match="double is for sm_90a: A100 cannot run it"):
        compiled_for("A100", kernel, X)


@pytest.mark.parametrize("chip", ["H100", "TPU v5e"])
def test_a_missing_compiler_is_named(chip, monkeypatch):
    def missing(*_, **__):
        raise NotImplementedError("topology not implemented")

    monkeypatch.setattr(chips.topologies, "get_topology_desc", missing)
    package = {"H100": "jax-cuda12-plugin", "TPU v5e": "libtpu"}[chip]
    expected = f"nothing here compiles for {chip}: install {package}.* set JAX_PLATFORMS=cpu"
    with pytest.raises(chips.MissingCompilerError, match=expected):
        chips.compile_for(chip, jnp.sin, X)
