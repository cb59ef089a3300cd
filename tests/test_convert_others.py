"""GRUs in Haiku models, and Equinox cells."""

import jax
import pytest
from common import B, H, I, assert_close, random_inputs
from convert_common import assert_same, randomised

import gru_jax
from gru_jax import convert

# warnings of the frameworks are not ours to fix
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("jax_defaults"),
]
KEY = jax.random.key(0)


def test_prefixes_of_grus_in_a_haiku_model():
    hk = pytest.importorskip("haiku")
    _, xs = random_inputs()

    def network(xs):
        core = hk.DeepRNN([hk.Linear(I), hk.GRU(H), hk.LSTM(4), hk.GRU(5, name="last")])
        return hk.dynamic_unroll(core, xs, core.initial_state(B))[0]

    params = randomised(hk.transform(network).init(KEY, xs))
    assert_same(convert.from_haiku(params, prefix="gru"), convert.from_haiku(params["gru"]))
    assert convert.from_haiku(params, prefix="last/").hidden_size == 5
    with pytest.raises(ValueError, match=r"2 GRUs: .*\['gru/', 'last/'\]"):
        convert.from_haiku(params)
    del params["gru"]
    assert convert.from_haiku(params).hidden_size == 5


def test_equinox_cell_matches_and_others_are_refused():
    eqx = pytest.importorskip("equinox")
    for bias in (True, False):
        cell = eqx.nn.GRUCell(I, H, use_bias=bias, key=KEY)
        h0, xs = random_inputs(batch=())
        params = convert.from_equinox(cell)
        assert_close(gru_jax.gru_step(params, h0, xs[0]), cell(xs[0], h0))
        assert_same(jax.jit(convert.from_equinox)(eqx.filter(cell, eqx.is_array)), params)
    for wrong in (eqx.nn.LSTMCell(I, H, key=KEY), eqx.nn.Linear(I, H, key=KEY), None, [cell]):
        with pytest.raises(ValueError, match=r"arrays is a .*, but must be a mapping: an equinox"):
            convert.from_equinox(wrong)
