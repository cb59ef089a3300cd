"""`sequence_mask`: values, shapes, every integer dtype, and what raises."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import gru_jax

INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]


def counts(lengths, max_length):
    return np.sum(gru_jax.sequence_mask(lengths, max_length), axis=0).tolist()


def test_values():
    np.testing.assert_array_equal(
        gru_jax.sequence_mask(np.array([[0, 1], [3, 9]]), 3),
        [
            [[False, True], [True, True]],
            [[False, False], [True, True]],
            [[False, False], [True, True]],
        ],
    )


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("make", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_more_steps_than_the_dtype_of_the_lengths_counts(dtype, make):
    assert counts(make(np.array([100, 1, 0], dtype)), 300) == [100, 1, 0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int16, np.int64])
def test_largest_lengths_of_a_dtype(dtype):
    assert counts(np.array([200, 255, 0], dtype), 300) == [200, 255, 0]
    most = np.iinfo(dtype).max
    assert counts(np.array([most, 3], dtype), 300) == [min(most, 300), 3]


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.uint4])
def test_four_bit_lengths(dtype):
    assert counts(jnp.array([7, 0, 3], dtype), 30) == [7, 0, 3]


def test_lengths_beyond_int32():
    assert counts(np.array([2**32 + 1, 2**31, 5]), 9) == [9, 9, 5]
    with jax.enable_x64(True):
        assert counts(jnp.array([2**32 + 1, 2**31, 5]), 9) == [9, 9, 5]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
def test_traced_lengths(dtype):
    lengths = jnp.asarray(np.array([120, 1, 0], dtype))
    mask = jax.jit(gru_jax.sequence_mask, static_argnums=1)(lengths, 300)
    assert np.sum(mask, axis=0).tolist() == [120, 1, 0]
    assert not np.any(jax.jit(gru_jax.sequence_mask, static_argnums=1)(jnp.int32(-1), 3))


def test_shapes():
    assert gru_jax.sequence_mask(2, 3).tolist() == [True, True, False]
    assert gru_jax.sequence_mask([[2, 0], [1, 3]], 3).shape == (3, 2, 2)
    assert gru_jax.sequence_mask(np.array([1, 2]), 0).shape == (0, 2)
    assert gru_jax.sequence_mask([1, 2], np.int64(3)).shape == (3, 2)


@pytest.mark.parametrize(
    ("lengths", "max_length", "message"),
    [
        ([-1, 2], 3, "lengths has -1, but lengths are at least 0"),
        (np.array([-(2**40)]), 3, "lengths has -1, but lengths are at least 0"),
        ([1.0], 3, "lengths is float32, but must be integers"),
        ([True], 3, "lengths is bool, but must be integers"),
        (None, 3, "lengths is None, but must be integers"),
        ("ab", 3, "lengths is a str, but must be integers"),
        ([[1], [2, 3]], 3, "lengths is a list, but must be integers"),
        ([1], -1, "max_length is -1, but must be at least 0"),
        ([1], 2.0, "max_length is a float, but must be a Python integer"),
        ([1], None, "max_length is None, but must be a Python integer"),
    ],
)
def test_wrong_arguments_raise(lengths, max_length, message):
    with pytest.raises(ValueError, match=message):
        gru_jax.sequence_mask(lengths, max_length)
