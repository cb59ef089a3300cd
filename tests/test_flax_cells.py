"""Cells that the layers run fast, and those that run as in Flax; boxes, resets, symbolic shapes."""

import copy
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import assert_close

pytest.importorskip("flax")

from flax import linen as nn
from flax import nnx

import gru_jax.flax.linen
import gru_jax.flax.nnx
from gru_jax.flax import _unroll

# Flax promotes dtypes and ranks as JAX does by default
pytestmark = pytest.mark.usefixtures("jax_defaults")
B, T, I, H = 4, 6, 3, 7
XS = jnp.asarray(np.random.default_rng(0).normal(size=(B, T, I)), jnp.float32)
RESETS = jnp.asarray(np.random.default_rng(1).random((B, T)) < 0.3)


def sigmoid(x):
    """Not the standard one, whatever it is called."""
    return jnp.clip(0.2 * x + 0.5, 0, 1)


sigmoid_of_jax, sigmoid.__qualname__ = jax.nn.sigmoid, "sigmoid"


class HalfGRUCell(nn.GRUCell):
    """A subclass of Flax's cell that computes another function."""

    @nn.compact
    def __call__(self, carry, inputs):
        carry, _ = super().__call__(carry / 2, inputs)
        return carry, carry


class HalfNnxCell(nnx.GRUCell):
    def __call__(self, carry, inputs):
        return super().__call__(carry / 2, inputs)


LINEN = {
    "standard": lambda: nn.GRUCell(H),
    "own sigmoid": lambda: nn.GRUCell(H, gate_fn=sigmoid),
    "relu": lambda: nn.GRUCell(H, activation_fn=nn.relu),
    "derived": lambda: HalfGRUCell(H),
    "depends on axes": lambda: nn.GRUCell(
        H, gate_fn=lambda x: jax.nn.sigmoid(x) if x.ndim == 1 else sigmoid(x)
    ),
    "wrapped": lambda: nn.GRUCell(H, gate_fn=lambda x: jax.nn.sigmoid(x), activation_fn=nn.tanh),
    "copied": lambda: copy.deepcopy(nn.GRUCell(H)),
    "partitioned": lambda: nn.GRUCell(
        H, kernel_init=nn.with_partitioning(nn.initializers.lecun_normal(), (None, "model"))
    ),
    "logical": lambda: nn.GRUCell(
        H, kernel_init=nn.with_logical_partitioning(nn.initializers.ones, ("in", "out"))
    ),
}


def run_count(monkeypatch):
    calls = []
    original = _unroll.gru_unroll
    monkeypatch.setattr(_unroll, "gru_unroll", lambda *a, **k: calls.append(1) or original(*a, **k))
    return calls


@pytest.mark.parametrize("name", LINEN)
def test_linen_cells_match_flax_and_standard_ones_run_fast(name, monkeypatch):
    """Initial parameters and outputs equal Flax's; the standard cell runs fast."""
    calls = run_count(monkeypatch)
    theirs, ours = nn.RNN(LINEN[name]()), gru_jax.flax.linen.RNN(LINEN[name]())
    expected, variables = (layer.init(jax.random.key(1), XS) for layer in (theirs, ours))
    assert jax.tree.structure(variables) == jax.tree.structure(expected)
    assert_close(nn.meta.unbox(variables), nn.meta.unbox(expected), rtol=0, atol=0)
    shapes = jax.eval_shape(ours.init, jax.random.key(1), XS)
    assert jax.tree.structure(shapes) == jax.tree.structure(variables)
    calls.clear()
    keywords = {"return_carry": True, "reverse": True, "keep_order": True}
    actual = ours.apply(variables, XS, **keywords)
    assert_close(actual, theirs.apply(expected, XS, **keywords))
    assert bool(calls) == (name not in ("own sigmoid", "relu", "derived", "depends on axes"))
    both = nn.Bidirectional(gru_jax.flax.linen.RNN(LINEN[name]()), ours.copy())
    assert both.init_with_output(jax.random.key(0), XS)[0].shape == (B, T, 2 * H)


def lora(cell):
    cell.dense_h = nnx.LoRALinear(H, 3 * H, lora_rank=2, rngs=nnx.Rngs(1), use_bias=False)
    cell.dense_h.lora.lora_b[...] = jnp.ones_like(cell.dense_h.lora.lora_b[...])


def frozen(cell):
    class Frozen(nnx.Variable):
        pass

    cell.dense_i.kernel = Frozen(cell.dense_i.kernel[...])


def with_bias(cell):
    cell.dense_h.bias = nnx.Param(jnp.ones(3 * H))
    cell.dense_h.use_bias = True


