"""The music experiment: its data, its loss, its baselines, MIDI files, and a whole run in small."""

import dataclasses
import itertools
import json
from functools import partial

import jax
import jax.numpy as jnp
import mido
import numpy as np
import pytest
from common import assert_close, randomised

import gru_jax
from experiments import music
from experiments.harness.cells import CELLS
from experiments.harness.datasets import DatasetError
from experiments.harness.settings import Run, SettingError
from experiments.music import data as music_data
from experiments.music import model as models
from experiments.music.baselines import baselines_of, frequencies_of
from experiments.music.config import Config
from experiments.music.continuation import notes_of, roll_of
from experiments.music.data import CORPORA, Data, batch_at, blocks_of, padded
from experiments.music.midi import read_midi, write_midi

pytestmark = pytest.mark.usefixtures("jax_defaults")


def random_rolls(lengths, seed=0):
    """Pieces in which a note depends on the one before, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    rolls = []
    for length in lengths:
        roll = np.zeros((length, 88), np.uint8)
        first = rng.integers(4)
        roll[np.arange(length), 40 + (first + np.arange(length)) % 4] = 1
        roll[:, 20] = rng.random(length) < 0.5
        rolls.append(roll)
    return rolls


def small_model(cell="gru", size=6):
    model = models.init_model(jax.random.key(0), cell, size, np.full(88, 0.3))
    return randomised(model)


@pytest.mark.parametrize(
    ("name", "pieces", "frames"),
    [("jsb", [229, 76, 77], 13807), ("nottingham", [694, 173, 170], 176561)],
)
def test_the_parts_have_their_published_sizes(name, pieces, frames):
    try:
        parts = music_data.load(name)
    except DatasetError as error:
        pytest.skip(str(error))
    assert [len(part) for part in parts] == pieces
    assert sum(map(len, parts.train)) == frames
    for roll in parts.test:
        assert roll.shape[1:] == (88,)
        assert roll.dtype == np.uint8
        assert roll.max() == 1
    c_major = np.isin(np.arange(21, 109) % 12, [0, 2, 4, 5, 7, 9, 11])
    assert np.concatenate(parts.train)[:, c_major].sum() > 0.8 * np.concatenate(parts.train).sum()


@pytest.mark.parametrize("name", CORPORA)
def test_blocks_have_every_piece_once_and_whole(name):
    rolls = random_rolls([3, 700, 64, 65, 161, 260, 261, 2, 520])
    blocks = blocks_of(name, rolls)
    assert len(blocks) > 1
    found = [
        roll[:length]
        for block in blocks
        for roll, length in zip(block.rolls.transpose(1, 0, 2), block.lengths, strict=True)
    ]
    assert sorted(map(bytes, found)) == sorted(map(bytes, rolls))
    assert all(len(block.rolls) == max(block.lengths) for block in blocks)


def test_updates_see_pieces_of_similar_length_and_all_of_long_ones():
    rolls = random_rolls([10, 64, 65, 100, 400])
    starts = set()
    for step in range(150):
        batch = batch_at(step, "jsb", rolls, 4)
        limit = len(batch.rolls)
        assert limit in CORPORA["jsb"].limits
        assert set(batch.lengths) <= ({10, 64} if limit == 64 else {65, 100, 160})
        for roll, length in zip(batch.rolls.transpose(1, 0, 2), batch.lengths, strict=True):
            assert not roll[length:].any()
            if length == 160:
                starts |= {s for s in range(241) if (rolls[4][s : s + 160] == roll).all()}
            else:
                assert any(np.array_equal(roll[:length], whole) for whole in rolls)
    assert min(starts) < 20
    assert max(starts) > 220


@pytest.mark.parametrize("cell", CELLS)
def test_the_loss_is_the_likelihood_of_each_frame_after_those_before(cell):
    """Against a loop over notes and frames in NumPy; padding counts for nothing."""
    model, rolls = small_model(cell), random_rolls([5, 3, 9])
    nats, frames = [], 0
    for roll in rolls:
        state = gru_jax.zero_state(model.cell)
        for x, y in itertools.pairwise(roll):
            state = CELLS[cell].step(model.cell, state, jnp.asarray(x, jnp.float32))
            h = np.asarray(jax.tree.leaves(state)[0], np.float64)
            p = 1 / (1 + np.exp(-(h @ np.asarray(model.head.w) + np.asarray(model.head.b))))
            nats.append(-np.log(np.where(y, p, 1 - p)).sum())
            frames += 1
    assert frames == 4 + 2 + 8
    expected = np.sum(nats) / frames
    batch = padded(rolls, 11)
    loss = models.loss_of(Config(output_dropout=0.5), cell, model, batch)
    assert_close(loss, expected, rtol=1e-5)
    blocks = [padded(rolls[:1], 5), padded(rolls[1:], 9)]
    assert_close(models.evaluate(Config(), cell, model, blocks), expected, rtol=1e-5)


@pytest.mark.parametrize("rate", ["input_dropout", "output_dropout", "weight_dropout"])
def test_dropout_needs_the_key(rate):
    model, batch = small_model(), padded(random_rolls([5, 9]), 9)
    none = Config(input_dropout=0, output_dropout=0, weight_dropout=0)
    plain = models.loss_of(none, "gru", model, batch)
    config = dataclasses.replace(none, **{rate: 0.5})
    assert_close(models.loss_of(config, "gru", model, batch), plain)
    key = jax.random.key(0)
    assert abs(models.loss_of(config, "gru", model, batch, key) - plain) > 1e-3


def test_baselines_are_those_counted_by_hand():
    train = [np.zeros((5, 88), np.uint8)]
    train[0][1:4, 7] = 1  # off on on on off
    np.testing.assert_allclose(frequencies_of(train)[7], 3.5 / 6)
    np.testing.assert_allclose(frequencies_of(train)[8], 0.5 / 6)
    test = [np.zeros((3, 88), np.uint8)]
    test[0][1:, 7] = 1  # off on on
    found = baselines_of(train, test)
    silent = 87 * 2 * -np.log(1 - 0.5 / 6)
    expected = (silent - 2 * np.log(3.5 / 6)) / 2
    np.testing.assert_allclose(found["frequencies"], expected)
    silent = 87 * 2 * -np.log(1 - 0.5 / 5)  # of four pairs of frames
    on_after_off, on_after_on = 1.5 / 2, 2.5 / 4
    expected = (silent - np.log(on_after_off) - np.log(on_after_on)) / 2
    np.testing.assert_allclose(found["frame before"], expected)


@pytest.mark.parametrize(("name", "beat"), [("jsb", 1), ("nottingham", 2)])
def test_a_roll_is_the_same_after_writing_and_reading(tmp_path, name, beat):
    roll = (np.random.default_rng(beat).random((30, 88)) < 0.3).astype(np.uint8)
    roll[5] = 0  # a rest
    roll[[0, -1], 3] = 1  # a file begins with its first note and ends with its last
    write_midi(tmp_path / "a.mid", roll, CORPORA[name])
    np.testing.assert_array_equal(read_midi(tmp_path / "a.mid", CORPORA[name]), roll)
    seconds = 30 / beat * 60 / 90
    np.testing.assert_allclose(mido.MidiFile(tmp_path / "a.mid").length, seconds, rtol=1e-3)


def test_any_midi_file_is_read_in_beats(tmp_path):
    """Of several tracks and another resolution; without percussion, and notes off by velocity 0."""
    on, off = (partial(mido.Message, f"note_{kind}") for kind in ("on", "off"))
    first = [on(note=60, time=96), on(note=60, velocity=0, time=192), on(note=62), off(note=62)]
    second = [on(note=48, time=192), off(note=48, time=96), on(note=36, channel=9)]
    tracks = [mido.MidiTrack(first), mido.MidiTrack(second)]
    mido.MidiFile(tracks=tracks, ticks_per_beat=96).save(tmp_path / "a.mid")
    assert notes_of(read_midi(tmp_path / "a.mid", CORPORA["jsb"])) == [[51], [39, 51], [53]]
    assert len(read_midi(tmp_path / "a.mid", CORPORA["nottingham"])) == 5


@pytest.mark.parametrize("content", [None, b"", b"no MIDI", b"MThd"])
def test_what_is_no_midi_file_is_refused(tmp_path, content):
    path = tmp_path / "a.mid"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingError, match=r"--prompt is .*a\.mid', which is no MIDI file"):
        read_midi(path, CORPORA["jsb"])


def test_a_midi_file_in_seconds_is_refused(tmp_path):
    """Its division is negative: 25 frames in a second, 40 ticks in each."""
    header = b"MThd" + (6).to_bytes(4) + bytes([0, 0, 0, 1, 256 - 25, 40])
    (tmp_path / "a.mid").write_bytes(header + b"MTrk" + (4).to_bytes(4) + b"\x00\xff\x2f\x00")
    with pytest.raises(SettingError, match="its time is not counted in beats"):
        read_midi(tmp_path / "a.mid", CORPORA["jsb"])


def test_a_midi_file_without_notes_is_refused(tmp_path):
    mido.MidiFile(tracks=[mido.MidiTrack()]).save(tmp_path / "a.mid")
    with pytest.raises(SettingError, match="this file has no note"):
        read_midi(tmp_path / "a.mid", CORPORA["jsb"])


@pytest.mark.parametrize(("opening", "voices"), [(1, 0), (4, 0), (4, 3)])
def test_a_continuation_without_chance_is_what_is_probable(opening, voices):
    """Every frame has the notes with positive, or with the largest, logits after those before."""
    model, (roll,) = small_model(), random_rolls([opening])
    key, options = jax.random.key(0), {"voices": voices, "temperature": 0}
    frames = np.asarray(models.continued(key, model, roll, 6, **options), np.uint8)
    whole = np.concatenate([roll, frames])
    _, hs = gru_jax.gru_unroll(model.cell, None, jnp.asarray(whole[:-1], jnp.float32))
    logits = np.asarray(gru_jax.readout(model.head, hs)[opening - 1 :])
    least = np.sort(logits, axis=1)[:, -voices, None] if voices else 0
    np.testing.assert_array_equal(frames, logits >= least)
    assert 0 < frames.mean() < 1


@pytest.mark.parametrize(("voices", "temperature"), [(0, 1.0), (0, 3.0), (1, 3.0), (2, 0.5)])
def test_a_continuation_is_drawn_by_the_odds(voices, temperature):
    """The first frame, many times over."""
    model, (roll,) = small_model(), random_rolls([4])
    h, _ = gru_jax.gru_unroll(model.cell, None, jnp.asarray(roll, jnp.float32))
    logits = np.asarray(gru_jax.readout(model.head, h), np.float64) / temperature
    options = {"voices": voices, "temperature": temperature}
    draw = jax.vmap(lambda key: models.continued(key, model, roll, 1, **options)[0])
    frames = draw(jax.random.split(jax.random.key(1), 4000))
    first = np.exp(logits) / np.exp(logits).sum()
    second = [np.sum(np.delete(first / (1 - first), i)) * p for i, p in enumerate(first)]
    expected = (1 / (1 + np.exp(-logits)), first, first + second)[voices]
    assert_close(frames.mean(axis=0), expected, atol=0.04)
    if voices:
        np.testing.assert_array_equal(frames.sum(axis=1), voices)


def test_a_run_learns_records_resumes_and_is_used_again(tmp_path, monkeypatch):
    parts = Data(random_rolls([12, 20, 30]), random_rolls([14, 16], 1), random_rolls([15] * 3))
    monkeypatch.setattr(music_data, "load", lambda name: parts)
    config = Config(
        datasets=("jsb",),
        cells=("rnn", "gru"),
        hidden_size=8,
        batch_size=3,
        steps=60,
        evaluate_every=20,
        seeds=2,
        piece=2,
        opening=5,
        length=7,
        run=Run(output=tmp_path),
    )
    result = music.main(config)
    record = json.loads((tmp_path / "music-default.json").read_text())
    assert record["results"] == result.datasets
    assert record["continued"] == result.continued
    found = result.datasets["jsb"]
    assert found["baselines"] == baselines_of(parts.train, parts.test)
    for cell in ("rnn", "gru"):
        assert len(set(found["cells"][cell]["test_loss"])) == 2
        assert max(found["cells"][cell]["test_loss"]) < found["baselines"]["frequencies"]
    roll = roll_of(result.continued["jsb"])
    assert len(roll) == 12
    np.testing.assert_array_equal(roll[:5], parts.test[2][:5])
    np.testing.assert_array_equal(roll[5:].sum(axis=1), config.voices)
    midi, used = tmp_path / "music-default.jsb.mid", Run(output=tmp_path / "used")
    for figure in ("music-default.png", "music-default.rolls.png"):
        assert (tmp_path / figure).stat().st_size > 10_000
    again = music.main(dataclasses.replace(config, run=Run(output=tmp_path, resume=True)))
    assert again == result
    assert music.main(dataclasses.replace(config, use=tmp_path, run=used)) == result.continued
    copy = tmp_path / "used" / "music-default.continued.jsb.mid"
    assert copy.read_bytes() == midi.read_bytes()
    other = dataclasses.replace(config, use=tmp_path, prompt=midi, sample_seed=1, run=used)
    assert music.main(other)["jsb"][:5] == result.continued["jsb"][:5]


def test_a_run_without_a_gru_has_nothing_to_continue_with(tmp_path, monkeypatch):
    monkeypatch.setattr(music_data, "load", lambda name: Data(*[random_rolls([12, 20])] * 3))
    config = Config(cells=("rnn",), datasets=("jsb",), hidden_size=4, batch_size=2, seeds=1)
    config = dataclasses.replace(config, steps=10, evaluate_every=10, run=Run(output=tmp_path))
    assert music.main(config).continued == {}
    with pytest.raises(SettingError, match="no gru"):
        music.main(dataclasses.replace(config, use=tmp_path))
