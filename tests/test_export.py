"""`jax.export`: open time and batch, and our classes as arguments."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from common import B, T, assert_close, random_flags, random_inputs, random_params
from contract import CELLS, each_cell, random_problem

import gru_jax

GRU = random_params(reset="after")


def exported(f, *arguments, time="t", batch="b"):
    """A function exported with open time and batch, serialised and read back."""
    pytest.importorskip("flatbuffers")  # by which JAX serialises
    scope = jax.export.SymbolicScope()

    def spec(array):
        shape = [str(n) for n in array.shape]
        shape[0] = {T: time, B: batch}[array.shape[0]]
        if array.ndim > 1 and array.shape[1] == B:
            shape[1] = batch
        symbolic = jax.export.symbolic_shape(", ".join(shape), scope=scope)
        return jax.ShapeDtypeStruct(symbolic, array.dtype)

    done = jax.export.export(jax.jit(f))(*jax.tree.map(spec, arguments))
    return jax.export.deserialize(done.serialize()).call


def longer(arguments):
    """Other sizes: twice the time, and a row less."""
    h0, xs, mask, resets = arguments
    double = [jnp.concatenate([a, a])[:, 1:] for a in (xs, mask, resets)]
    return h0[1:], *double


@pytest.mark.parametrize("save", ["gates", "states"])
@pytest.mark.parametrize("reverse", [False, True])
def test_export_of_gradients_with_open_shapes(save, reverse):
    def values_and_gradient(h0, xs, mask, resets):
        def loss(params, h0, xs):
            keywords = {"mask": mask, "resets": resets, "reverse": reverse, "save": save}
            h_last, hs = gru_jax.gru_unroll(params, h0, xs, **keywords)
            return jnp.sum(hs**2) + jnp.sum(h_last), (h_last, hs)

        return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(GRU, h0, xs)

    arguments = *random_inputs(), random_flags(1), random_flags(2)
    call = exported(values_and_gradient, *arguments)
    for case in (arguments, longer(arguments)):
        actual, expected = call(*case), jax.jit(values_and_gradient)(*case)
        assert_close(jax.tree.leaves(actual), jax.tree.leaves(expected), rtol=1e-5, atol=1e-5)


def test_export_of_chunks_with_open_batch():
    def gradient(h0, xs):
        return jax.grad(lambda h0: jnp.sum(gru_jax.gru_unroll(GRU, h0, xs, save="chunks")[1]))(h0)

    h0, xs = random_inputs()
    call = exported(gradient, h0, xs, time=str(T))
    assert_close(call(h0, xs), jax.jit(gradient)(h0, xs), rtol=1e-5)
    with pytest.raises(ValueError, match=r'save is "chunks", but T = t is a dimension variable'):
        exported(gradient, h0, xs)
    for run in (gru_jax.gru_unroll, partial(gru_jax.unroll, gru_jax.gru_step)):
        with pytest.raises(ValueError, match="unroll is 2, but must be 1, because T = t is"):
            exported(lambda h0, xs, run=run: run(GRU, h0, xs, unroll=2), h0, xs)


@each_cell()
def test_export_of_cells_and_stacks_with_open_shapes(cell):
    (params, _, xs), step = random_problem(cell), CELLS[cell].step
    stack = gru_jax.GRUStack((gru_jax.Bidirectional(params, params),))

    def run(xs, mask, resets):
        flags = {"mask": mask, "resets": resets}
        results = [
            gru_jax.unroll(step, params, None, xs, **flags),
            gru_jax.gru_stack_unroll(stack, None, xs, step=step, **flags),
        ]
        if cell == "min_gru":
            results.append(gru_jax.min_gru_unroll(params, None, xs, **flags))
        lengths = jnp.sum(mask, axis=0, dtype=jnp.int32)
        return jax.tree.leaves(results), gru_jax.sequence_mask(lengths, xs.shape[0])

    arguments = xs, random_flags(1), random_flags(2)
    expected = jax.jit(run)(*arguments)
    assert_close(exported(run, *arguments)(*arguments), expected, rtol=1e-5, atol=1e-5)


@each_cell()
def test_export_with_parameters_as_arguments(cell):
    (params, h, xs), step = random_problem(cell), CELLS[cell].step
    stack = gru_jax.GRUStack((gru_jax.Bidirectional(params, params),))

    def run(params, stack, h, x):
        return step(params, h, x), stack

    pytest.importorskip("flatbuffers")
    done = jax.export.export(jax.jit(run))(params, stack, h, xs[0])
    actual = jax.export.deserialize(done.serialize()).call(params, stack, h, xs[0])
    expected = jax.jit(run)(params, stack, h, xs[0])
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    assert_close(actual, expected)