def other_promotion(cell):
    promote = cell.dense_i.promote_dtype
    cell.dense_i.promote_dtype = lambda arrays, **k: promote([2 * arrays[0], *arrays[1:]], **k)


NNX = {
    "other promotion": (nnx.GRUCell, {}, other_promotion),
    "standard": (nnx.GRUCell, {}, lambda cell: None),
    "own sigmoid": (nnx.GRUCell, {"gate_fn": sigmoid}, lambda cell: None),
    "derived": (HalfNnxCell, {}, lambda cell: None),
    "LoRA": (nnx.GRUCell, {}, lora),
    "frozen kernel": (nnx.GRUCell, {}, frozen),
    "another bias": (nnx.GRUCell, {}, with_bias),
}


@pytest.mark.parametrize("name", NNX)
def test_nnx_cells_match_flax_and_standard_ones_run_fast(name, monkeypatch):
    calls = run_count(monkeypatch)
    make, arguments, change = NNX[name]
    cell = make(I, H, **arguments, rngs=nnx.Rngs(0))
    change(cell)
    actual, expected = (rnn(cell)(XS) for rnn in (gru_jax.flax.nnx.RNN, nnx.RNN))
    assert_close(actual, expected)
    assert bool(calls) == (name in ("standard", "frozen kernel"))


def test_nnx_layer_with_state_axes_runs_as_in_flax(monkeypatch):
    calls = run_count(monkeypatch)
    cell = nnx.GRUCell(I, H, rngs=nnx.Rngs(0))
    axes = nnx.StateAxes({nnx.Param: None, ...: nnx.Carry})
    theirs, ours = (rnn(cell, state_axes=axes) for rnn in (nnx.RNN, gru_jax.flax.nnx.RNN))
    assert_close(ours(XS), theirs(XS))
    assert not calls
    with pytest.raises(ValueError, match="resets and reset_state"):
        ours(XS, resets=RESETS)


@pytest.mark.parametrize("module", [gru_jax.flax.linen, gru_jax.flax.nnx])
def test_every_argument_is_documented(module):
    """The layer's in the docstring of the class, the call's in that of `__call__`."""
    for function, doc in (
        (module.RNN.__init__, module.RNN.__doc__),
        (module.RNN.__call__, module.RNN.__call__.__doc__),
    ):
        for part in ("Args:", "Raises:", "ValueError:", "[*batch, T, "):
            assert part in doc
        names = set(inspect.signature(function).parameters) - {"self", "parent", "name"}
        described = re.findall(r"^ +(\w+): ", doc.split("Args:")[1], flags=re.M)
        assert names <= set(described)
    assert ">>> " in module.RNN.__doc__


def test_layers_can_be_copied_and_pickled():
    """As target networks and moving averages are."""
    cloudpickle = pytest.importorskip("cloudpickle")
    layer = gru_jax.flax.linen.RNN(nn.GRUCell(H))
    variables = layer.init(jax.random.key(0), XS)
    expected = layer.apply(variables, XS)
    for other in (copy.deepcopy(layer), cloudpickle.loads(cloudpickle.dumps(layer))):
        assert_close(other.apply(variables, XS), expected)
    own = gru_jax.flax.nnx.RNN(nnx.GRUCell(I, H, rngs=nnx.Rngs(0)))
    assert_close(copy.deepcopy(own)(XS), own(XS))


@pytest.mark.parametrize("interface", ["linen", "nnx"])
@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("state", [None, (H,), (B, H)])
def test_resets_match_stepwise_flax(interface, time_major, state):
    """Compared with single steps of Flax's cell, with the state replaced explicitly."""
    fresh = None if state is None else jnp.linspace(-1, 1, int(np.prod(state))).reshape(state)
    if interface == "linen":
        layer = gru_jax.flax.linen.RNN(nn.GRUCell(H), return_carry=True)
        variables = layer.init(jax.random.key(0), XS)
        cell = nn.GRUCell(H).bind({"params": variables["params"]["cell"]})
        run = lambda *a, **k: layer.apply(variables, *a, **k)  # noqa: E731
    else:
        cell = nnx.GRUCell(I, H, rngs=nnx.Rngs(0))
        run = gru_jax.flax.nnx.RNN(cell, return_carry=True)
    h, outputs = jnp.zeros((B, H)), []
    for t in range(T):
        new = jnp.zeros((B, H)) if fresh is None else jnp.broadcast_to(fresh, (B, H))
        h, y = cell(jnp.where(RESETS[:, t, None], new, h), XS[:, t])
        outputs.append(y)
    swap = (lambda a: jnp.swapaxes(a, 0, 1)) if time_major else (lambda a: a)
    carry, ys = run(swap(XS), resets=swap(RESETS), reset_state=fresh, time_major=time_major)
    assert_close((carry, swap(ys)), (h, jnp.stack(outputs, axis=1)))


