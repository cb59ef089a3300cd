"""Files of Keras."""

import io
import json
import os
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import B, H, I, T, assert_close, random_inputs
from convert_common import assert_same, draw

import gru_jax
from gru_jax import Bidirectional, GRUParams, GRUStack, convert

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")
h5py = pytest.importorskip("h5py")
# warnings of the frameworks are not ours to fix
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("jax_defaults"),
]
FORMATS = pytest.mark.parametrize("ending", [".keras", ".weights.h5", ".h5"])


def gru(units=H, **options):
    return keras.layers.GRU(units, return_sequences=True, **options)


def model(*layers):
    made = keras.Sequential([keras.Input((T, I)), *layers])
    made.set_weights([draw(*w.shape, seed=i) for i, w in enumerate(made.get_weights())])
    return made


def save(made, tmp_path, ending):
    path = tmp_path / f"model{ending}"
    if ending == ".weights.h5":
        made.save_weights(path)
    else:
        made.save(path)
    return path


def run(network, xs):
    layers = network.layers if isinstance(network, GRUStack) else (network,)
    return gru_jax.gru_stack_unroll(GRUStack(tuple(layers)), None, xs)[1]


def check(network, layers, **tolerances):
    """The layers of Keras, run in sequence, and ours have the same outputs."""
    _, xs = random_inputs(inputs=layers[0].input.shape[-1])
    expected = jnp.swapaxes(xs, 0, 1)
    for layer in layers:
        expected = layer(expected)
    assert_close(run(network, xs), jnp.swapaxes(jnp.asarray(expected), 0, 1), **tolerances)


@FORMATS
@pytest.mark.parametrize("options", [{}, {"reset_after": False}, {"use_bias": False}])
def test_file_with_one_layer(ending, options, tmp_path):
    made = model(gru(**options), keras.layers.LSTM(4), keras.layers.Dense(2))
    path = save(made, tmp_path, ending)
    for given in (path, str(path)):
        params = convert.from_keras(given)
        assert isinstance(params, GRUParams)
        check(params, made.layers[:1])
    if ending == ".keras":
        before = options.get("reset_after", True)
        with pytest.raises(ValueError, match=rf"reset_after is {not before}, but .*={before}"):
            convert.from_keras(path, reset_after=not before)
        assert_same(convert.from_keras(path, reset_after=before), params)


@FORMATS
def test_reset_without_configuration_or_bias_is_the_default_of_keras(ending, tmp_path):
    made = model(gru(use_bias=False, reset_after=False))
    params = convert.from_keras(save(made, tmp_path, ending))
    assert params.reset == ("after" if ending == ".weights.h5" else "before")
    assert convert.from_keras(made.get_weights(), reset_after=False).reset == "before"


@FORMATS
@pytest.mark.parametrize("reset_after", [True, False])
def test_file_with_both_directions(ending, reset_after, tmp_path):
    made = model(keras.layers.Bidirectional(gru(reset_after=reset_after)), keras.layers.Dense(2))
    params = convert.from_keras(save(made, tmp_path, ending))
    assert isinstance(params, Bidirectional)
    check(params, made.layers[:1])


@FORMATS
def test_file_with_stacked_cells(ending, tmp_path):
    """Eleven, so that gru_cell_10 must not come before gru_cell_2."""
    cells = [keras.layers.GRUCell(4) for _ in range(10)]
    rnn = keras.layers.RNN([keras.layers.GRUCell(H), *cells], return_sequences=True)
    made = model(rnn)
    stack = convert.from_keras(save(made, tmp_path, ending))
    assert [cell.hidden_size for cell in stack.layers] == [H] + [4] * 10
    check(stack, made.layers)
    assert_same(convert.from_keras(made.weights), stack)


@FORMATS
def test_prefix_selects_one_of_several(ending, tmp_path):
    inner = keras.Sequential([keras.Input((T, I)), gru(4, name="first")], name="inner")
    made = model(
        inner,
        keras.layers.Bidirectional(gru(5, name="gru"), name="both"),
        gru(6, name="second", reset_after=False),
    )
    path = save(made, tmp_path, ending)
    _, both, second = made.layers
    check(convert.from_keras(path, prefix="first"), [inner])
    check(convert.from_keras(path, prefix="inner/first/"), [inner])
    check(convert.from_keras(path, prefix="both"), [both])
    check(convert.from_keras(path, prefix="second"), [second])
    one = convert.from_keras(path, prefix="both/backward_gru")
    assert_same(one, convert.from_keras(path, prefix="both").backward)
    if ending != ".h5":
        check(convert.from_keras(path, prefix="layers/bidirectional"), [both])
        check(convert.from_keras(path, prefix="layers/gru"), [second])
    with pytest.raises(ValueError, match=r"has 3 GRUs: .*prefix=.*inner/first/gru_cell/"):
        convert.from_keras(path)
    with pytest.raises(ValueError, match=r"prefix is 'third'.*first/gru_cell/"):
        convert.from_keras(path, prefix="third")


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"activation": "relu"}, "activation='relu'"),
        ({"recurrent_activation": "hard_sigmoid"}, "recurrent_activation='hard_sigmoid'"),
        ({"activation": "softsign"}, "activation='softsign'"),
        ({"activation": None}, "activation='linear'"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda layer: layer, keras.layers.Bidirectional])
def test_other_activations_are_refused(ending, options, found, wrap, tmp_path):
    path = save(model(wrap(gru(**options)), keras.layers.Dense(2)), tmp_path, ending)
    with pytest.raises(ValueError, match=f"weights of .* at .* has {found}"):
        convert.from_keras(path)


