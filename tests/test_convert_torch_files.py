"""State dicts of PyTorch: in files, of models, wrapped, in half precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import H, I, assert_close, random_inputs
from convert_common import assert_same, draw

import gru_jax
from gru_jax import Bidirectional, GRUParams, GRUStack, convert

torch = pytest.importorskip("torch")
# warnings of the frameworks are not ours to fix
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("jax_defaults"),
]


class Model(torch.nn.Module):
    """GRUs of several kinds among other layers with weights of the same names."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Linear(I, I)
        self.encoder = torch.nn.ModuleDict({"rnn": torch.nn.GRU(I, H, 2, bidirectional=True)})
        self.lstm = torch.nn.LSTM(I, H)
        self.projected = torch.nn.LSTM(I, H, proj_size=2)
        self.rnn = torch.nn.RNN(I, H)
        self.lstm_cell = torch.nn.LSTMCell(I, H)


def model(kind=Model):
    torch.manual_seed(0)
    made = kind()
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    return made


def check(module, stack, **tolerances):
    """The module and the stack have the same outputs."""
    _, xs = random_inputs()
    with torch.no_grad():
        expected = module.float()(torch.tensor(np.asarray(xs)))[0].numpy()
    stack = jax.tree.map(lambda array: array.astype(jnp.float32), stack)
    assert_close(gru_jax.gru_stack_unroll(stack, None, xs)[1], expected, **tolerances)


def saved(state_dict, tmp_path):
    torch.save(state_dict, tmp_path / "model.pt")
    return torch.load(tmp_path / "model.pt", weights_only=True)


@pytest.mark.parametrize(
    "prefix", [None, "encoder.rnn.", "encoder.rnn", "encoder", "", "module.encoder.rnn"]
)
@pytest.mark.parametrize("wrapper", ["none", "DataParallel", "compile", "compiled part", "average"])
def test_only_gru_of_a_wrapped_model_is_found(prefix, wrapper, tmp_path):
    net = model()
    rnn = net.encoder["rnn"]
    if wrapper == "DataParallel":
        net = torch.nn.DataParallel(net)
    elif wrapper == "compile":
        net = torch.compile(net)
    elif wrapper == "compiled part":
        net.encoder = torch.compile(net.encoder)
    elif wrapper == "average":
        net = torch.optim.swa_utils.AveragedModel(net)
    check(rnn, convert.from_torch(saved(net.state_dict(), tmp_path), prefix=prefix))


def test_training_checkpoint_is_read(tmp_path):
    net = model()
    optimiser = torch.optim.Adam(net.parameters())
    net.embed(torch.ones(I)).sum().backward()
    optimiser.step()
    checkpoint = {"model": net.state_dict(), "optimizer": optimiser.state_dict(), "epoch": 3}
    check(net.encoder["rnn"], convert.from_torch(saved(checkpoint, tmp_path)))


def test_prefix_selects_one_of_several(tmp_path):
    net = model()
    net.decoder = torch.nn.GRU(I, 4)
    net.cell = torch.nn.GRUCell(I, 6)
    net.forward_gru, net.backward_gru = torch.nn.GRU(I, 4), torch.nn.GRU(I, 4)
    state_dict = saved(net.state_dict(), tmp_path)
    check(net.decoder, convert.from_torch(state_dict, prefix="decoder"))
    assert isinstance(convert.from_torch(state_dict, prefix="cell."), GRUParams)
    message = r"has 5 GRUs.*prefix.*'encoder.rnn.', 'decoder.', 'cell.', 'forward_gru.'"
    with pytest.raises(ValueError, match=message):
        convert.from_torch(state_dict)
    for prefix in ("nowhere", "dec", "encoder.rnn.weight_ih_l0", "rnn.x"):
        with pytest.raises(ValueError, match=r"prefix is .*one of \['encoder.rnn.', 'decoder.'"):
            convert.from_torch(state_dict, prefix=prefix)
    for prefix, found in (("lstm", "LSTM's four gates"), ("rnn", "simple RNN's single gate")):
        with pytest.raises(ValueError, match=found):
            convert.from_torch(state_dict, prefix=prefix)


