"""Translation's data: the dictionary, the Bibles, tables, and batches of pairs."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from experiments.harness.datasets import DatasetError
from experiments.harness.settings import SettingError
from experiments.harness.tokens import vocabulary_of
from experiments.translation import verses
from experiments.translation.config import Config
from experiments.translation.data import (
    END,
    PAD,
    SPECIAL,
    UNKNOWN,
    Batch,
    batches_of,
    decode_row,
    encode_all,
    files,
    load,
)
from experiments.translation.verses import aligned_verses, plain_text


def words(*texts):
    return [tuple(text.split()) for text in texts]


@pytest.fixture(scope="module")
def cmudict():
    try:
        return load(Config())
    except DatasetError as error:
        pytest.skip(str(error))


def test_cmudict_has_its_counts_and_no_word_twice(cmudict):
    assert [len(part.sources) for part in cmudict[:3]] == [109_228, 3_146, 12_552]
    assert [len(part.pairs()) for part in cmudict[:3]] == [116_880, 3_339, 13_448]
    everything = {
        source: references
        for part in cmudict[:3]
        for source, references in zip(part.sources, part.references, strict=True)
    }
    assert len(everything) == 109_228 + 3_146 + 12_552  # the parts share no word
    assert everything[tuple("read")] == words("R EH D", "R IY D")
    assert everything[tuple("aalborg")] == words("AO L B AO R G", "AA L B AO R G")
    # DH AH0, DH AH1 and DH IY0 in the file
    assert everything[tuple("the")] == words("DH AH", "DH IY")
    phonemes = {phoneme for targets in everything.values() for t in targets for phoneme in t}
    assert len(phonemes) == 39
    assert {letter for word in everything for letter in word} == set("abcdefghijklmnopqrstuvwxyz'")


@pytest.fixture(scope="module")
def bible():
    try:
        return list(aligned_verses())
    except DatasetError as error:
        pytest.skip(str(error))


def test_verses_are_aligned_and_in_one_part_each(bible, monkeypatch):
    assert len(bible) == 31_084
    assert [bible[0][0], bible[-1][0]] == [1, 66]
    assert sorted({book for book, _, _ in bible}) == list(range(1, 67))
    assert bible[0][1] == "In the beginning God created the heaven and the earth."
    assert bible[0][2] == "EN el principio crió Dios los cielos y la tierra."
    assert (43, "Jesus wept.", "Y lloró Jesús.") in bible
    assert not any(set("<>¶\\") & set(english + spanish) for _, english, spanish in bible)
    # 11,664 where the paragraph sign counts as a word
    short = [max(len(a.split()), len(b.split())) <= 20 for _, a, b in bible]
    assert sum(short) == 11_741
    monkeypatch.setattr(verses, "aligned_verses", lambda: bible)
    data = load(Config(dataset="verses"))
    assert [len(part.pairs()) for part in data[:3]] == [10_076, 811, 679]
    assert data.train.pairs()[0] == (
        ("in", "the", "beginning", "god", "created", "the", "heaven", "and", "the", "earth", "."),
        ("en", "el", "principio", "crió", "dios", "los", "cielos", "y", "la", "tierra", "."),
    )
    sources = [set(part.sources) for part in data[:3]]
    for one, other in itertools.combinations(sources, 2):
        assert not one & other


@pytest.mark.parametrize(
    ("osis", "expected"),
    [
        (
            '¶<w lemma="G1">And</w> he <note type="study">or, <b>she</b></note>went. ',
            "And he went.",
        ),
        ('<title>A Psalm.</title>The \\nd LORD<lb/> is  <note n="1"/>', "The LORD is"),
        ('<chapter osisID="Gen.1"/>', ""),
    ],
)
def test_verses_lose_notes_and_markup(osis, expected):
    assert plain_text(osis) == expected


def test_a_table_is_read_by_words_or_characters(tmp_path):
    path = tmp_path / "pairs.tsv"
    lines = [f"{number}\tn {number % 7}" for number in range(100, 200)]
    path.write_text("\n".join([*lines, "", "123\tanother one"]) + "\n")
    data = load(Config(dataset="tsv", tsv=path))
    assert data.separators == ("", " ")
    pairs = [pair for part in data[:3] for pair in part.pairs()]
    assert len(pairs) == 101
    assert (("1", "2", "3"), ("n", "4")) in pairs
    both = [refs for part in data[:3] for s, refs in zip(*part, strict=True) if s == tuple("123")]
    assert both == [[("n", "4"), ("another", "one")]]
    assert len(data.train.sources) > 60


def test_a_byte_order_mark_is_no_token_and_a_line_separator_no_end_of_line(tmp_path):
    path = tmp_path / "pairs.tsv"
    lines = [f"{number}\tx\u2028y" for number in range(100, 200)]
    path.write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    data = load(Config(dataset="tsv", tsv=path))
    pairs = [pair for part in data[:3] for pair in part.pairs()]
    assert len(pairs) == 100
    assert {source[0] for source, _ in pairs} == {"1"}
    assert {target for _, target in pairs} == {("x", "\u2028", "y")}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a\tb\n\na\tb\tc\n", "line 3 has not two columns with one tab between: 'a.tb.tc'"),
        (b"a\tb\n\tb\n", "line 2 has not two columns"),
        (b"a\tb\nc\n", "line 2 has not two columns"),
        (b"a\tb\n" * 3, "its 3 lines are too few for three parts"),
        (b"a\tb\n<pad> c\tb\n", "line 2 has <pad>, which stands for something else"),
        (b"a\tb\n\xe9\tb\n", "line 2 is not UTF-8"),
        (b"\n \n", "this file is empty"),
        (None, "No such file or directory"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_line(tmp_path, content, said):
    path = tmp_path / "pairs.tsv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingError, match=said) as caught:
        load(Config(dataset="tsv", tsv=path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("config", [Config(dataset="tsv"), Config(tsv=Path("pairs.tsv"))])
def test_a_table_needs_its_data_set_and_the_other_way_round(config):
    with pytest.raises(SettingError, match="needs --dataset tsv --tsv FILE"):
        files(config)


def test_sequences_are_encoded_with_their_end_and_decoded_without():
    sequences = words("b a b", "c", "")
    vocabulary = vocabulary_of(sequences[:1], special=SPECIAL)
    tokens = encode_all(sequences, vocabulary)
    np.testing.assert_array_equal(
        tokens, [[4, 5, 4, END], [UNKNOWN, END, PAD, PAD], [END, PAD, PAD, PAD]]
    )
    assert [decode_row(row, vocabulary) for row in tokens[::2]] == words("b a b", "")


def test_batches_keep_pairs_and_have_little_padding():
    """Every group of updates has one shape."""
    lengths = np.random.default_rng(0).integers(2, 12, (2, 500))
    sides = [
        np.where(np.arange(12) < n[:, None], np.arange(500)[:, None] + 4, PAD) for n in lengths
    ]
    batch_at = batches_of(Batch(*sides), 20)
    shapes = []
    for step in range(0, 400, 5):
        sources, targets = batch_at(step)
        np.testing.assert_array_equal(sources[:, 0], targets[:, 0])
        rows = sources[:, 0] - 4
        shapes.append(sources.shape)
        assert sources.shape == targets.shape
        longest = lengths[:, rows].max(axis=0)
        assert longest.max() <= sources.shape[1]
        np.testing.assert_array_equal(np.sum(sources != PAD, axis=1), lengths[0, rows])
        np.testing.assert_array_equal(np.sum(targets != PAD, axis=1), lengths[1, rows])
    assert shapes[::2] == shapes[1::2]
    assert len(set(shapes)) > 2
