"""Weights of Flax in models, boxes, stacks and checkpoints."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import B, H, I, T, assert_close, random_inputs
from convert_common import assert_same, randomised

import gru_jax
from gru_jax import Bidirectional, GRUParams, GRUStack, convert

nn = pytest.importorskip("flax.linen")
nnx = pytest.importorskip("flax.nnx")
serialization = pytest.importorskip("flax.serialization")
# warnings of the frameworks are not ours to fix
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("jax_defaults"),
]
KEY = jax.random.key(0)


def run(network, xs, **options):
    layers = network.layers if isinstance(network, GRUStack) else (network,)
    return gru_jax.gru_stack_unroll(GRUStack(tuple(layers)), None, xs, **options)[1]


class Parent(nn.Module):
    """Cells of an `nn.compact` parent are named by the parent."""

    wrap: callable = lambda cell: nn.RNN(cell, time_major=True)

    @nn.compact
    def __call__(self, xs):
        return nn.Dense(2)(self.wrap(nn.GRUCell(H))(xs))


class ScannedRNN(nn.Module):
    """As in purejaxrl, whose `initialize_carry` creates a second cell."""

    @functools.partial(
        nn.scan, variable_broadcast="params", in_axes=0, out_axes=0, split_rngs={"params": False}
    )
    @nn.compact
    def __call__(self, carry, x):
        xs, resets = x
        fresh = nn.GRUCell(H).initialize_carry(KEY, (B, H))
        carry = jnp.where(resets[:, None], fresh, carry)
        return nn.GRUCell(features=H)(carry, xs)


class Policy(nn.Module):
    @nn.compact
    def __call__(self, carry, xs, resets):
        return ScannedRNN()(carry, (nn.Dense(H)(xs), resets))[1]


class Block(nn.Module):
    """One layer of an `nn.scan` over layers."""

    both: bool = False

    @nn.compact
    def __call__(self, xs, _):
        if self.both:
            half = xs.shape[-1] // 2
            rnns = [nn.RNN(nn.GRUCell(half, name=k), time_major=True) for k in "fb"]
            return nn.Bidirectional(*rnns, time_major=True)(xs), None
        return nn.RNN(nn.GRUCell(xs.shape[-1]), time_major=True)(xs), None


def scanned(cls=Block, **options):
    axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
    return nn.scan(cls, **axes, length=4)(**options)


def test_prefixes_of_cells_in_a_linen_model():
    _, xs = random_inputs()
    layer = nn.RNN(nn.GRUCell(H), time_major=True)
    variables = randomised(layer.init(KEY, xs))
    for given, prefix in (
        (variables, None),
        (variables, "params/cell"),
        (variables["params"], "cell/"),
        (variables["params"]["cell"], None),
        ({"encoder": variables["params"]}, "encoder"),
        ({"step": 3, "params": variables, "opt_state": {"0": {"mu": variables}}}, None),
        (__import__("flax").core.freeze(variables), None),
    ):
        params = convert.from_linen(given, prefix=prefix)
        assert_close(run(params, xs), layer.apply(variables, xs))
    variables = randomised(Parent().init(KEY, xs))
    assert "GRUCell_0" in variables["params"]
    assert_same(convert.from_linen(variables), convert.from_linen(variables["params"]["GRUCell_0"]))
    assert_same(convert.from_linen(variables, prefix="GRUCell_0"), convert.from_linen(variables))


def test_policy_of_purejaxrl_matches():
    _, xs = random_inputs()
    resets = jnp.arange(T)[:, None] == jnp.arange(B)
    policy = Policy()
    variables = randomised(policy.init(KEY, jnp.zeros((B, H)), xs, resets))
    params = convert.from_linen(variables, prefix="ScannedRNN_0/GRUCell_1")
    dense = variables["params"]["Dense_0"]
    expected = policy.apply(variables, jnp.zeros((B, H)), xs, resets)
    hidden = jnp.einsum("tbi,ih->tbh", xs, dense["kernel"]) + dense["bias"]
    assert_close(run(params, hidden, resets=resets), expected, rtol=1e-5, atol=1e-5)


def test_linen_bidirectional_matches():
    _, xs = random_inputs()
    rnns = [nn.RNN(nn.GRUCell(H), time_major=True) for _ in range(2)]
    layer = nn.Bidirectional(*rnns, time_major=True)
    variables = randomised(layer.init(KEY, xs))
    params = convert.from_linen(variables)
    assert isinstance(params, Bidirectional)
    assert_close(run(params, xs), layer.apply(variables, xs))
    assert_same(convert.from_linen(variables, prefix="backward_rnn"), params.backward)
    assert_same(convert.from_linen({"params": {"a": {"b": variables["params"]}}}), params)
    several = {"a": variables["params"], "b": variables["params"]["forward_rnn"]}
    with pytest.raises(ValueError, match=r"has 2 GRUs: .*prefix=.*\['b/cell/', 'a/'\]"):
        convert.from_linen(several)
    with pytest.raises(ValueError, match=r"prefix is 'c'.*'a/forward_rnn/cell/'"):
        convert.from_linen(several, prefix="c")


@pytest.mark.parametrize("both", [False, True])
def test_layers_of_a_linen_scan_become_a_stack(both):
    width = 6
    _, xs = random_inputs(inputs=width)
    layer = scanned(both=both)
    variables = randomised(layer.init(KEY, xs, None))
    params = variables["params"]
    if both:  # the parent names the cells as it is told
        params = {"forward": params["f"], "backward": params["b"]}
    stack = convert.from_linen(params)
    assert len(stack.layers) == 4
    assert isinstance(stack.layers[0], Bidirectional if both else GRUParams)
    assert_close(run(stack, xs), layer.apply(variables, xs, None)[0], rtol=1e-5, atol=1e-5)


def test_ensembles_are_not_read_as_a_stack():
    """An ensemble by `nn.vmap` has the same leading axis."""
    _, xs = random_inputs()
    cell = nn.GRUCell(H)
    ensemble = jax.vmap(lambda key: cell.init(key, jnp.zeros((B, H)), xs[0]))(
        jax.random.split(KEY, 6)
    )
    with pytest.raises(ValueError, match="inputs of 3 and outputs of 7"):
        convert.from_linen(ensemble)
    one = jax.vmap(convert.from_linen)(ensemble)
    assert one.w_x.shape == (6, I, 3 * H)
    square = jax.vmap(lambda key: cell.init(key, jnp.zeros((B, H)), jnp.zeros((B, H))))(
        jax.random.split(KEY, 6)
    )["params"]
    square["hn"]["bias"] = square["hn"]["bias"][1:]
    with pytest.raises(ValueError, match=r"hn/bias has shape .* but must have 6 layers"):
        convert.from_linen(square)


@pytest.mark.parametrize("box", [nn.with_partitioning, nn.with_logical_partitioning])
def test_boxed_parameters_are_unboxed(box, tmp_path):
    _, xs = random_inputs()
    cell = nn.GRUCell(
        H,
        kernel_init=box(nn.initializers.lecun_normal(), (None, "model")),
        recurrent_kernel_init=box(nn.initializers.orthogonal(), (None, "model")),
        bias_init=box(nn.initializers.normal(), ("model",)),
    )
    boxed = nn.RNN(cell).init(KEY, xs)
    expected = convert.from_linen(nn.meta.unbox(boxed))
    assert_same(convert.from_linen(boxed), expected)
    assert_same(jax.jit(convert.from_linen)(boxed), expected)
    (tmp_path / "model.msgpack").write_bytes(serialization.to_bytes(boxed))
    restored = serialization.msgpack_restore((tmp_path / "model.msgpack").read_bytes())
    assert_same(convert.from_linen(restored), expected)


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.OptimizedLSTMCell, nn.MGUCell, nn.SimpleCell])
def test_other_cells_of_linen_are_refused(cell):
    cell = cell(H)
    carry = cell.initialize_carry(KEY, (B, I))
    params = cell.init(KEY, carry, jnp.ones((B, I)))["params"]
    with pytest.raises(
        ValueError, match=r"params of flax.linen.GRUCell has '.*kernel' of an \w+Cell"
    ):
        convert.from_linen(params)


class Model(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.lstm = nnx.OptimizedLSTMCell(I, H, rngs=rngs)
        self.simple = nnx.SimpleCell(I, H, rngs=rngs)
        cells = [nnx.GRUCell(I, H, rngs=rngs, keep_rngs=True) for _ in range(2)]
        rnns = [nnx.RNN(cell, time_major=True) for cell in cells]
        self.rnn = nnx.Bidirectional(*rnns, time_major=True, rngs=rngs)


def test_nnx_models_and_their_states_match():
    _, xs = random_inputs()
    model = Model()
    expected = model.rnn(xs)
    state = nnx.state(model, nnx.Param)
    for given in (model, nnx.state(model), state, nnx.to_pure_dict(state), copy.deepcopy(model)):
        assert_close(run(convert.from_nnx(given), xs), expected)
        one = convert.from_nnx(given, prefix="rnn/forward_rnn/cell")
        assert_same(one, convert.from_nnx(given).forward)
    assert_same(convert.from_nnx(model.rnn.forward_rnn.cell), one)
    assert_same(convert.from_nnx(model.rnn.forward_rnn), one)
    with pytest.raises(ValueError, match="LSTM's four gates"):
        convert.from_nnx(model, prefix="lstm")
    with pytest.raises(ValueError, match="simple RNN's single gate"):
        convert.from_nnx(model.simple)
    model.layers = nnx.List([nnx.GRUCell(I, H, rngs=nnx.Rngs(i)) for i in range(2)])
    with pytest.raises(ValueError, match=r"3 GRUs: .*'layers/0/', 'layers/1/', 'rnn/'"):
        convert.from_nnx(model)
    one = convert.from_nnx(model, prefix="layers/1")
    assert_same(one, convert.from_nnx(nnx.state(model.layers[1])))


@pytest.mark.parametrize("option", ["gate_fn", "activation_fn"])
def test_nnx_modules_with_other_activations_are_refused(option):
    def sigmoid(x):
        return x

    for function in (sigmoid, jax.nn.hard_sigmoid, jnp.sin):
        cell = nnx.GRUCell(I, H, rngs=nnx.Rngs(0), **{option: function})
        with pytest.raises(ValueError, match=f"has {option}=.*, but must have"):
            convert.from_nnx(cell)


def test_layers_of_an_nnx_vmap_become_a_stack():
    @nnx.vmap
    def make(key):
        return nnx.GRUCell(H, H, rngs=nnx.Rngs(key))

    cells = make(jax.random.split(KEY, 4))
    stack = convert.from_nnx(cells)
    assert len(stack.layers) == 4
    kernel = cells.dense_h.kernel[2]
    assert_close(stack.layers[2].w_h[:, 2 * H :], kernel[:, 2 * H :], rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["linen", "nnx", "nnx state", "optimiser"])
def test_checkpoints_of_orbax_are_read(kind, tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint")
    _, xs = random_inputs()
    if kind.startswith("nnx"):
        tree = nnx.state(Model(), nnx.Param)
        expected, convert_it = convert.from_nnx(tree), convert.from_nnx
        tree = tree if kind.endswith("state") else nnx.to_pure_dict(tree)
    else:
        tree = nn.RNN(nn.GRUCell(H)).init(KEY, xs)
        expected, convert_it = convert.from_linen(tree), convert.from_linen
    if kind == "optimiser":
        tree = {"step": 1, "params": tree, "mu": jax.tree.map(jnp.zeros_like, tree)}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "checkpoint", tree)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "checkpoint")
    assert_same(convert_it(restored), expected)


def test_dtypes_of_msgpack_checkpoints():
    """float64 without x64, and half precision, as safetensors and msgpack restore them."""
    cell = nn.GRUCell(H)
    variables = cell.init(KEY, jnp.zeros((B, H)), jnp.zeros((B, I)))
    for dtype, wanted in (("float64", "float32"), ("float16", "float16"), ("bfloat16", "bfloat16")):
        there = jax.tree.map(lambda leaf, d=dtype: np.asarray(leaf).astype(d), variables)
        restored = serialization.msgpack_restore(serialization.msgpack_serialize(there))
        assert convert.from_linen(restored).w_x.dtype == wanted