def test_model_without_a_gru_is_refused():
    net = model()
    del net.encoder
    with pytest.raises(ValueError, match=r"no GRU, but other recurrent cells at \['lstm.'"):
        convert.from_torch(net.state_dict())
    with pytest.raises(ValueError, match=r"has \['bias', 'weight'\]"):
        convert.from_torch(net.embed.state_dict())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("form", ["tensors", "parameters", "safetensors", "safetensors.numpy"])
def test_dtypes_in_both_directions(dtype, form, tmp_path):
    net = model().to(getattr(torch, dtype))
    rnn = net.encoder["rnn"]
    state_dict = saved(net.state_dict(), tmp_path)
    if form == "parameters":
        state_dict = dict(net.named_parameters())
        assert state_dict["embed.weight"].requires_grad
    elif form != "tensors":
        save = pytest.importorskip("safetensors.torch").save_file
        save(state_dict, tmp_path / "model.safetensors")
        framework = pytest.importorskip(form if form.endswith("numpy") else "safetensors.torch")
        state_dict = framework.load_file(tmp_path / "model.safetensors")
    stack = convert.from_torch(state_dict, prefix="encoder")
    assert {leaf.dtype for leaf in jax.tree.leaves(stack)} == {jnp.dtype(dtype)}
    n, bits = slice(2 * H, 3 * H), {"bfloat16": torch.int16, "float16": torch.int16}
    theirs = rnn.weight_hh_l1_reverse.detach().T[:, n].contiguous()
    theirs = theirs.view(bits.get(dtype, torch.int32)).numpy()
    ours = np.asarray(stack.layers[1].backward.w_h[:, n])
    np.testing.assert_array_equal(ours.view(theirs.dtype), theirs)

    # back, as the docstring of to_torch says
    other = torch.nn.GRU(I, H, 2, bidirectional=True).to(getattr(torch, dtype))
    other.load_state_dict({k: torch.from_dlpack(v) for k, v in convert.to_torch(stack).items()})
    assert_same(convert.from_torch(other.state_dict()), stack)
    # the sum of two biases is rounded
    tolerance = {"bfloat16": 4e-2, "float16": 4e-3, "float32": 2e-6}[dtype]
    check(rnn, stack, rtol=tolerance, atol=tolerance)


def test_tensors_are_copied():
    net = model()
    state_dict = net.encoder["rnn"].state_dict()
    stack = convert.from_torch(state_dict)
    before = jax.tree.map(np.array, stack)
    with torch.no_grad():
        for tensor in state_dict.values():
            tensor.zero_()
    assert_same(stack, jax.tree.map(jnp.asarray, before))


def normed(kind, name="weight_hh_l0"):
    def make(gru):
        kind(gru, name)

    return make


