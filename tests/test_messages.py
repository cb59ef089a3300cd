"""Every argument of every public function, of every wrong kind: our error names it, not JAX's."""

import inspect
import traceback

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import B, H, I, T, random_flags, random_inputs, random_params
from contract import CELLS

import gru_jax

KEY = jax.random.key(0)
GRU, (H0, XS) = random_params(), random_inputs()
STACK = gru_jax.init_gru_stack(KEY, I, (H, H))
HEAD = gru_jax.init_readout(KEY, H, I)
FLAGS = random_flags()


def token_step(params, h, token):
    x = jax.nn.one_hot(token, I)
    return gru_jax.generate_step(GRU, HEAD, h, x, activation=lambda y: y)


def loss_of_chunk(params, h, xs):
    h, hs = gru_jax.gru_unroll(GRU, h, xs)
    return jnp.sum(hs**2), h


SIZES = {"key": KEY, "input_size": I, "hidden_size": H}
STEP = {"resets": FLAGS[0], "reset_state": H0}
UNROLL = {"mask": FLAGS, "resets": FLAGS, "reset_state": H0, "reverse": False}
CALLS = {
    gru_jax.init_gru: SIZES
    | {"reset": "after", "bias": True, "dtype": jnp.float32, "preset": "torch"}
    | {f"{name}_init": jax.nn.initializers.ones for name in ("w_x", "w_h", "b", "b_hn")},
    gru_jax.init_gru_stack: {
        "key": KEY,
        "input_size": I,
        "hidden_sizes": (H,),
        "bidirectional": False,
        "init": gru_jax.init_gru,
    },
    gru_jax.init_readout: {
        "key": KEY,
        "hidden_size": H,
        "output_size": 2,
        "bias": True,
        "dtype": jnp.float32,
        "w_init": jax.nn.initializers.ones,
        "b_init": jax.nn.initializers.zeros,
    },
    gru_jax.zero_state: {"params": GRU, "batch_shape": (B,)},
    gru_jax.sequence_mask: {"lengths": jnp.arange(3), "max_length": T},
    gru_jax.readout: {"params": HEAD, "h": H0},
    gru_jax.generate_step: {
        "params": GRU,
        "readout_params": HEAD,
        "h": H0,
        "x": XS[0],
        "activation": jax.nn.sigmoid,
    },
    gru_jax.generate: {
        "key": KEY,
        "step": token_step,
        "params": (),
        "h0": H0,
        "prompt": jnp.zeros((1, B), int),
        "length": 2,
        "temperature": 1.0,
        "top_k": 2,
        "sample": jax.random.categorical,
    },
    gru_jax.unroll: {"step": gru_jax.gru_step, "params": GRU, "h0": H0, "xs": XS}
    | UNROLL
    | {"unroll": 1},
    gru_jax.chunked_loss: {"loss": loss_of_chunk, "params": (), "h0": H0, "xs": XS, "chunk": 2},
    gru_jax.gru_unroll: {"params": GRU, "h0": H0, "xs": XS}
    | UNROLL
    | {"unroll": 1, "save": "gates", "zoneout": 0.1, "state_scale": H0}
    | {"unit_mask": jnp.ones((T, B, H), bool), "implementation": "scan"},
    gru_jax.gru_unroll_parallel: {"params": GRU, "h0": H0, "xs": XS, "mask": FLAGS}
    | {"resets": FLAGS, "reset_state": H0, "reverse": False, "jacobian": "full", "tolerance": 0.1}
    | {"max_iterations": 2, "guess": jnp.zeros((T, B, H))},
    gru_jax.min_gru_unroll: {"params": gru_jax.init_min_gru(KEY, I, H), "h0": H0, "xs": XS}
    | UNROLL,
    gru_jax.gru_stack_step: {"stack": STACK, "hs": (H0, H0), "x": XS[0], "resets": FLAGS[0]}
    | {"reset_state": (H0, H0), "step": gru_jax.gru_step, "residual": False, "zoneout": 0.1},
    gru_jax.gru_stack_unroll: {"stack": STACK, "h0s": (H0, H0), "xs": XS}
    | {"mask": FLAGS, "resets": FLAGS, "reset_state": (H0, H0), "step": gru_jax.gru_step}
    | {"residual": False, "dropout": 0.1, "input_dropout": 0.1, "recurrent_dropout": 0.1}
    | {"zoneout": 0.1, "key": KEY, "save": "gates", "implementation": "scan"},
    gru_jax.gru_step: {"params": GRU, "h": H0, "x": XS[0]} | STEP,
}
for name, (init, step, *_) in CELLS.items():
    if name.startswith("gru"):
        continue
    if name != "layer_norm_gru together":
        state = "state" if name == "lstm" else "h"
        params = init(KEY, I, H)
        h = gru_jax.zero_state(params, (B,))
        CALLS[init] = SIZES | {"dtype": jnp.float32}
        CALLS[step] = {"params": params, state: h, "x": XS[0], "resets": FLAGS[0]}
        CALLS[step] |= {"reset_state": h}

