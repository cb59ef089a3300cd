"""The long-memory experiment: its tasks, its gradient norms, and a whole run in small."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import assert_close

import gru_jax
from experiments import long_memory
from experiments.harness.cells import CELLS
from experiments.harness.settings import Run
from experiments.long_memory import Config
from experiments.long_memory.data import adding, copy, task_of
from experiments.long_memory.model import answer_loss, gradient_norms, init_model

pytestmark = pytest.mark.usefixtures("jax_defaults")


def test_adding_marks_one_number_in_each_half_and_sums_them():
    batch = adding(np.random.default_rng(0), 20, 5000)
    numbers, marks = batch.xs[..., 0], batch.xs[..., 1]
    np.testing.assert_array_equal(marks[:10].sum(axis=0), 1)
    np.testing.assert_array_equal(marks[10:].sum(axis=0), 1)
    assert set(np.unique(marks)) == {0, 1}
    assert marks.any(axis=1).all()  # every place is marked in some row
    for row in range(20):
        expected = sum(numbers[t, row] for t in range(20) if marks[t, row])
        np.testing.assert_allclose(batch.targets[row], expected, rtol=1e-6)
    baseline = task_of("adding-20")[2]
    np.testing.assert_allclose(np.mean((batch.targets - 1) ** 2), baseline, rtol=0.05)


def test_copy_repeats_the_symbols_after_the_delay():
    batch = copy(np.random.default_rng(0), 7, 50)
    assert batch.xs.shape == (27, 50, 10)
    tokens = batch.xs.argmax(axis=-1)
    np.testing.assert_array_equal(tokens[:10], batch.targets)
    np.testing.assert_array_equal(np.unique(batch.targets), np.arange(8))
    np.testing.assert_array_equal(tokens[10:16], 8)
    np.testing.assert_array_equal(tokens[16], 9)
    np.testing.assert_array_equal(tokens[17:], 8)


@pytest.mark.parametrize("name", ["adding", "adding-x", "adding-1", "sorting-10", "adding-0x9"])
def test_unknown_tasks_are_refused(name):
    with pytest.raises(
        ValueError, match=r"--tasks is .*, each text adding-T or copy-delay, from 2 to 999999"
    ):
        long_memory.main(Config(tasks=(name,)))


@pytest.mark.parametrize("task", [adding, copy])
def test_the_cells_are_of_equal_size(task):
    counts = {}
    for cell in CELLS:
        batch = task(np.random.default_rng(0), 5, 1)
        model = init_model(jax.random.key(0), cell, batch, 64)
        counts[cell] = sum(leaf.size for leaf in jax.tree.leaves(model.cell))
    assert max(counts.values()) < 1.02 * min(counts.values()), counts


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_gates_keep_the_state_at_first(cell):
    """With all other weights zero the state decays by a factor of 1 to T steps' memory."""
    batch = adding(np.random.default_rng(0), 50, 1)
    model = init_model(jax.random.key(0), cell, batch, 64)
    params = jax.tree.map(lambda leaf: leaf * (leaf.ndim == 1), model.cell)
    ones = jax.tree.map(jnp.ones_like, gru_jax.zero_state(params))
    kept = jax.tree.leaves(CELLS[cell].step(params, ones, jnp.zeros(2)))[-1]
    memory = 1 / (1 - kept)  # steps
    assert 1 < memory.min() < 10 < 40 < memory.max() < 51


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("task", ["adding-6", "copy-2"])
def test_gradient_norms_are_those_of_the_loss_by_the_state_at_t(cell, task):
    """The expected ones are of the loss as a function of the state at t, run on from there."""
    generate, length, _ = task_of(task)
    batch = generate(np.random.default_rng(0), length, 2)
    model = init_model(jax.random.key(0), cell, batch, 5)
    step = CELLS[cell].step
    norms = []
    for t in (0, 3, len(batch.xs) - 1):
        per_row = []
        for row in range(2):
            xs, targets = batch.xs[:, row : row + 1], batch.targets[..., row : row + 1]
            h0 = gru_jax.zero_state(model.cell, (1,))
            h, before = gru_jax.unroll(step, model.cell, h0, xs[: t + 1])
            before = jax.tree.map(lambda leaf: leaf[:-1], before)

            def loss(h, xs=xs, targets=targets, t=t, before=before):
                _, after = gru_jax.unroll(step, model.cell, h, xs[t + 1 :])
                hs = jax.tree.map(
                    lambda past, now, to_come: jnp.concatenate([past, now[None], to_come]),
                    *(before, h, after),
                )
                return answer_loss(model.head, hs, jnp.asarray(targets))

            leaves = jax.tree.leaves(jax.jit(jax.grad(loss))(h))
            per_row.append(jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in leaves)))
        norms.append(jnp.mean(jnp.stack(per_row)))
    actual = gradient_norms(cell, model, batch)
    assert len(actual) == len(batch.xs)
    assert_close(actual[jnp.array([0, 3, -1])], jnp.stack(norms), rtol=1e-4, atol=1e-7)


def test_a_run_learns_records_and_resumes(tmp_path):
    """It learns, leaves a record and a figure, and a resumed run has nothing left to do."""
    config = Config(
        tasks=("adding-4", "copy-2"),
        cells=("rnn", "gru"),
        hidden_size=24,
        steps=300,
        evaluate_every=100,
        learning_rate=1e-2,
        run=Run(output=tmp_path),
    )
    results = long_memory.main(config).tasks
    record = json.loads((tmp_path / "long_memory-default.json").read_text())
    assert record["results"] == results
    assert record["settings"]["tasks"] == ["adding-4", "copy-2"]
    assert (tmp_path / "long_memory-default.png").stat().st_size > 10_000
    gru = results["adding-4"]["cells"]["gru"]
    assert len(gru["test_loss"]) == 2
    assert gru["test_loss"][0] != gru["test_loss"][1]
    assert np.all(np.array(gru["test_loss"]) < 0.5 * results["adding-4"]["baseline"])
    for cell, found in results["copy-2"]["cells"].items():
        losses = [np.mean(entry["validation_loss"]) for entry in found["history"]]
        assert losses[-1] < losses[0], cell
        assert len(found["gradient_norms_after"]) == 22
    again = long_memory.main(Config(**{**vars(config), "run": Run(output=tmp_path, resume=True)}))
    assert again.tasks == results
