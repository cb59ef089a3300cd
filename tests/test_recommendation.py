"""Recommendation: ranks, metrics and baselines by hand, the split, packing, and a run in small."""

import dataclasses
import json
import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import assert_close

import gru_jax
from experiments import recommendation
from experiments.harness.datasets import DatasetError
from experiments.harness.settings import Run
from experiments.recommendation import data as recommendation_data
from experiments.recommendation import run
from experiments.recommendation.data import NONE, Cases, Data, batch_at, cases_of, pairs_of
from experiments.recommendation.model import init_model, logits_of, loss_of, states_of
from experiments.recommendation.plot import groups_of, show
from experiments.recommendation.ranking import (
    baselines,
    followers,
    popularity,
    ranks_of,
)

pytestmark = pytest.mark.usefixtures("jax_defaults")

KEY = jax.random.key(0)
TOY = [np.array(history, np.int32) for history in ([0, 1, 2, 3, 4], [5, 1, 2, 0], [1, 2, 4, 5])]


def random_histories(count, items=50):
    rng = np.random.default_rng(0)
    return [rng.permutation(items)[: rng.integers(4, 12)].astype(np.int32) for _ in range(count)]


def load(name):
    try:
        return getattr(recommendation_data, name)()
    except DatasetError as error:
        pytest.skip(str(error))


def test_the_held_out_items_are_not_trained_on():
    pairs = pairs_of(TOY)
    assert pairs.inputs.tolist() == [0, 1, 5, 1]
    assert pairs.targets.tolist() == [1, 2, 1, 2]
    assert pairs.lengths.tolist() == [2, 1, 1]


def test_cases_hold_each_history_and_its_answer():
    """Each history, read back from the packed rows, and its answer."""
    histories = random_histories(40)
    for held_out in (1, 2):
        cases = cases_of(histories, held_out, rows=7)
        rows = cases.inputs.shape[1]
        for user, history in enumerate(histories):
            t, row = divmod(cases.last[user], rows)
            length = len(history) - held_out
            first = t - length + 1
            np.testing.assert_array_equal(cases.inputs[first : t + 1, row], history[:-held_out])
            assert cases.is_first[first : t + 1, row].tolist() == [True] + [False] * (length - 1)
            assert set(cases.seen[user]) - {NONE} == set(history[:-held_out])
            assert cases.targets[user] == history[-held_out]
        assert cases.is_first.sum() == len(histories)


def test_an_epoch_has_every_pair_once():
    histories = random_histories(64)
    pairs = pairs_of(histories)
    rows, length = 4, 8
    chunks = len(pairs.inputs) // (rows * length)
    batches = [batch_at(step, pairs, rows, length) for step in range(chunks + 1)]
    inputs, targets, is_first = (
        np.concatenate(leaves) for leaves in zip(*batches[:-1], strict=True)
    )
    assert inputs.shape == (chunks * length, rows)
    assert is_first[0].all()
    known = sorted(zip(pairs.inputs, pairs.targets, strict=True))
    read = sorted(zip(inputs.ravel(), targets.ravel(), strict=True))
    for pair in read:
        known.remove(pair)
    assert len(known) < rows * length
    # Within a history the target is the next input; a new one begins where it is marked.
    goes_on = ~is_first[1:]
    np.testing.assert_array_equal(targets[:-1][goes_on], inputs[1:][goes_on])
    begins = {history[0] for history in histories}
    assert all(item in begins for item in inputs[1:][is_first[1:]])
    assert is_first.sum() >= 0.8 * len(histories)
    assert not np.array_equal(batches[0].inputs, batches[-1].inputs)


def test_too_few_pairs_are_refused():
    with pytest.raises(ValueError, match="there are only 4 pairs"):
        batch_at(0, pairs_of(TOY), 5, 1)


def test_baselines_by_hand():
    """Training parts 0 1 2, 5 1, 1 2: 1 thrice, 2 twice, 0 and 5 once, 3 and 4 never."""
    pairs = pairs_of(TOY)
    np.testing.assert_array_equal(popularity(6, pairs), [1, 3, 2, 0, 0, 1])
    found, times = followers(6, pairs)
    assert found[[0, 1, 5], 0].tolist() == [1, 2, 1]
    assert times[[0, 1, 5], 0].tolist() == [1, 2, 1]
    assert (found[[2, 3, 4]] == NONE).all()
    ranks = baselines(6, pairs, cases_of(TOY, 2, rows=1))
    # User 0 had 0 1 2, took 3: 5 goes before, 4 is equal. User 1 had 5 1, took 2 of 2 0 3 4.
    # User 2 had 1 2, took 4: 0 and 5 go before, 3 is equal. Last items 2, 1, 2.
    assert ranks["popularity"].unseen.tolist() == [3, 1, 4]
    assert ranks["popularity"].all.tolist() == [6, 2, 6]
    assert ranks["what followed the last item"].unseen.tolist() == [3, 1, 4]
    assert ranks["what followed the last item"].all.tolist() == [6, 1, 6]  # 2 followed 1 twice


