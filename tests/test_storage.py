"""Checkpoints of parameters and states: orbax, safetensors, Flax' msgpack, pickle."""

import copy
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import H, I, assert_close, random_params, random_stack
from contract import CELLS

import gru_jax


def all_classes():
    params = [cell.init(jax.random.key(0), I, H) for cell in CELLS.values()]
    params += [random_params(reset=reset, bias=False) for reset in ("before", "after")]
    params.append(gru_jax.init_readout(jax.random.key(0), I, H))
    params.append(gru_jax.init_gru_stack(jax.random.key(0), I, (H, 4), bidirectional=True))
    params.append(gru_jax.LSTMState(jnp.ones(H), jnp.zeros(H)))
    params.append(gru_jax.Solution(jnp.zeros(2), jnp.int32(3), jnp.ones(2, bool)))
    return params


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("reset", ["before", "after"])
def test_orbax_restores_into_the_same_reset_only(reset, bias, tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint")
    params = random_params(reset=reset, bias=bias)
    other = random_params(reset={"before": "after", "after": "before"}[reset], bias=bias)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "gru", params)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "gru", random_params(9, reset=reset, bias=bias))
        assert_close(restored, params, rtol=0, atol=0)
        assert restored.reset == reset
        with pytest.raises(ValueError, match="b_hn"):
            checkpointer.restore(tmp_path / "gru", other)


@pytest.mark.parametrize("norm", ["apart", "together"])
def test_orbax_restores_into_the_same_norm_only(norm, tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint")
    both = {
        each: gru_jax.init_layer_norm_gru(jax.random.key(0), I, H, norm=each)
        for each in ("apart", "together")
    }
    params = both.pop(norm)
    (other,) = both.values()
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "gru", params)
        checkpointer.wait_until_finished()
        assert_close(checkpointer.restore(tmp_path / "gru", params), params, rtol=0, atol=0)
        with pytest.raises(ValueError, match="gain_h"):
            checkpointer.restore(tmp_path / "gru", other)


def test_names_of_leaves_differ_between_resets():
    """Also without biases: a checkpoint of one reset does not fit the other."""
    before, after = (random_params(reset=reset, bias=False) for reset in ("before", "after"))

    def names(params):
        paths = jax.tree_util.tree_leaves_with_path(params, is_leaf=lambda leaf: leaf is None)
        return [jax.tree_util.keystr(path) for path, _ in paths]

    assert names(before) == [".w_x", ".w_h", ".b"]
    assert names(after) == [".w_x", ".w_h", ".b", ".b_hn"]
    wrong = gru_jax.GRUParams(before.w_x, before.w_h, None, jnp.ones(H), "before")
    with pytest.raises(ValueError, match=r'params\.b_hn is an array, but reset="before"'):
        jax.jit(gru_jax.gru_step)(wrong, jnp.ones(H), jnp.ones(I))


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_copies_and_pickles(way):
    for params in all_classes():
        other = way(params)
        assert jax.tree.structure(other) == jax.tree.structure(params)
        assert_close(other, params, rtol=0, atol=0)


@pytest.mark.parametrize("first", ["flax", "gru_jax"])
def test_flax_stores_parameters_in_either_order_of_import(first):
    pytest.importorskip("flax")
    second = {"flax": "gru_jax", "gru_jax": "flax"}[first]
    code = (
        f"import {first}, sys\n"
        f"assert ('flax' in sys.modules) == ({first!r} == 'flax')\n"
        f"import {second}, flax.serialization, gru_jax, jax\n"
        "params = gru_jax.init_gru(jax.random.key(0), 3, 5)\n"
        "data = flax.serialization.to_bytes({'gru': params})\n"
        "zeros = jax.tree.map(jax.numpy.zeros_like, {'gru': params})\n"
        "restored = flax.serialization.from_bytes(zeros, data)['gru']\n"
        "assert isinstance(restored, gru_jax.GRUParams)\n"
        "assert (restored.w_x == params.w_x).all()\n"
        "assert flax.serialization.__spec__.name == 'flax.serialization'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_flax_restores_into_the_same_class_only():
    serialization = pytest.importorskip("flax.serialization")
    for params in all_classes():
        zeros = jax.tree.map(jnp.zeros_like, params)
        restored = serialization.from_bytes(zeros, serialization.to_bytes(params))
        assert jax.tree.structure(restored) == jax.tree.structure(params)
        assert_close(restored, params, rtol=0, atol=0)
    before, after = (random_params(reset=reset, bias=False) for reset in ("before", "after"))
    with pytest.raises(ValueError, match="reset of the stored GRUParams is 'before', but that of"):
        serialization.from_bytes(after, serialization.to_bytes(before))
    with pytest.raises(ValueError, match="b of the stored GRUParams is an array, but that of the"):
        serialization.from_bytes(before, serialization.to_bytes(random_params()))
    rnn = gru_jax.init_rnn(jax.random.key(0), I, H)
    with pytest.raises(ValueError, match="the state of a RNNParams has"):
        serialization.from_bytes(rnn, serialization.to_bytes(before))


def test_flax_train_state_round_trip():
    serialization = pytest.importorskip("flax.serialization")
    train_state = pytest.importorskip("flax.training.train_state")
    optax = pytest.importorskip("optax")

    def state(seed):
        params = {"gru": random_params(seed, reset="after")}
        return train_state.TrainState.create(apply_fn=None, params=params, tx=optax.adam(1e-3))

    with jax.numpy_dtype_promotion("standard"):
        trained = state(0).apply_gradients(grads=state(1).params)
    restored = serialization.from_bytes(state(2), serialization.to_bytes(trained))
    assert_close((restored.params, restored.opt_state), (trained.params, trained.opt_state))
    assert np.asarray(restored.step) == 1


def test_safetensors_round_trip_of_a_stack(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    stack, _ = random_stack()
    leaves, structure = jax.tree_util.tree_flatten_with_path(stack)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    assert names[0] == "layers.0.forward.w_x"
    arrays = {name: np.asarray(leaf) for name, (_, leaf) in zip(names, leaves, strict=True)}
    safetensors.save_file(arrays, tmp_path / "stack.safetensors")
    arrays = safetensors.load_file(tmp_path / "stack.safetensors")
    restored = jax.tree.unflatten(structure, [jnp.asarray(arrays[name]) for name in names])
    assert_close(restored, stack, rtol=0, atol=0)


def test_orbax_round_trip_of_a_stack(tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint")
    stack, _ = random_stack()
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "stack", stack)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "stack", jax.tree.map(jnp.zeros_like, stack))
    assert jax.tree.structure(restored) == jax.tree.structure(stack)
    assert_close(restored, stack, rtol=0, atol=0)
