"""Translation: its data, its model, both searches against brute force, and a run in small."""

import dataclasses
import hashlib
import itertools
import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from common import assert_close

from experiments import datasets, translation, translation_data, translation_verses
from experiments import translation_model as models
from experiments.training import Run
from experiments.translation_data import END, PAD, START, UNKNOWN, Data, Part
from experiments.translation_decode import beam_search, greedy
from experiments.translation_scores import baselines_of, edit_distance, scores_of

pytestmark = pytest.mark.usefixtures("jax_defaults")


def words(*texts):
    return [tuple(text.split()) for text in texts]


# --- data


@pytest.fixture(scope="module")
def cmudict():
    try:
        return translation_data.cmudict()
    except datasets.DatasetError as error:
        pytest.skip(str(error))


def test_cmudict(cmudict):
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
        return list(translation_data.aligned_verses())
    except datasets.DatasetError as error:
        pytest.skip(str(error))


def test_verses(bible, monkeypatch):
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
    monkeypatch.setattr(translation_data, "aligned_verses", lambda: bible)
    data = translation_data.verses()
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
def test_plain_text(osis, expected):
    assert translation_verses.plain_text(osis) == expected


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that an apt-get of the test's own downloads; an empty cache."""
    import pooch

    content = b"".join(
        name.ljust(48) + str(len(body)).encode().ljust(10) + b"`\n" + body + b"\n" * (len(body) % 2)
        for name, body in ((b"debian-binary", b"2.0"), (b"data.tar.xz", b"the data"))
    )
    content = b"!<arch>\n" + content
    store = tmp_path / "store"
    store.mkdir()
    (store / "small_1_all.deb").write_bytes(content)
    command = store / "apt-get"
    command.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "download small=1" ] || {{ echo "E: Unable" >&2; exit 100; }}\n'
        f"{shutil.which('cp')} {store}/small_1_all.deb .\n"
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(store))
    monkeypatch.delenv("GRU_JAX_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")
    return datasets.Source("small_1_all.deb", hashlib.sha256(content).hexdigest(), "small=1")


def test_a_debian_package_is_fetched(package, tmp_path, monkeypatch):
    path = datasets.fetch(package)
    assert path == tmp_path / "cache" / "small_1_all.deb"
    assert translation_verses._deb_member(path, "data.tar") == b"the data"
    assert os.listdir(tmp_path / "cache") == [path.name]
    monkeypatch.setenv("PATH", "")
    assert datasets.fetch(package) == path  # from the cache
    path.unlink()
    with pytest.raises(datasets.DatasetError, match="there is no apt-get here; put that right"):
        datasets.fetch(package)
    monkeypatch.setenv("GRU_JAX_DATA", str(tmp_path / "store"))
    assert datasets.fetch(package).parent == tmp_path / "store"


@pytest.mark.parametrize(
    ("change", "said"), [({"origin": "big=1"}, "Unable"), ({"sha256": "0"}, "its sha256 is")]
)
def test_a_package_that_cannot_be_had(package, tmp_path, change, said):
    with pytest.raises(datasets.DatasetError, match=said) as caught:
        datasets.fetch(dataclasses.replace(package, **change))
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path / "cache") == []


def test_table(tmp_path):
    path = tmp_path / "pairs.tsv"
    lines = [f"{number}\tn {number % 7}" for number in range(100, 200)]
    path.write_text("\n".join([*lines, "", "123\tanother one"]) + "\n")
    data = translation_data.load("tsv", str(path))
    assert data.joints == ("", " ")
    pairs = [pair for part in data[:3] for pair in part.pairs()]
    assert len(pairs) == 101
    assert (("1", "2", "3"), ("n", "4")) in pairs
    both = [refs for part in data[:3] for s, refs in zip(*part, strict=True) if s == tuple("123")]
    assert both == [[("n", "4"), ("another", "one")]]
    assert len(data.train.sources) > 60
    path.write_text("a\tb\tc\n")
    for name in (str(path), str(tmp_path / "absent"), ""):
        with pytest.raises(datasets.DatasetError, match=r"must have two columns|cannot be read"):
            translation_data.table(name)