def test_states_and_loss_equal_histories_apart():
    """Packed rows with resets are the same as one user after the other."""
    histories = random_histories(9)
    config = recommendation.Config(embedding_size=6, hidden_size=5, dropout=0.0)
    model = init_model(config, KEY, 50)
    states = states_of(model, cases_of(histories, 1, rows=2))
    run = jax.jit(lambda xs: gru_jax.gru_unroll(model.gru, gru_jax.zero_state(model.gru), xs)[1])
    losses = []
    for user, history in enumerate(histories):
        hs = run(model.embedding[np.resize(history, 12)])  # what comes after it does not matter
        assert_close(states[user], hs[len(history) - 2], atol=1e-6)
        shares = np.asarray(jax.nn.log_softmax(logits_of(model, hs)))
        losses += [-shares[t, history[t + 1]] for t in range(len(history) - 3)]
    pairs = pairs_of(histories)
    assert len(losses) == len(pairs.inputs)
    step = jax.jit(lambda h, batch: loss_of(config, model, h, batch, KEY))
    h, total = jnp.ones((1, 5)), 0.0  # the state of an earlier epoch, which is to be forgotten
    for number in range(len(losses)):
        loss, h = step(h, batch_at(number, pairs, 1, 1))
        total += loss
    assert_close(total, np.sum(losses), rtol=1e-5)


def test_sampled_loss_estimates_the_whole():
    """With many samples it comes near."""
    pairs = pairs_of(random_histories(64))
    batch, h = batch_at(0, pairs, 4, 8), jnp.zeros((4, 5))
    config = recommendation.Config(embedding_size=6, hidden_size=5, dropout=0.0)
    model = init_model(config, KEY, 50)
    model = model._replace(bias=jax.random.normal(KEY, (50,)))
    whole = loss_of(config, model, h, batch, KEY)[0]
    many = dataclasses.replace(config, negatives=20_000)
    assert_close(loss_of(many, model, h, batch, KEY)[0], whole, rtol=5e-3)
    unweighted = math.log(20_000 / 49)  # what the loss would be too high by
    assert unweighted > 10 * 5e-3 * whole


def test_what_is_shown_ranks_as_what_is_measured(capsys):
    """What shares its score with the right item, and NaN, go first; what has been seen does not."""
    titles = [f"<{item}>" for item in range(6)]
    for scores in ([5, 4, 3, 2, 1, 3], [0, 0, 0, 0, 0, 0], [0, 0, 1, math.nan, 0, 0]):
        cases = Cases(None, None, None, np.array([[0, 1, NONE]]), np.array([2]))
        rows = np.array([scores], np.float32)
        rank = ranks_of(lambda query: query, rows, cases).unseen.item()
        show(rows, cases, titles)
        assert f"saw <2> (rank {rank})" in capsys.readouterr().out


def test_groups_are_of_nearly_equal_size():
    group, bounds = groups_of(np.array([0, 0, 0, 1, 2, 3, 9, 9, 10, 40]))
    assert group.tolist() == [0, 0, 0, 1, 2, 2, 3, 3, 4, 4]
    assert bounds == ["0", "1", "2–3", "9", "10–40"]
    assert groups_of(np.array([7, 7]))[1] == ["7"]


def test_ml100k_has_its_counts_and_hits_of_popularity():
    """Its counts; and popularity's hits as they were counted by hand, without this code."""
    data = load("ml100k")
    assert (len(data.histories), data.items, len(data.titles)) == (943, 1682, 1682)
    assert sum(map(len, data.histories)) == 100_000
    assert all(len(set(history)) == len(history) for history in data.histories)
    assert data.titles[0] == "Toy Story"
    ranks = baselines(data.items, pairs_of(data.histories), cases_of(data.histories, 1))
    found = ranks["popularity"]
    assert np.mean(found.all <= 10) == pytest.approx(0.0498, abs=1e-4)
    assert np.mean(found.unseen <= 10) == pytest.approx(0.0838, abs=1e-4)


