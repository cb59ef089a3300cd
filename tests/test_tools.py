"""What JAX's tools see of the library: export, checkify, remat3, interpreters, donation, caches."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from common import B, H, I, T, assert_close, random_flags, random_inputs, random_params
from jax.experimental import checkify, jet
from jax.extend import core
from test_cells import CELLS
from test_numbers import EACH, cell

import gru_jax

SAVES = pytest.mark.parametrize("save", ["gates", "states", "chunks"])
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
def test_export_with_open_shapes(save, reverse):
    def values_and_gradient(h0, xs, mask, resets):
        def loss(params, h0, xs):
            keywords = {"mask": mask, "resets": resets, "reverse": reverse, "save": save}
            h_last, hs = gru_jax.gru_unroll(params, h0, xs, **keywords)
            return jnp.sum(hs**2) + jnp.sum(h_last), (h_last, hs)

        return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(GRU, h0, xs)

    arguments = *random_inputs(), random_flags(1), random_flags(2)
    call = exported(values_and_gradient, *arguments)
    for case in (arguments, longer(arguments)):
        actual, expected = call(*case), values_and_gradient(*case)
        assert_close(jax.tree.leaves(actual), jax.tree.leaves(expected), rtol=1e-5, atol=1e-5)


def test_export_with_an_open_batch_and_chunks():
    def gradient(h0, xs):
        return jax.grad(lambda h0: jnp.sum(gru_jax.gru_unroll(GRU, h0, xs, save="chunks")[1]))(h0)

    h0, xs = random_inputs()
    assert_close(exported(gradient, h0, xs, time=str(T))(h0, xs), gradient(h0, xs), rtol=1e-5)
    with pytest.raises(ValueError, match=r'save is "chunks", but T = t is a dimension variable'):
        exported(gradient, h0, xs)
    for run in (gru_jax.gru_unroll, partial(gru_jax.unroll, gru_jax.gru_step)):
        with pytest.raises(ValueError, match="unroll is 2, but must be 1, because T = t is"):
            exported(lambda h0, xs, run=run: run(GRU, h0, xs, unroll=2), h0, xs)


@EACH
def test_export_of_every_cell_and_of_stacks(name):
    params, step, _, xs = cell(name)
    stack = gru_jax.GRUStack((gru_jax.Bidirectional(params, params),))

    def run(xs, mask, resets):
        flags = {"mask": mask, "resets": resets}
        results = [
            gru_jax.unroll(step, params, None, xs, **flags),
            gru_jax.gru_stack_unroll(stack, None, xs, step=step, **flags),
        ]
        if name == "min_gru":
            results.append(gru_jax.min_gru_unroll(params, None, xs, **flags))
        lengths = jnp.sum(mask, axis=0, dtype=jnp.int32)
        return jax.tree.leaves(results), gru_jax.sequence_mask(lengths, xs.shape[0])

    arguments = xs, random_flags(1), random_flags(2)
    assert_close(exported(run, *arguments)(*arguments), run(*arguments), rtol=1e-5, atol=1e-5)


@EACH
def test_export_with_our_classes_as_arguments(name):
    params, step, h, xs = cell(name)
    stack = gru_jax.GRUStack((gru_jax.Bidirectional(params, params),))

    def run(params, stack, h, x):
        return step(params, h, x), stack

    pytest.importorskip("flatbuffers")
    done = jax.export.export(jax.jit(run))(params, stack, h, xs[0])
    actual = jax.export.deserialize(done.serialize()).call(params, stack, h, xs[0])
    expected = run(params, stack, h, xs[0])
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    assert_close(actual, expected)


@pytest.mark.parametrize(
    ("save", "bad"),
    [("gates", jnp.nan), ("gates", jnp.inf), ("states", jnp.nan), ("chunks", jnp.nan)],
)
def test_checkify_sees_what_happens_within(save, bad):
    h0, xs = random_inputs(steps=3)

    def loss(h0, xs):
        return gru_jax.gru_unroll(GRU, h0, xs, save=save)

    for f in (jax.jit(loss), jax.grad(lambda h0, xs: jnp.sum(loss(h0, xs)[1]))):
        checked = checkify.checkify(f, errors=checkify.float_checks)
        assert checked(h0, xs)[0].get() is None
        worse = xs.at[1].set(bad)  # inf: the product with weights of both signs is NaN
        assert "nan generated by primitive" in checked(h0, worse)[0].get()


def test_checkify_sees_a_users_check_within_unroll():
    def step(params, h, x):
        checkify.check(jnp.all(x < 9), "x is too large")
        return gru_jax.gru_step(params, h, x)

    h0, xs = random_inputs()
    checked = checkify.checkify(partial(gru_jax.unroll, step))
    assert checked(GRU, h0, xs)[0].get() is None
    assert "x is too large" in checked(GRU, h0, xs.at[1].set(10.0))[0].get()


@SAVES
@pytest.mark.parametrize("reset", ["before", "after"])
def test_gradients_under_remat3(save, reset):
    params, (h0, xs) = random_params(reset=reset), random_inputs()

    def loss(params):
        return jnp.sum(gru_jax.gru_unroll(params, h0, xs, save=save)[1] ** 2)

    expected = jax.grad(loss)(params)
    before = jax.config.jax_remat3
    jax.config.update("jax_remat3", True)
    try:
        # other functions: JAX's caches do not know of the option
        assert_close(jax.grad(lambda p: loss(p))(params), expected, atol=1e-5)
        assert_close(jax.grad(jax.checkpoint(lambda p: loss(p)))(params), expected, atol=1e-5)
    finally:
        jax.config.update("jax_remat3", before)


def test_jet_of_a_step():
    """Taylor's coefficients; jet knows no scan, so that a step is what it can take."""
    h0, xs = random_inputs(batch=())
    along = jnp.linspace(-1, 1, H)

    def step(t):
        return gru_jax.gru_step(GRU, h0 + t * along, xs[0])

    series = [along, jnp.zeros(H)]
    _, (first, second) = jet.jet(lambda h: gru_jax.gru_step(GRU, h, xs[0]), (h0,), (series,))
    assert_close(first, jax.jacfwd(step)(0.0))
    assert_close(second, jax.jacfwd(jax.jacfwd(step))(0.0), atol=1e-5)


