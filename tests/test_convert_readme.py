"""The lines that `gru_jax/convert/README.md` shows, on files that the frameworks write."""

import importlib
import os
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import H, I, random_inputs

import gru_jax

os.environ.setdefault("KERAS_BACKEND", "jax")
README = pathlib.Path(gru_jax.convert.__file__).with_name("README.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", README, flags=re.M | re.S))
# what imports of the peers warn about is theirs to mend
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("jax_defaults"),
]


def pytorch():
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    safetensors = importlib.import_module("safetensors.numpy").__package__
    module = torch.nn.GRU(I, H, 2, bidirectional=True)
    model = torch.nn.ModuleDict({"encoder": torch.nn.ModuleDict({"rnn": module})})
    torch.save(torch.nn.DataParallel(model).state_dict(), "model.pt")
    save_file(model.state_dict(), "model.safetensors")
    return {"torch": torch, "module": module, "safetensors": importlib.import_module(safetensors)}


def keras():
    keras = pytest.importorskip("keras")
    pytest.importorskip("h5py")
    layer = keras.layers.GRU(H, name="encoder_gru", return_sequences=True)
    keras.Sequential([keras.Input((5, I)), layer]).save("model.keras")
    other = keras.layers.GRU(H, name="encoder_gru", return_sequences=True)
    model = keras.Sequential([keras.Input((5, I)), other, keras.layers.GRU(4)])
    model.save_weights("model.weights.h5")
    return {"layer": layer}


def linen():
    nn = pytest.importorskip("flax.linen")
    checkpoint = pytest.importorskip("orbax.checkpoint")
    flax = pytest.importorskip("flax")

    class Model(nn.Module):
        @nn.compact
        def __call__(self, xs):
            return nn.Dense(2)(nn.RNN(nn.GRUCell(H))(xs))

    xs = random_inputs()[1]
    variables = Model().init(jax.random.key(0), xs)
    pathlib.Path("model.msgpack").write_bytes(flax.serialization.to_bytes(variables))
    with checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(pathlib.Path("checkpoint").resolve(), variables)
    return {"flax": flax, "orbax": importlib.import_module("orbax"), "model": Model(), "xs": xs}


def nnx():
    nnx = pytest.importorskip("flax.nnx")

    class Encoder(nnx.Module):
        def __init__(self):
            self.rnn = nnx.RNN(nnx.GRUCell(I, H, rngs=nnx.Rngs(0)))

    class Model(nnx.Module):
        def __init__(self):
            self.encoder = Encoder()

    return {"nnx": nnx, "model": Model()}


def haiku():
    hk = pytest.importorskip("haiku")
    core = hk.transform(lambda xs: hk.dynamic_unroll(hk.GRU(H), xs, jnp.zeros((4, H)))[0])
    return {"transformed": core, "xs": random_inputs()[1]}


def onnx():
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    stack = gru_jax.init_gru_stack(jax.random.key(0), I, (H,), reset="after")
    gru_jax.convert.to_onnx(stack, "model.onnx")
    h0, xs = random_inputs()
    weights = gru_jax.convert.to_onnx(stack.layers[0])
    names = {"xs": xs, "lengths": jnp.array([5, 2, 0, 3]), "w": weights["W"], "r": weights["R"]}
    inputs = {"xs": xs, "lengths": names["lengths"], "h0_0": h0[None]}
    inputs = {name: np.asarray(value) for name, value in inputs.items()}
    return names | {"onnxruntime": onnxruntime, "inputs": inputs}


SETUPS = {
    "PyTorch": pytorch,
    "Keras": keras,
    "Flax linen": linen,
    "Flax nnx": nnx,
    "Haiku": haiku,
    "Equinox": lambda: {"equinox": pytest.importorskip("equinox")},
    "ONNX": onnx,
    "The textbook": dict,
}


@pytest.mark.parametrize("section", SETUPS)
def test_the_lines_run(section, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", SECTIONS[section], flags=re.S)
    names = {"gru_jax": gru_jax, "jax": jax, "np": np, "pathlib": pathlib} | SETUPS[section]()
    assert blocks
    for block in blocks:
        assert len(block.strip().splitlines()) == 2
        exec(block, names)
    network = names.get("stack", names.get("params"))
    assert {type(network)} <= {gru_jax.GRUParams, gru_jax.GRUStack, gru_jax.Bidirectional}


def test_every_format_has_a_section():
    assert set(SETUPS) == set(SECTIONS)