def test_beauty_has_its_counts():
    data = load("beauty")
    assert (len(data.histories), data.items) == (22_363, 12_101)
    assert sum(map(len, data.histories)) == 198_502
    assert min(map(len, data.histories)) == 5
    assert all(len(set(history)) == len(history) for history in data.histories)


SMALL = recommendation.Config(
    embedding_size=16,
    hidden_size=16,
    dropout=0.1,
    batch_size=8,
    chunk_length=16,
    steps=80,  # and the last checkpoints are of 60 and 80
    learning_rate=2e-2,
    evaluate_every=20,
    seeds=2,
)


@pytest.fixture
def slice_of_films(monkeypatch):
    """The 120 films chosen most often, and 200 users who chose some of them."""
    data = load("ml100k")
    counts = np.bincount(np.concatenate(data.histories))
    chosen = np.argsort(-counts)[:120]
    number = np.full(data.items, -1)
    number[chosen] = np.arange(120)
    histories = [number[history] for history in data.histories]
    histories = [h[h >= 0].astype(np.int32) for h in histories]
    part = Data(120, [h for h in histories if len(h) >= 10][:200], data.titles[:120])
    monkeypatch.setattr(recommendation_data, "ml100k", lambda: part)
    return part


def in_folder(folder, **changes):
    return dataclasses.replace(SMALL, run=Run(output=folder, **changes))


def test_a_run_learns_records_and_resumes(slice_of_films, tmp_path, capsys):
    """It learns, leaves a record and a figure; resumed, it finds the same to the last bit."""
    result = recommendation.main(in_folder(tmp_path))
    losses = [np.mean(entry["training_loss"]) for entry in result.fitted.history]
    assert losses[-1] < losses[0] < math.log(120)
    metrics = result.metrics["unseen"]
    assert metrics["GRU"]["HR@20"] > 1.2 * metrics["popularity"]["HR@20"]
    assert result.ranks["GRU"].unseen.shape == (2, 200)
    assert np.all(result.ranks["GRU"].unseen <= result.ranks["GRU"].all)
    record = json.loads((tmp_path / "recommendation-default.json").read_text())
    assert record["results"]["metrics"] == result.metrics
    seeds = [seed["MRR"] for seed in record["results"]["metrics_of_seeds"]]
    assert len(set(seeds)) == 2
    assert np.mean(seeds) == pytest.approx(metrics["GRU"]["MRR"])
    assert (tmp_path / "recommendation-default.png").stat().st_size > 20_000
    printed = capsys.readouterr().out
    for line in ("is recommended", "test, unseen items ranked", "popularity: HR@5"):
        assert line in printed

    shutil.rmtree(tmp_path / "recommendation-default.checkpoints" / "80")  # as if killed before
    resumed = recommendation.main(in_folder(tmp_path, resume=True))
    jax.tree.map(np.testing.assert_array_equal, resumed.fitted.params, result.fitted.params)
    assert resumed.metrics == result.metrics

    titles = slice_of_films.titles
    found = recommendation.main(recommendation.Config(use=tmp_path, items=(titles[3], titles[17])))
    best = jax.tree.map(lambda leaf: leaf[int(np.argmin(result.fitted.loss))], result.fitted.params)
    h = jnp.zeros(best.gru.hidden_size)
    for item in (3, 17):
        h = gru_jax.gru_step(best.gru, h, best.embedding[item])
    scores = np.array(logits_of(best, h))
    scores[[3, 17]] = -np.inf
    assert found == [titles[item] for item in np.argsort(-scores)[: run.RECOMMENDED]]


def test_recommends_nothing_seen(slice_of_films, capsys):
    """The five best by a plain sort of the items that are not in the history."""
    config = dataclasses.replace(SMALL, seeds=1)
    model = init_model(config, KEY, 120)
    data = slice_of_films._replace(titles=[f"<{item}>" for item in range(120)])
    cases = cases_of(data.histories, 1)
    run.show(model, cases, data.titles)
    lines = [line for line in capsys.readouterr().out.splitlines() if "is recommended" in line]
    assert len(lines) == run.SHOWN
    scores = np.asarray(logits_of(model, states_of(model, cases)))
    for user, line in enumerate(lines):
        seen = set(data.histories[user][:-1].tolist())
        best = [item for item in np.argsort(-scores[user]) if item not in seen][:5]
        assert line.split("recommended ")[1] == "; ".join(f"<{item}>" for item in best)
