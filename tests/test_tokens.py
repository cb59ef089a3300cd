"""The vocabulary that the experiments share, padding, and dropout."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.harness.dropout import dropout
from experiments.harness.tokens import PAD, padded, vocabulary_of


def test_the_vocabulary_is_ordered_by_frequency_then_alphabet():
    vocabulary = vocabulary_of(["cabca", "dcb"], special=("<pad>",))
    assert vocabulary.symbols == ("<pad>", "c", "a", "b", "d")
    assert len(vocabulary) == 5
    assert vocabulary_of([["a", "b"], ["b"]], at_least=2).symbols == ("b",)


def test_what_is_encoded_is_decoded():
    vocabulary = vocabulary_of([["to", "be"], ["or"]])
    tokens = vocabulary.encode(["or", "be", "or"])
    assert tokens.dtype == np.int32
    assert vocabulary.decode(tokens) == ("or", "be", "or")
    empty = vocabulary.encode([])
    assert (empty.shape, empty.dtype) == ((0,), np.int32)


def test_unknown_symbols_have_the_number_of_unknown_or_are_refused():
    with_unknown = vocabulary_of(["aab"], special=("<pad>", "<unknown>"))
    np.testing.assert_array_equal(with_unknown.encode("bxa"), [3, 1, 2])
    with pytest.raises(ValueError, match=r"'bxa' has \['x'\], but the symbols are \('a', 'b'\)"):
        vocabulary_of(["aab"]).encode("bxa")


def test_special_symbols_in_the_data_are_refused():
    with pytest.raises(ValueError, match=r"the sequences have \['<end>'\]"):
        vocabulary_of([["a", "<end>"]], special=("<pad>", "<end>"))


def test_rows_are_padded_and_cut():
    rows = [np.array([1, 2, 3]), np.array([4]), np.array([], np.int32)]
    tokens = padded(rows, 2)
    np.testing.assert_array_equal(tokens, [[1, 2], [4, PAD], [PAD, PAD]])
    assert tokens.dtype == np.int32


def test_dropout_keeps_the_mean():
    dropped = dropout(jax.random.key(0), jnp.ones(10_000), 0.3)
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / 0.7)}
    assert abs(np.mean(dropped) - 1) < 4 * math.sqrt(0.3 / 0.7 / 10_000)


@pytest.mark.parametrize("axes", [(), (0,), (0, 2)])
def test_dropout_shares_one_draw_along_broadcast_dims(axes):
    dropped = dropout(jax.random.key(0), jnp.ones((5, 40, 6)), 0.5, broadcast_dims=axes)
    for axis in range(3):
        alike = bool(jnp.all(dropped == jnp.take(dropped, jnp.array([0]), axis)))
        assert alike == (axis in axes)


def test_dropout_without_a_key_or_a_rate_changes_nothing():
    xs = jnp.arange(6.0)
    np.testing.assert_array_equal(dropout(None, xs, 0.5), xs)
    np.testing.assert_array_equal(dropout(jax.random.key(0), xs, 0.0), xs)


@pytest.mark.parametrize("key", [None, 0])
@pytest.mark.parametrize("rate", [1.0, -0.1, math.nan])
def test_dropout_refuses_what_is_no_rate(rate, key):
    key = None if key is None else jax.random.key(key)
    with pytest.raises(ValueError, match=r"but must be in \[0, 1\)"):
        dropout(key, jnp.ones(3), rate)
