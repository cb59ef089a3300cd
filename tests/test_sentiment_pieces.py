"""Words as sums of pieces in the sentiment experiment: themselves, their pairs, their letters."""

import math

import jax
import numpy as np
import pytest
from common import assert_close

from experiments.harness.tokens import PAD
from experiments.sentiment import data
from experiments.sentiment import model as models
from experiments.sentiment.data import PIECES, encode, words_of

pytestmark = pytest.mark.usefixtures("jax_defaults")


@pytest.fixture
def model():
    return models.init_model(jax.random.key(0), np.zeros((20, 3)), 8, 6)


def test_ngrams_of_letters_cannot_be_words():
    assert data.ngrams_of("no") == ["#<no", "#no>", "#<no>"]
    assert data.ngrams_of("a") == ["#<a>"]
    ngrams = data.ngrams_of("wonderful")
    assert not set(ngrams) & set(words_of(" ".join(ngrams)))


def vocabulary_of(sentences, at_least):
    names = "words_at_least", "pairs_at_least", "ngrams_at_least"
    return data.pieces_of(sentences, **dict.fromkeys(names, at_least))


def test_sentences_are_encoded_cut_and_padded():
    """A word as itself, its pair with the word before, and its n-grams: those that are known."""
    sentences = [["a", "b", "a"], ["a", "b"], ["c", "nono"], ["no"]]
    vocabulary = vocabulary_of(sentences, 2)
    assert vocabulary.symbols[2:] == ("a", "b", "a b", "#<a>", "#<b>", "#<no", "#no>")
    number = vocabulary.numbers
    tokens = encode([["a", "b", "a"], ["nono"], ["b"] * 9, []], vocabulary, 4)
    assert tokens.shape == (4, 4, PIECES)
    np.testing.assert_array_equal(data.lengths_of(tokens), [3, 1, 4, 0])
    expected = {
        (0, 0): ["a", "<pad>", "#<a>", "<pad>"],
        (0, 1): ["b", "a b", "#<b>", "<pad>"],
        (0, 2): ["a", "<pad>", "#<a>", "<pad>"],  # "b a" is too rare
        (1, 0): ["<unknown>", "<pad>", "#<no", "#no>"],
        (2, 3): ["b", "<pad>", "#<b>", "<pad>"],
    }
    for place, symbols in expected.items():
        np.testing.assert_array_equal(tokens[place][:4], [number[symbol] for symbol in symbols])
        assert np.all(tokens[place][4:] == PAD)


def test_a_long_word_has_as_many_pieces_as_fit():
    sentence = ["so", "l" + 30 * "o" + "ng"]
    tokens = encode([sentence], vocabulary_of([sentence], 1), 2)
    assert np.all(tokens[0, 1] != PAD)


def test_a_word_is_the_scaled_sum_of_its_pieces(model):
    """Padding counts for nothing, whatever its vector."""
    tokens = np.array([[3, 5, PAD, PAD], [4, PAD, PAD, PAD], [PAD] * 4])
    table = model.embedding
    expected = [(table[3] + table[5]) / math.sqrt(2), table[4], np.zeros(8)]
    assert_close(models.vectors_of(model, tokens), np.stack(expected), rtol=1e-6)


def test_pieces_are_dropped_one_by_one_and_the_rest_scaled(model):
    """So are those of a word: here two, of which none, one or both are left."""
    tokens = np.tile([3, 5, PAD, PAD], (200, 1))
    found = models.vectors_of(model, tokens, 0.5, jax.random.key(0))
    first, second = (2 * model.embedding[piece] / math.sqrt(2) for piece in (3, 5))
    possible = np.stack([np.zeros(8), first, second, first + second])
    distance = np.abs(np.asarray(found)[:, None] - possible).max(axis=-1)
    assert np.all(distance.min(axis=1) < 1e-5)
    assert np.all(np.bincount(distance.argmin(axis=1)) > 25)  # of 50 expected