def inlined(jaxpr, consts, *arguments):
    """A plain interpreter that knows calls by their name or by the jaxpr that they carry."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))
    seen = set()

    def read(atom):
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for eqn in jaxpr.eqns:
        inputs = [read(atom) for atom in eqn.invars]
        inner = [eqn.params[name] for name in ("call_jaxpr", "jaxpr") if name in eqn.params]
        if eqn.primitive.name in ("jit", "pjit", "closed_call", "custom_jvp_call", "checkpoint"):
            closed = inner[0]
            open_jaxpr = getattr(closed, "jaxpr", closed)
            outputs, more = inlined(open_jaxpr, getattr(closed, "consts", ()), *inputs)
            seen |= more
        else:
            seen.add(eqn.primitive.name)
            outputs = eqn.primitive.bind(*inputs, **eqn.params)
            outputs = outputs if eqn.primitive.multiple_results else [outputs]
        values |= dict(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars], seen


@SAVES
def test_interpreters_that_inline_calls_see_jax_primitives_only(save):
    h0, xs = random_inputs()
    run = partial(gru_jax.gru_unroll, save=save)
    closed = jax.make_jaxpr(run)(GRU, h0, xs)
    leaves = jax.tree.leaves((GRU, h0, xs))
    outputs, seen = inlined(closed.jaxpr, closed.consts, *leaves)
    assert_close(tuple(outputs), run(GRU, h0, xs))
    assert "scan" in seen
    assert not any("gru" in name for name in seen)


def test_no_two_leaves_share_a_buffer():
    """All leaves are donated at once, and the arguments used afterwards."""
    keys, (h0, xs) = jax.random.key(0), random_inputs()
    params = [init(keys, I, H) for init, *_ in CELLS.values()]
    cached = {}

    def init(key, shape, dtype):
        return cached.setdefault(shape, jnp.ones(shape, dtype))

    inits = {f"{name}_init": init for name in ("w_x", "w_h", "b", "b_hn")}
    params.append(gru_jax.init_gru(keys, H, H, reset="after", **inits))
    params.append(gru_jax.init_gru_stack(keys, I, (H, H), bidirectional=True))
    params.append(gru_jax.init_readout(keys, H, H, w_init=init, b_init=init))
    params += [gru_jax.zero_state(p, (B,)) for p in params[:-1]]
    step = gru_jax.gru_stack_step(gru_jax.GRUStack((GRU,)), (h0,), xs[0])
    results = [step, gru_jax.gru_unroll(GRU, h0, xs), gru_jax.gru_unroll(GRU, h0, xs[:0])]
    results += [gru_jax.unroll(gru_jax.gru_step, GRU, h0, xs[:steps]) for steps in (0, 1, T)]
    min_gru = gru_jax.init_min_gru(keys, I, H)
    results += [gru_jax.min_gru_unroll(min_gru, h0, xs[:steps]) for steps in (0, 1, T)]
    for tree in (*params, *results):
        owned = jax.tree.leaves((tree, h0, xs, GRU, cached))
        pointers = [leaf.unsafe_buffer_pointer() for leaf in owned if leaf.size]
        assert len(set(pointers)) == len(pointers)


@pytest.fixture
def compilations():
    """Counts the programs that XLA compiles."""
    seen = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield lambda: len(seen)
    jax.monitoring.unregister_event_duration_listener(listen)


@EACH
def test_calls_outside_a_jit_compile_once(name, compilations):
    params, step, h0, xs = cell(name)
    stack = gru_jax.init_gru_stack(jax.random.key(0), I, (H, H), bidirectional=True)
    mask = random_flags(1)
    head = gru_jax.init_readout(jax.random.key(1), H, I)

    def tokens():
        def own_step(params, h, token):
            h = step(params[0], h, jax.nn.one_hot(token, I))
            return h, gru_jax.readout(params[1], jax.tree.leaves(h)[0])

        prompt = jnp.array([[1] * B, [2] * B])
        return gru_jax.generate(jax.random.key(2), own_step, (params, head), h0, prompt, 3)

    def everything():
        results = [gru_jax.unroll(step, params, h0, xs, mask=mask), tokens()]
        results.append(gru_jax.unroll(lambda p, h, x: step(p, h, x), params, h0, xs))
        if name.startswith("gru"):
            results.append(gru_jax.gru_unroll(params, h0, xs, mask=mask))
            results.append(jax.grad(lambda p: jnp.sum(gru_jax.gru_unroll(p, h0, xs)[1]))(params))
            results.append(gru_jax.gru_stack_unroll(stack, None, xs, mask=mask, zoneout=0.1))
        if name == "min_gru":
            results.append(gru_jax.min_gru_unroll(params, h0, xs, mask=mask))
        return results

    first = everything()
    before = compilations()
    assert before > 0
    assert_close(everything(), first, rtol=0, atol=0)
    assert compilations() == before


def test_what_a_step_captures_may_change():
    """A step that is traced once gives no stale numbers."""
    h0, xs = random_inputs()

    class Model:
        scale = 1.0

        def step(self, params, h, x):
            return self.scale * gru_jax.gru_step(params, h, x)

    model, scale, weights, numbers = Model(), 1.0, jnp.ones(()), {"scale": 1.0}

    def attribute():
        return None

    attribute.scale = 1.0

    @jax.custom_jvp
    def scaled(x):
        return x * numbers["scale"]

    scaled.defjvps(lambda t, ans, x: t)

    def by_closure(params, h, x):
        return scale * gru_jax.gru_step(params, h, x)

    steps = [
        model.step,
        by_closure,
        lambda p, h, x: weights * gru_jax.gru_step(p, h, x),
        lambda p, h, x: numbers["scale"] * gru_jax.gru_step(p, h, x),
        lambda p, h, x: model.step(p, h, x),
        partial(model.step),
        lambda p, h, x: Model.scale * gru_jax.gru_step(p, h, x),
        lambda p, h, x: attribute.scale * gru_jax.gru_step(p, h, x),
        lambda p, h, x: scaled(gru_jax.gru_step(p, h, x)),
    ]
    ones = [gru_jax.unroll(step, GRU, h0, xs)[0] for step in steps]
    model.scale, scale, weights, numbers["scale"] = 0.0, 0.0, jnp.zeros(()), 0.0
    Model.scale = attribute.scale = 0.0
    zeros = [gru_jax.unroll(step, GRU, h0, xs)[0] for step in steps]
    for one, zero in zip(ones, zeros, strict=True):
        assert jnp.any(one != 0)
        assert not jnp.any(zero)