@pytest.mark.parametrize("lengths", [[6, 4, 0, 2], np.array([9, 4, 0, 2])])
def test_lengths_as_lists_and_beyond_the_end(lengths):
    """Lengths beyond the end count as the end."""
    layer = gru_jax.flax.nnx.RNN(nnx.GRUCell(I, H, rngs=nnx.Rngs(0)), reverse=True)
    expected = layer(XS, seq_lengths=jnp.array([6, 4, 0, 2]))
    assert_close(layer(XS, seq_lengths=lengths), expected, rtol=0, atol=0)


def test_lengths_in_narrow_dtypes():
    """T exceeds the largest value of the dtype."""
    long = jnp.ones((2, 300, I))
    layer = gru_jax.flax.nnx.RNN(nnx.GRUCell(I, H, rngs=nnx.Rngs(0)))
    for dtype in (np.int8, np.uint8, np.int32):
        outputs = layer(long, seq_lengths=np.array([100, 1], dtype))
        assert jnp.sum(jnp.any(outputs != 0, axis=-1), axis=1).tolist() == [100, 1]


@pytest.mark.parametrize("reverse", [False, True])
def test_export_with_symbolic_shapes(reverse):
    layer = gru_jax.flax.linen.RNN(nn.GRUCell(H), return_carry=True, reverse=reverse)
    variables = layer.init(jax.random.key(0), XS)
    scope = jax.export.SymbolicScope()
    open_xs, open_lengths = (
        jax.ShapeDtypeStruct(jax.export.symbolic_shape(shape, scope=scope), dtype)
        for shape, dtype in ((f"b, t, {I}", jnp.float32), ("b", jnp.int32))
    )

    def run(xs, lengths):
        keep = {"keep_order": True}  # Flax cannot flip sequences of an unknown length
        return layer.apply(variables, xs, seq_lengths=lengths, **keep)

    exported = jax.export.export(jax.jit(run))(open_xs, open_lengths)
    lengths = jnp.array([6, 0, 2, 3])
    assert_close(exported.call(XS, lengths), run(XS, lengths))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seq_lengths": np.array([1, 2])}, r"seq_lengths has shape \(2,\), but must have \(4,\)"),
        ({"seq_lengths": np.array([1, 2, -1, 0])}, "lengths has -1"),
        ({"resets": RESETS.T}, r"resets has shape \(6, 4\), but must have \(4, 6\)"),
        ({"resets": True}, r"resets has shape \(\), but must have \(4, 6\)"),
        ({"seq_lengths": np.ones(4)}, "seq_lengths is float32, but must be integers"),
        ({"initial_carry": "zeros"}, "initial_carry is a str, but must be an array"),
        (
            {"initial_carry": jnp.zeros((B, H), int)},
            "initial_carry is int32, but must be a floating dtype",
        ),
        ({"inputs": XS.astype(complex)}, "inputs is complex64, but must be real"),
        ({"reset_state": jnp.zeros(H)}, "reset_state is given, but resets is None"),
        (
            {"reset_state": jnp.zeros(H, int), "resets": RESETS},
            "reset_state is int32, but must be a floating dtype",
        ),
        ({"reverse": 1}, "reverse is 1, but must be True or False"),
        ({"time_major": "yes"}, "time_major is 'yes', but must be True or False"),
        ({"inputs": XS[0, 0]}, r"inputs has shape \(3,\), but must have \(\*batch, T, I\)"),
        ({"inputs": XS[..., :2]}, r"inputs has shape \(4, 6, 2\), .* with I = 3"),
        ({"inputs": None}, "inputs is None, but must be an array"),
        (
            {"initial_carry": jnp.zeros(H)},
            r"initial_carry has shape \(7,\), but must have \(4, 7\)",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    layer = gru_jax.flax.nnx.RNN(nnx.GRUCell(I, H, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=message):
        layer(**({"inputs": XS} | arguments))


@pytest.mark.parametrize("name", ["own sigmoid", "derived"])
def test_resets_are_refused_for_cells_that_flax_runs(name):
    layer = gru_jax.flax.linen.RNN(LINEN[name]())
    variables = layer.init(jax.random.key(0), XS)
    with pytest.raises(ValueError, match=r"resets and reset_state are for Flax' own GRUCell"):
        layer.apply(variables, XS, resets=RESETS)
