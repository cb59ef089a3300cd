"""Translation's searches against brute force, and its scores against cases worked by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import assert_close

from experiments.harness.tokens import PAD
from experiments.translation.data import Part
from experiments.translation.scores import baselines_of, edit_distance, scores_of
from experiments.translation.search import beam_search, greedy

pytestmark = pytest.mark.usefixtures("jax_defaults")

LENGTH, SYMBOLS = 4, (1, 2, 3)  # three tokens, of which 3 ends
TABLES = jnp.asarray(np.random.default_rng(0).normal(0, 2, (5, LENGTH, 4, 4)), jnp.float32)
TABLES = TABLES.at[..., PAD].set(-jnp.inf)
LOG_P = np.asarray(jax.nn.log_softmax(TABLES))


def table_step(state, tokens):
    """A model whose logits depend on the row, the step and the token before."""
    row, t = state
    return (row, t + 1), TABLES[row, t, tokens]


def first_state(rows):
    return jnp.arange(rows), jnp.zeros(rows, jnp.int32)


def log_p(row, sequence):
    before, total = 1, 0.0
    for t, token in enumerate(sequence):
        total += LOG_P[row, t, before, token]
        before = token
    return float(total)


def everything():
    """All sequences that end, or are as long as can be."""
    for n in range(1, LENGTH + 1):
        for head in itertools.product((1, 2), repeat=n - 1):
            yield (*head, 3)
    yield from itertools.product((1, 2), repeat=LENGTH)


@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 1.0])
def test_a_wide_beam_finds_all_sequences_in_order(length_penalty):
    count = len(list(everything()))
    search = jax.jit(
        lambda state, start: beam_search(
            table_step,
            state,
            start,
            end=3,
            length=LENGTH,
            size=count + 2,
            length_penalty=length_penalty,
        )
    )
    tokens, scores = search(first_state(5), jnp.ones(5, jnp.int32))
    for row in range(5):
        expected = sorted(
            ((log_p(row, s) / len(s) ** length_penalty, s) for s in everything()), reverse=True
        )
        found = [tuple(x for x in sequence if x != PAD) for sequence in tokens[row].tolist()]
        assert found[:count] == [sequence for _, sequence in expected]
        assert_close(scores[row, :count], jnp.array([score for score, _ in expected]), rtol=1e-4)
        np.testing.assert_array_equal(scores[row, count:], -jnp.inf)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_narrow_beam_prunes_as_said(size):
    """Against the same in plain Python: extend all, keep the `size` most probable."""
    tokens, scores = beam_search(
        table_step,
        first_state(5),
        jnp.ones(5, jnp.int32),
        end=3,
        length=LENGTH,
        size=size,
        length_penalty=1.0,
    )
    for row in range(5):
        kept = [()]
        for _ in range(LENGTH):
            longer = [
                new
                for old in kept
                for new in ([old] if old[-1:] == (3,) else [(*old, token) for token in SYMBOLS])
            ]
            kept = sorted(longer, key=lambda s, row=row: -log_p(row, s))[:size]
        expected = max(kept, key=lambda s, row=row: log_p(row, s) / len(s))
        assert tuple(x for x in tokens[row, 0].tolist() if x != PAD) == expected
        assert_close(scores[row, 0], log_p(row, expected) / len(expected), rtol=1e-4)


def test_greedy_takes_the_most_probable_token_each_time():
    start = jnp.ones(5, jnp.int32)
    search = jax.jit(lambda state, start: greedy(table_step, state, start, end=3, length=LENGTH))
    tokens = search(first_state(5), start)
    for row in range(5):
        expected = ()
        while len(expected) < LENGTH and expected[-1:] != (3,):
            expected = max(
                ((*expected, token) for token in SYMBOLS), key=lambda s, row=row: log_p(row, s)
            )
        assert tuple(x for x in tokens[row].tolist() if x != PAD) == expected


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int8, jnp.int16])
def test_tokens_that_the_first_one_is_too_narrow_for(dtype):
    """Each token is the one before and 40,000 more, modulo 50,000; the end is 10,000."""

    def step(state, tokens):
        logits = jax.nn.one_hot((tokens + 40_000) % 50_000, 50_000)
        return state, 100 * logits.at[..., PAD].set(-1.0)

    start, state = jnp.array([20, 70], dtype), jnp.zeros(2)
    expected = [[40_020, 30_020, 20_020], [40_070, 30_070, 20_070]]
    found = greedy(step, state, start, end=20_020, length=5)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found[:, :3], expected)
    np.testing.assert_array_equal(found[:, 3:], [[PAD, PAD], [10_070, 70]])
    beams, _ = beam_search(step, state, start, end=20_020, length=5, size=2, length_penalty=0.0)
    np.testing.assert_array_equal(beams[:, 0], found)


def words(*texts):
    return [tuple(text.split()) for text in texts]


def test_scores_by_hand():
    hypotheses = words("a b c", "a b", "x", "")
    references = [words("a b c"), words("c d e", "a c"), words("x", "y"), words("a b")]
    scores = scores_of(hypotheses, references)
    assert scores["sequence error"] == 2 / 4
    assert scores["token error"] == (0 + 1 + 0 + 2) / (3 + 2 + 1 + 2)
    assert [edit_distance(*pair) for pair in itertools.product(words("k i t e n"), words(
        "s i t i n g", "k i t e n", "", "n e t i k"
    ))] == [3, 0, 5, 4]  # fmt: skip
    perfect = scores_of(words("a b c d e"), [words("x", "a b c d e")])
    assert perfect["BLEU"] == pytest.approx(100)
    # 4/5, 3/4, 2/3 and 1/2 of the n-grams are right, and the lengths are equal
    near = scores_of(words("a b c d x"), [words("a b c d e")])
    assert near["BLEU"] == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)


def test_baselines_by_hand():
    train = Part(words("one dog", "two dog", "one cat"), [[x] for x in words("u p", "d p", "u g")])
    test = Part(words("two cat", "one bird"), [words("d g"), words("one bird")])
    found = baselines_of(train, test)
    assert found["copy"]["sequence error"] == 0.5
    # Dice: two-d 1, cat-g 1, one-u 1, and nothing for "bird"
    assert found["token by token"]["sequence error"] == 0.5
    assert found["token by token"]["token error"] == 2 / 4
    assert found["most frequent token"]["token error"] == 1.0  # "u" or "p" throughout