def test_tokens_as_numbers():
    sequences = words("b a b", "c", "")
    vocabulary = translation_data.vocabulary_of(sequences, 1)
    assert vocabulary[4:] == ["b", "a", "c"]
    assert translation_data.vocabulary_of(sequences, 2)[4:] == ["b"]
    tokens = translation_data.encode(sequences, vocabulary[:-1], 5)
    np.testing.assert_array_equal(
        tokens, [[4, 5, 4, END, PAD], [UNKNOWN, END, PAD, PAD, PAD], [END, PAD, PAD, PAD, PAD]]
    )
    assert [translation_data.decode(row, vocabulary) for row in tokens[::2]] == words("b a b", "")


# --- model

MODEL = models.init_model(jax.random.key(0), 9, 8, embedding=5, hidden=6, layers=2)
SOURCES = jnp.array([[4, 5, 6, 7, END], [8, END, PAD, PAD, PAD], [5, 5, END, PAD, PAD]])
READ = jax.jit(models.read, static_argnames="rate")
WRITE = jax.jit(models.write, static_argnames="rate")
STEP = jax.jit(models.step)
TARGETS = jnp.array([[4, 5, END, PAD], [6, 7, 4, END], [END, PAD, PAD, PAD]])


def test_step_equals_write():
    memory, h0 = READ(MODEL, SOURCES)
    logits, weights = WRITE(MODEL, memory, h0, TARGETS)
    assert_close(weights.sum(axis=-1), jnp.ones((3, 4)), rtol=1e-6)
    np.testing.assert_array_equal(weights[1, :, 2:], 0)
    wide = jax.tree.map(lambda x: jnp.repeat(x[:, None], 2, axis=1), (h0, jnp.zeros_like(h0)))
    state, before = (h0, jnp.zeros_like(h0)), jnp.full(3, START)
    for t in range(4):
        state, one = STEP(MODEL, memory, state, before)
        wide, two = STEP(MODEL, memory, wide, jnp.stack([before, before], axis=1))
        for place in (PAD, START, UNKNOWN):
            np.testing.assert_array_equal(one[:, place], -jnp.inf)
        left = jnp.array([END, 4, 5, 6, 7])
        assert_close(one[:, left], logits[t][:, left], atol=1e-5)
        assert_close(two, jnp.stack([one, one], axis=1), atol=1e-5)
        before = TARGETS[:, t]


def test_padding_changes_nothing():
    memory, h0 = READ(MODEL, SOURCES[1:])
    shorter, h0_shorter = READ(MODEL, SOURCES[1:, :3])
    assert_close(h0, h0_shorter, atol=1e-6)
    long, short = (
        WRITE(MODEL, m, h, TARGETS[1:])[0] for m, h in ((memory, h0), (shorter, h0_shorter))
    )
    assert_close(long, short, atol=1e-6)


def test_dropout_needs_a_key_and_a_rate():
    def logits(rate, key):
        return WRITE(MODEL, *READ(MODEL, SOURCES, rate=rate, key=key), TARGETS, rate=rate, key=key)[
            0
        ]

    plain = logits(0.0, None)
    assert_close(logits(0.5, None), plain)
    assert_close(logits(0.0, jax.random.key(0)), plain)
    assert np.abs(plain - logits(0.5, jax.random.key(0))).max() > 0.01


def test_token_losses():
    logits = jax.random.normal(jax.random.key(0), (4, 3, 8))
    losses = jax.jit(models.token_losses)(logits, TARGETS, 0.2)
    smooth = optax.smooth_labels(jax.nn.one_hot(TARGETS.T, 8), 0.2)
    expected = optax.softmax_cross_entropy(logits, smooth)
    real = TARGETS.T != PAD
    assert_close(losses[real], expected[real], rtol=1e-5)
    np.testing.assert_array_equal(losses[~real], 0)


def test_tokens_that_cannot_be_do_not_count_without_smoothing():
    """As in what `step` gives: of no probability, and of no target."""
    logits = jax.random.normal(jax.random.key(0), (4, 3, 8))
    masked = logits.at[..., jnp.array([PAD, START, UNKNOWN])].set(-jnp.inf)
    losses = jax.jit(models.token_losses)(masked, TARGETS, 0.0)
    real = TARGETS.T != PAD
    expected = optax.softmax_cross_entropy_with_integer_labels(masked, TARGETS.T)
    assert_close(losses[real], expected[real], rtol=1e-5)
    np.testing.assert_array_equal(losses[~real], 0)


