"""Shakespeare's texts where they can be had, chunks of them, and n-grams worked by hand."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from experiments.harness.datasets import DatasetError
from experiments.shakespeare.data import Text, batch_at, plain_text, tiny
from experiments.shakespeare.data import plays as load_plays
from experiments.shakespeare.ngrams import ngram_baselines

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
TOKENS = np.random.default_rng(0).integers(0, 11, 1000)


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        (
            "# Macbeth\n\n## ACT I  \n\n\n\n**First Witch**  \nWhen shall we  \nmeet again?\n\n",
            "Macbeth\n\nACT I\n\nFirst Witch:\nWhen shall we\nmeet again?\n",
        ),
        ("_Exeunt_\n\n**ALL**  \n_\\[Aside]_  \nFair", "[Exeunt]\n\nALL:\n[Aside]\nFair\n"),
        ("_Enter DUNCAN,\nand others_\n", "[Enter DUNCAN,\nand others]\n"),
        ("*Derby, \nArtois.*\n\n*[Reads.]*  \nMy", "[Derby,\nArtois.]\n\n[Reads.]\nMy\n"),
        ("__\\[Awaking]_  \nWhat?\n\n[Within]_  \nWho?", "[Awaking]\nWhat?\n\n[Within]\nWho?\n"),
        ("_Burthen _\\[dispersedly, within_\n\nHark!", "[Burthen dispersedly, within]\n\nHark!\n"),
        ("And _\\[Censorinus,]_  \nand ever _\\[ ]_", "And [Censorinus,]\nand ever [ ]\n"),
        ("a_ stray\n\nb_ stray", "a_ stray\n\nb_ stray\n"),
        ("**ROSENCRANTZ: & GUILDENSTERN:**  \nAy", "ROSENCRANTZ: & GUILDENSTERN:\nAy\n"),
        ("hey, & c.\n\n_drums, & c_\n\nSenators, & C", "hey, &c.\n\n[drums, &c]\n\nSenators, &C\n"),
        ("child,' &amp; c. This\n\n**A & CATO**  ", "child,' &c. This\n\nA & CATO:\n"),
        ("1\\. Trumpets.  \n\\--or '\\--it.—Come", "1. Trumpets.\n--or '--it.--Come\n"),
    ],
)  # fmt: skip
def test_plays_lose_their_markup(markdown: str, expected: str) -> None:
    assert plain_text(markdown) == expected


def test_tiny_shakespeare_is_split_as_in_nanogpt(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (SHARED / "tinyshakespeare.txt").is_file():
        pytest.skip(f"no {SHARED / 'tinyshakespeare.txt'}")
    monkeypatch.setenv("GRU_JAX_DATA", str(SHARED))
    text = tiny()
    # Counts of shared/data/README.md and of nanoGPT's data/shakespeare_char/readme.md.
    assert len(text.train + text.validation) == 1_115_394
    assert len(set(text.train + text.validation)) == 65
    assert (len(text.train), len(text.validation)) == (1_003_854, 111_540)


@pytest.fixture(scope="session")
def plays() -> Text:
    """The only data here that may need the network, and then once per user."""
    try:
        return load_plays()
    except DatasetError as error:
        pytest.skip(str(error))


def test_plays_are_whole_and_plain(plays: Text) -> None:
    # Counted from the loader's own result: they pin the conversion.
    assert (len(plays.train), len(set(plays.train))) == (4_534_170, 79)
    assert (len(plays.validation), len(set(plays.validation))) == (464_012, 65)
    assert set(plays.validation) <= set(plays.train)
    for part, count in ((plays.train, 34), (plays.validation, 4)):
        assert part.count("\n\nACT I\n") == count
        assert not set(part) & set("_*#\\")
        assert part.count("[") == part.count("]")
        assert " \n" not in part
        assert "\n\n\n" not in part
    assert plays.validation.startswith("Twelfth Night\n\nACT I\n\nSCENE I. DUKE ORSINO's palace.\n")
    assert plays.validation.endswith(
        "Whom we invite to see us crown'd at Scone.\n\n[Flourish. Exeunt]\n"
    )
    assert "First Witch:\nWhen shall we three meet again\nIn thunder," in plays.validation
    assert "Whom we invite to see us crown'd at Scone." not in plays.train


def test_an_epoch_reads_the_text_once():
    per_epoch = len(TOKENS) // 8 // 16
    batches = [batch_at(step, np.arange(1000), 16, 8, seed=0) for step in range(per_epoch + 1)]
    read = np.concatenate([batch.tokens[:-1].ravel() for batch in batches[:-1]])
    assert len(set(read)) == len(read) == per_epoch * 8 * 16
    assert [bool(batch.is_first) for batch in batches] == [True] + [False] * (per_epoch - 1) + [
        True
    ]
    for before, after in pairwise(batches[:-1]):
        np.testing.assert_array_equal(before.tokens[-1], after.tokens[0])
    assert not np.array_equal(batches[0].tokens, batches[-1].tokens)


def test_a_text_too_short_is_refused():
    with pytest.raises(ValueError, match="8 streams of a text of 100 characters have 12 each"):
        batch_at(0, TOKENS[:100], 16, 8, seed=0)


def test_ngrams_by_hand():
    """Train "abab", validation "aab", with the formulas of Witten and Bell worked out on paper."""
    train, validation = np.array([0, 1, 0, 1]), np.array([0, 0, 1])
    baselines = ngram_baselines(train, validation, 2)
    unigram_b = (2 + 1) / (4 + 2)
    # after "a": n = 2, t = 1, both "b"; "aa" never occurred, so its successor is left to "a"
    bigram_ab = (2 + 1 * unigram_b) / (2 + 1)
    assert baselines["unigram"] == pytest.approx(-math.log(unigram_b))
    assert baselines["trigram"] == pytest.approx(-math.log(bigram_ab))
    # "aba" has its context "ab" once, with successor "a": n = 1, t = 1
    unigram_a = 0.5
    bigram_ba = (1 + 1 * unigram_a) / (1 + 1)
    trigram_aba = (1 + 1 * bigram_ba) / (1 + 1)
    seen = ngram_baselines(train, np.array([0, 1, 0]), 2)
    assert seen["trigram"] == pytest.approx(-math.log(trigram_aba))


def test_ngrams_of_tokens_in_few_bits():
    """A trigram's number is up to size³, and wrapped where the tokens were bytes."""
    unsigned, signed, expected = (
        ngram_baselines(TOKENS[:900].astype(dtype), TOKENS[900:].astype(dtype), 11)
        for dtype in (np.uint8, np.int8, np.int64)
    )
    assert unsigned == signed == expected


def test_ngrams_are_distributions():
    train = TOKENS[:500]
    for order in ("unigram", "trigram"):
        total = sum(
            math.exp(-ngram_baselines(train, np.array([3, 7, last]), 11)[order])
            for last in range(11)
        )
        assert total == pytest.approx(1)
