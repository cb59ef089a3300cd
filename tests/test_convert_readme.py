"""`gru_jax/convert/README.md`: its code runs on files of the frameworks; its table is derived."""

import importlib
import os
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import H, I, random_inputs
from convert_common import FORMATS

import gru_jax

os.environ.setdefault("KERAS_BACKEND", "jax")
README = pathlib.Path(gru_jax.convert.__file__).with_name("README.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", README, flags=re.M | re.S))
# warnings of the frameworks are not ours to fix
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("jax_defaults"),
]


def torch():
    import torch

    save_file = pytest.importorskip("safetensors.torch").save_file
    safetensors = importlib.import_module("safetensors.numpy").__package__
    module = torch.nn.GRU(I, H, 2, bidirectional=True)
    model = torch.nn.ModuleDict({"encoder": torch.nn.ModuleDict({"rnn": module})})
    torch.save(torch.nn.DataParallel(model).state_dict(), "model.pt")
    save_file(model.state_dict(), "model.safetensors")
    return {"torch": torch, "module": module, "safetensors": importlib.import_module(safetensors)}


def keras():
    import keras

    pytest.importorskip("h5py")
    layer = keras.layers.GRU(H, name="encoder_gru", return_sequences=True)
    keras.Sequential([keras.Input((5, I)), layer]).save("model.keras")
    other = keras.layers.GRU(H, name="encoder_gru", return_sequences=True)
    model = keras.Sequential([keras.Input((5, I)), other, keras.layers.GRU(4)])
    model.save_weights("model.weights.h5")
    return {"layer": layer}


def linen():
    import flax
    from flax import linen as nn

    checkpoint = pytest.importorskip("orbax.checkpoint")

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
    from flax import nnx

    class Encoder(nnx.Module):
        def __init__(self):
            self.rnn = nnx.RNN(nnx.GRUCell(I, H, rngs=nnx.Rngs(0)))

    class Model(nnx.Module):
        def __init__(self):
            self.encoder = Encoder()

    return {"nnx": nnx, "model": Model()}


def haiku():
    import haiku as hk

    core = hk.transform(lambda xs: hk.dynamic_unroll(hk.GRU(H), xs, jnp.zeros((4, H)))[0])
    return {"transformed": core, "xs": random_inputs()[1]}


def equinox():
    import equinox

    return {"equinox": equinox}


def onnx():
    onnxruntime = pytest.importorskip("onnxruntime")
    stack = gru_jax.init_gru_stack(jax.random.key(0), I, (H,), reset="after")
    gru_jax.convert.to_onnx(stack, "model.onnx")
    h0, xs = random_inputs()
    weights = gru_jax.convert.to_onnx(stack.layers[0])
    names = {"xs": xs, "lengths": jnp.array([5, 2, 0, 3]), "w": weights["W"], "r": weights["R"]}
    inputs = {"xs": xs, "lengths": names["lengths"], "h0_0": h0[None]}
    inputs = {name: np.asarray(value) for name, value in inputs.items()}
    return names | {"onnxruntime": onnxruntime, "inputs": inputs}


# what the code of a section needs besides its framework, by the name of the format
SETUPS = {
    "torch": torch,
    "keras": keras,
    "linen": linen,
    "nnx": nnx,
    "haiku": haiku,
    "equinox": equinox,
    "onnx": onnx,
}


def row(form):
    """The row of the table of formats, in Markdown."""
    biases = " and ".join(form.biases) or "none"
    if form.biases:
        biases += ", or none" if form.without_bias else "; zeros for missing ones"
    if form.summed:
        only = "" if form.summed == form.resets else f' with reset="{form.summed[0]}"'
        biases += f"; summed{only}"
    cells = (
        f"`from_{form.name}`, `to_{form.name}`",
        form.cell,
        ", ".join(f"`{network.__name__}`" for network in form.networks),
        " or ".join(form.resets),
        "1 − z" if form.negates_z else "z",
        biases,
    )
    return f"| {' | '.join(cells)} |"


def test_table_of_the_readme_is_the_table_of_formats():
    rows = re.findall(r"^\| `.*", README, flags=re.M)
    assert rows == list(map(row, FORMATS.values()))


@pytest.mark.parametrize("name", FORMATS)
def test_code_of_the_readme_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    form = FORMATS[name]
    if form.package is not None:
        pytest.importorskip(form.package)
    names = {"gru_jax": gru_jax, "jax": jax, "np": np, "pathlib": pathlib}
    names |= SETUPS.get(name, dict)()
    blocks = re.findall(r"```python\n(.*?)```", SECTIONS[form.framework], flags=re.S)
    assert blocks
    for block in blocks:
        assert len(block.strip().splitlines()) == 2
        exec(block, names)
    network = names.get("stack", names.get("params"))
    assert {type(network)} <= {gru_jax.GRUParams, gru_jax.GRUStack, gru_jax.Bidirectional}


def test_sections_of_the_readme_are_the_formats():
    frameworks = [form.framework for form in FORMATS.values()]
    assert list(SECTIONS) == ["What each can represent", *frameworks, "Adding a framework"]