REFUSED = {
    "weight norm": (
        normed(torch.nn.utils.weight_norm),
        r"unknown \['weight_hh_l0_g'\]: weight norm: call torch.nn.utils.remove_weight_norm",
    ),
    "parametrized weight norm": (
        normed(torch.nn.utils.parametrizations.weight_norm),
        r"original0'\]: a parametrization, .*remove_parametrizations",
    ),
    "spectral norm": (normed(torch.nn.utils.spectral_norm), "remove_spectral_norm"),
    "parametrized spectral norm": (
        normed(torch.nn.utils.parametrizations.spectral_norm),
        "remove_parametrizations",
    ),
    "pruned": (
        lambda gru: __import__("torch.nn.utils.prune").nn.utils.prune.l1_unstructured(
            gru, "weight_ih_l0", 0.5
        ),
        "pruning: call torch.nn.utils.prune.remove",
    ),
    "a layer of its own": (lambda gru: gru.add_module("norm", torch.nn.LayerNorm(H)), "norm.bias"),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("within", ["gru", "model"])
@pytest.mark.parametrize("kind", REFUSED)
def test_reparametrised_gru_is_refused(kind, within, bias):
    change, message = REFUSED[kind]
    gru = torch.nn.GRU(I, H, bias=bias)
    change(gru)
    net = gru if within == "gru" else torch.nn.Sequential(gru, torch.nn.Linear(H, 2))
    with pytest.raises(ValueError, match=message):
        convert.from_torch(net.state_dict())


@pytest.mark.parametrize("kind", [torch.nn.GRU, torch.nn.GRUCell])
def test_quantised_gru_is_refused(kind):
    net = torch.nn.Sequential(kind(I, H))
    try:
        net = torch.ao.quantization.quantize_dynamic(net, {kind}, dtype=torch.qint8)
    except RuntimeError:
        pytest.skip("this build of PyTorch does not quantise")
    with pytest.raises(ValueError, match="a quantised GRU: convert the one that it was made from"):
        convert.from_torch(net.state_dict())


@pytest.mark.parametrize("gone", ["l0", "l1", "l2", "l1_reverse", "bias_hh_l1", "bias"])
def test_missing_layers_and_biases_are_reported(gone):
    state_dict = torch.nn.GRU(I, H, 3, bidirectional=True).state_dict()
    kept = {k: v for k, v in state_dict.items() if not (k.endswith(gone) or gone in k.split("_l"))}
    if gone == "bias":
        kept = {k: v for k, v in state_dict.items() if not k.startswith("bias_ih")}
    elif gone in ("l0", "l1", "l2"):
        kept = {k: v for k, v in state_dict.items() if f"_{gone}" not in k}
    if gone == "l2":  # the last one: nothing shows that there were three
        assert len(convert.from_torch(kept).layers) == 2
        return
    message = {"l0": "lacks layer 0", "l1": "lacks layer 1"}.get(gone, rf"lacks .*{gone}")
    with pytest.raises(ValueError, match=message):
        convert.from_torch(kept)


def test_unreadable_values_are_refused():
    good = torch.nn.GRU(I, H).state_dict()
    for weight, message in (
        (torch.empty(3 * H, I, device="meta"), "weight_ih_l0 is a Tensor torch.float32 meta"),
        (torch.quantize_per_tensor(good["weight_ih_l0"], 0.1, 0, torch.quint8), "torch.quint8"),
        (good["weight_ih_l0"].to_sparse(), "weight_ih_l0 is a Tensor"),
        (good["weight_ih_l0"].to(torch.uint8), "weight_ih_l0 is uint8"),
        (good["weight_ih_l0"].to(torch.complex64), "weight_ih_l0 is complex64"),
        (good["weight_ih_l0"].to(torch.float8_e4m3fn), "weight_ih_l0 is a Tensor torch.float8"),
        (good["weight_ih_l0"].to(torch.bfloat16), "weight_hh_l0 is float32, but weight_ih_l0 is b"),
    ):
        with pytest.raises(ValueError, match=message):
            convert.from_torch(good | {"weight_ih_l0": weight})
    for wrong, kind in ((torch.nn.GRU(I, H), "GRU"), ([good], "list"), ("model.pt", "str")):
        with pytest.raises(ValueError, match=rf"state_dict is a {kind}, .*model.state_dict\(\)"):
            convert.from_torch(wrong)


def test_stacks_with_mismatched_sizes_are_refused():
    gru = gru_jax.init_gru(jax.random.key(0), I, H, reset="after")
    other = gru_jax.init_gru(jax.random.key(0), I + 1, H, reset="after")
    with pytest.raises(ValueError, match=r"params.layers\[1\]: w_x has shape \(4, 21\).*\(7, 21\)"):
        convert.to_torch(GRUStack((gru, other)))
    with pytest.raises(ValueError, match=r"params.layers\[0\]: w_x has shape \(4, 21\)"):
        convert.to_torch(GRUStack((Bidirectional(gru, other),)))
    for wrong in (None, "gru", [gru], Bidirectional(gru, gru), {}):
        with pytest.raises(ValueError, match=r"params is a .*GRUStack"):
            convert.to_torch(wrong)
    for layers in ((), None, gru, (None,), (draw(2, 3),), (Bidirectional(gru, None),)):
        with pytest.raises(ValueError, match=r"params.layers"):
            convert.to_torch(GRUStack(layers))