def test_evaluation_counts_every_token_once(monkeypatch):
    monkeypatch.setattr(models, "BLOCK", 2)
    total = 0.0
    for source, target in zip(SOURCES, TARGETS, strict=True):
        logits, _ = WRITE(MODEL, *READ(MODEL, source[None]), target[None])
        count = int(jnp.sum(target != PAD))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits[:count, 0], target[:count])
        total += losses.sum()
    batch = models.Batch(np.asarray(SOURCES), np.asarray(TARGETS))
    found = jax.jit(lambda model: models.nats_per_token(model, batch))(MODEL)
    assert_close(found, total / 8, rtol=1e-5)


# --- searches

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


def test_greedy():
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


def test_searches_of_the_model():
    """A beam of one is greedy; rows in blocks, in whatever order, are translated alone."""
    sources = np.asarray(SOURCES)
    found = translation.translate(MODEL, sources, 6, 1, 0.0)
    for i, source in enumerate(sources):
        memory, h0 = READ(MODEL, source[None])
        alone, _ = beam_search(
            lambda state, tokens, memory=memory: models.step(MODEL, memory, state, tokens),
            (h0, jnp.zeros_like(h0)),
            jnp.full(1, START),
            end=END,
            length=6,
            size=1,
            length_penalty=0.0,
        )
        np.testing.assert_array_equal(found[i], alone[0, 0])


# --- scores


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


# --- a run


def test_batches():
    """Pairs stay together, padding is short, and every group of updates has one shape."""
    lengths = np.random.default_rng(0).integers(2, 12, (2, 500))
    sides = [
        np.where(np.arange(12) < n[:, None], np.arange(500)[:, None] + 4, PAD) for n in lengths
    ]
    batch_at = translation.batches_of(models.Batch(*sides), 20)
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


SMALL = translation.Config(
    embedding_size=16,
    hidden_size=32,
    batch_size=32,
    steps=150,
    learning_rate=1e-2,
    evaluate_every=50,
    beam_size=3,
)


@pytest.fixture
def few_words(cmudict, monkeypatch):
    """Words of six letters with no more phonemes: one length is one compilation."""
    short = []
    for part, count in zip(cmudict[:3], (3000, 40, 40), strict=True):
        rows = [
            (source, targets)
            for source, targets in zip(*part, strict=True)
            if len(source) == 6 and max(map(len, targets)) <= 6
        ]
        short.append(Part(*map(list, zip(*rows[:count], strict=True))))
    monkeypatch.setattr(translation_data, "cmudict", lambda: Data(*short, cmudict.joints))


def test_main(few_words, tmp_path, monkeypatch, capsys):
    config = dataclasses.replace(SMALL, run=Run(output=tmp_path / "whole"))
    result = translation.main(config)
    losses = [entry["validation_loss"] for entry in result.fitted.history]
    assert losses[-1] < losses[0]
    assert list(result.scores) == ["greedy", "beam of 3"]
    baseline = result.baselines["most frequent token"]["token error"]
    assert result.scores["beam of 3"]["token error"] < baseline
    record = json.loads((tmp_path / "whole" / "translation-default.json").read_text())
    assert record["results"]["scores"] == result.scores
    for example in result.examples:
        attention = np.array(example["attention"])
        assert attention.shape == (len(example["found"]) + 1, len(example["source"]) + 1)
        assert_close(attention.sum(axis=1), jnp.ones(len(attention)), atol=1e-2)
    for name in ("translation-default.png", "translation-default.attention.png"):
        assert (tmp_path / "whole" / name).stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "beam of 3: sequence error" in printed
    assert "".join(result.examples[0]["source"]) + " -> " in printed

    def interrupted(*arguments):
        batch_at = batches_of(*arguments)

        def until(step):
            if step == 80:
                raise KeyboardInterrupt
            return batch_at(step)

        return until

    batches_of = translation.batches_of
    monkeypatch.setattr(translation, "batches_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        translation.main(dataclasses.replace(config, run=Run(output=tmp_path / "parts")))
    monkeypatch.setattr(translation, "batches_of", batches_of)
    run = Run(output=tmp_path / "parts", resume=True)
    resumed = translation.main(dataclasses.replace(config, run=run))
    jax.tree.map(np.testing.assert_array_equal, resumed.fitted.params, result.fitted.params)
    assert resumed.scores == result.scores