VALUES = {
    "None": None,
    "str": "wrong",
    "int": 3,
    "float": 2.5,
    "list": [1, "a"],
    "dict": {"w": 1},
    "object": object(),
    "bool": True,
    "array of integers": jnp.arange(4),
    "empty array": jnp.zeros((0,)),
    "array of strings": np.array(["a", "b"]),
    "typed keys": jax.random.split(KEY, 2),
    "raw key": jax.random.PRNGKey(0),
    "LSTMParams": gru_jax.init_lstm(KEY, I, H),
    "GRUParams": GRU,
    "GRUStack": STACK,
    "ReadoutParams": HEAD,
    "class": gru_jax.GRUParams,
    "traced": "traced",
}

# Arguments for which a value of this kind is not wrong.
ACCEPTED = {
    "None": "reset preset w_x_init w_h_init b_init b_hn_init h0 h0s hs mask resets reset_state "
    "state_scale unit_mask key top_k tolerance guess implementation "
    "chunk",
    "int": "input_size hidden_size output_size max_length lengths length unroll temperature top_k "
    "max_iterations tolerance chunk",
    "float": "temperature tolerance",
    "bool": "bias bidirectional reverse residual",
    "array of integers": "lengths hidden_sizes temperature",
    "raw key": "key lengths",
    "traced": "lengths temperature h x xs h0 h0s hs reset_state state_scale guess",
    "empty array": "lengths",
    "class": "activation init sample step",
    "GRUStack": "stack",
    "ReadoutParams": "readout_params",
}
ANY_PARAMS = gru_jax.unroll, gru_jax.chunked_loss, gru_jax.generate  # whose function takes them


def cases():
    for function, arguments in CALLS.items():
        for argument in arguments:
            for kind in VALUES:
                yield pytest.param(
                    function, argument, kind, id=f"{function.__name__}-{argument}-{kind}"
                )


def accepted(function, argument, kind):
    """Whether a value of this kind is right for the argument, or is its step's to judge."""
    if argument == "params" and function in ANY_PARAMS:
        return True
    if argument == "params":
        states = {gru_jax.zero_state: ("GRUParams", "GRUStack", "LSTMParams")}
        return kind in states.get(function, type(CALLS[function]["params"]).__name__)
    if (argument, kind) == ("key", "None"):
        return function is gru_jax.gru_stack_unroll
    if (argument, kind) == ("h0", "None"):
        return function not in (gru_jax.generate, gru_jax.chunked_loss)
    return argument in ACCEPTED.get(kind, "").split()


def call(function, arguments, argument, kind):
    if kind != "traced":
        return function(**(arguments | {argument: VALUES[kind]}))
    value = jnp.float32(0.5) if argument == "temperature" else jnp.arange(4)
    return jax.jit(lambda traced: function(**(arguments | {argument: traced})))(value)


@pytest.mark.parametrize("function", CALLS, ids=lambda function: function.__name__)
def test_table_has_every_argument(function):
    names = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    ]
    assert set(names) - {"norm"} == set(CALLS[function])
    function(**CALLS[function])


@pytest.mark.parametrize(("function", "argument", "kind"), list(cases()))
def test_error_names_the_argument(function, argument, kind):
    error = None
    try:
        call(function, CALLS[function], argument, kind)
    except (ValueError, TypeError) as raised:
        error = raised
    if error is None:
        assert accepted(function, argument, kind), "accepted without an error"
        return
    message, raised_by = str(error), traceback.extract_tb(error.__traceback__)[-1].filename
    assert "gru_jax" in raised_by.split("site-packages")[-1], f"raised by {raised_by}: {message}"
    assert not isinstance(error, jax.errors.JAXTypeError), message
    named = argument in message or (argument == "h0s" and "h0" in message)
    assert named or accepted(function, argument, kind), message