def test_custom_activation_named_like_a_standard_one_is_refused(tmp_path):
    @keras.saving.register_keras_serializable()
    def tanh(x):
        return x

    for activation in (tanh, lambda x: x):
        path = save(model(gru(activation=activation)), tmp_path, ".keras")
        with pytest.raises(ValueError, match="has activation="):
            convert.from_keras(path)


def test_activations_of_other_layers_are_ignored(tmp_path):
    layers = [gru(4, activation="relu", name="other"), gru(name="mine", use_bias=False)]
    path = save(model(*layers), tmp_path, ".keras")
    check(convert.from_keras(path, prefix="mine"), layers[1:])
    with pytest.raises(ValueError, match="relu"):
        convert.from_keras(path, prefix="other")


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
def test_files_of_bfloat16_and_subclassed_models(ending, tmp_path):
    @keras.saving.register_keras_serializable()
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            # there is no orthogonal initialiser for bfloat16
            options = {"dtype": "bfloat16", "recurrent_initializer": "glorot_uniform"}
            self.blocks = [gru(4, **options), gru(5, name="last", **options)]
            for block, inputs in zip(self.blocks, (I, 4), strict=True):
                block.build((B, T, inputs))

        def call(self, x):
            return self.blocks[1](self.blocks[0](x))

    made = Model()
    made.build((B, T, I))
    path = save(made, tmp_path, ending)
    params = convert.from_keras(path, prefix="last")
    assert params.w_x.dtype == jnp.bfloat16
    kernel = np.asarray(made.blocks[1].cell.kernel.value)
    np.testing.assert_array_equal(np.asarray(params.w_x[:, 5:]), kernel[:, 5:])
    assert_same(convert.from_keras(path, prefix="blocks/gru_1"), params)


def test_file_without_names_of_layers(tmp_path):
    made = model(gru(4, reset_after=False), gru(reset_after=False))
    path = save(made, tmp_path, ".keras")
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    weights = io.BytesIO(files["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        groups = []
        file.visit(groups.append)
        for group in groups:
            if group.endswith("vars"):
                del file[group].attrs["name"]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (files | {"model.weights.h5": weights.getvalue()}).items():
            archive.writestr(name, content)
    check(convert.from_keras(path, prefix="layers/gru_1"), made.layers[1:])
    config = json.loads(files["config.json"])
    config["config"]["layers"][1]["config"]["reset_after"] = True
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (files | {"model.weights.h5": weights.getvalue()}).items():
            archive.writestr(name, json.dumps(config) if name == "config.json" else content)
    with pytest.raises(ValueError, match="cannot be told from other layers"):
        convert.from_keras(path, prefix="layers/gru_1")


@pytest.mark.parametrize("cell", ["gru_cell/", ""])
def test_file_of_keras_2(cell, tmp_path):
    """Its layout, written by hand, because Keras 2 needs TensorFlow."""
    layer = keras.layers.Bidirectional(gru())
    made = model(layer)
    names = [
        f"{layer.name}/{part}_gru/{cell}{name}:0"
        for part in ("forward", "backward")
        for name in ("kernel", "recurrent_kernel", "bias")
    ]
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file.attrs["layer_names"] = [layer.name.encode(), b"dropout"]
        file.create_group("dropout").attrs["weight_names"] = np.zeros(0, "S1")
        group = file.create_group(layer.name)
        group.attrs["weight_names"] = [name.encode() for name in names]
        for name, weight in zip(names, made.get_weights(), strict=True):
            group[name] = weight
    check(convert.from_keras(tmp_path / "weights.h5"), [layer])
    old = {
        f"gru/{name}:0": w
        for name, w in zip(["kernel", "recurrent_kernel"], draw(2, H, 3 * H), strict=True)
    }
    assert convert.from_keras(old).input_size == H
    with pytest.raises(ValueError, match=r"bias has shape \(42,\) = \(6H,\).*CuDNNGRU"):
        convert.from_keras(old | {"gru/bias:0": draw(6 * H)})


def test_unreadable_paths_are_refused(tmp_path):
    (tmp_path / "text.h5").write_text("no HDF5 at all")
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("readme", "no model")
    for name, message in (
        ("none.keras", "there is no file"),
        (".", "there is a directory"),
        ("text.h5", "cannot be read"),
        ("other.keras", "cannot be read"),
    ):
        with pytest.raises(ValueError, match=rf"weights is the path .*{message}"):
            convert.from_keras(tmp_path / name)


def test_nested_model_without_names_of_layers(tmp_path):
    inner = keras.Sequential([keras.Input((T, I)), gru(4)])
    made = model(inner, gru())
    path = save(made, tmp_path, ".weights.h5")
    with h5py.File(path, "r+") as file:
        groups = []
        file.visit(groups.append)
        for group in groups:
            if group.endswith("vars"):
                del file[group].attrs["name"]
    check(convert.from_keras(path, prefix="layers/sequential"), [inner])
    check(convert.from_keras(path, prefix="layers/gru/"), made.layers[1:])


def test_missing_h5py_is_reported(tmp_path, monkeypatch):
    path = save(model(gru()), tmp_path, ".keras")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ValueError, match="h5py, which reads it, is not installed"):
        convert.from_keras(path)


def test_parameters_of_a_file_can_be_differentiated(tmp_path):
    made = model(gru())
    first, second = (convert.from_keras(save(made, tmp_path, ".keras")) for _ in range(2))
    value = jax.grad(lambda params: jnp.sum(run(params, random_inputs()[1])))(first)
    assert jax.tree.structure(value) == jax.tree.structure(second)
