"""Checkpoints: a damaged one is passed over, and a run ends at the same bits whatever befell it."""

import contextlib
import shutil

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from test_training import STEPS, batch_at, fit

from experiments.harness import checkpoints
from experiments.harness.checkpoints import CheckpointError

pytestmark = pytest.mark.usefixtures("jax_defaults")

STATE = {"w": jnp.arange(5000.0), "n": jnp.int32(3)}


def history_to(step):
    return [{"step": 10, "loss": 0.5, "other": None}, {"step": step, "loss": [0.1, 0.25]}]


def write(folder, *steps):
    with checkpoints.open_manager(folder) as manager:
        for step in steps:
            state = STATE | {"n": jnp.int32(step)}
            checkpoints.save(manager, state, history_to(step))


def read(folder):
    with checkpoints.open_manager(folder) as manager:
        return checkpoints.restore(manager, STATE)


def test_the_newest_checkpoint_is_restored_as_it_was(tmp_path):
    write(tmp_path, 20, 30, 40)
    state, history = read(tmp_path)
    chex.assert_trees_all_equal(state, STATE | {"n": jnp.int32(40)})
    assert history == history_to(40)


def test_without_checkpoints_the_first_state_is_taken(tmp_path):
    assert read(tmp_path) == (STATE, [])


def damage(folder, rng):
    """Cuts, deletes or changes one of a checkpoint's files, or deletes a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = files[rng.integers(len(files))]
    content = bytearray(path.read_bytes())
    kind = rng.integers(4)
    if kind == 0:
        path.unlink()
    elif kind == 1:
        shutil.rmtree(path.parent)
    elif kind == 2 or not content:
        path.write_bytes(content[: len(content) // 2])
    else:
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        path.write_bytes(content)


@pytest.mark.parametrize("seed", range(30))
def test_of_a_damaged_checkpoint_nothing_is_taken(tmp_path, capsys, seed):
    """The one before is taken, without a word from orbax; then the run goes on."""
    write(tmp_path, 20, 30)
    damage(tmp_path / "30", np.random.default_rng(seed))
    state, history = read(tmp_path)
    chex.assert_trees_all_equal(state, STATE | {"n": jnp.int32(20)})
    assert history == history_to(20)
    assert capsys.readouterr().err == ""
    write(tmp_path, 30, 40)
    assert read(tmp_path)[1] == history_to(40)


def test_a_flipped_bit_of_an_array_is_found(tmp_path, capsys):
    write(tmp_path, 20, 30)
    (path,) = sorted((tmp_path / "30" / "state").rglob("d/*"), key=lambda p: p.stat().st_size)[-1:]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    assert read(tmp_path)[1] == history_to(20)
    (line,) = capsys.readouterr().out.splitlines()
    assert line == f"Checkpoint 30 in {tmp_path} is damaged or cut short, and passed over."


def test_a_checkpoint_that_was_cut_short_is_passed_over(tmp_path):
    """A kill before its checksums: as the first one, it leaves nothing, and the run begins."""
    write(tmp_path, 20)
    (tmp_path / "20" / checkpoints.CHECKSUMS).unlink()
    assert read(tmp_path) == (STATE, [])


def test_where_no_checkpoint_is_whole_the_run_ends(tmp_path):
    write(tmp_path, 20, 30)
    for step in ("20", "30"):
        shutil.rmtree(tmp_path / step / "state")
    with pytest.raises(CheckpointError, match="is whole: begin anew, without --resume"):
        read(tmp_path)


def test_a_checkpoint_that_cannot_be_written_ends_the_run(tmp_path, monkeypatch):
    with checkpoints.open_manager(tmp_path) as manager:

        def fails(*_, **__):
            raise ValueError("No space left on device\nand much more")

        monkeypatch.setattr(manager, "save", fails)
        said = rf"^Checkpoint 20 in {tmp_path} cannot be written: No space left on device\.$"
        with pytest.raises(CheckpointError, match=said):
            checkpoints.save(manager, STATE, history_to(20))
        monkeypatch.setattr(manager, "save", lambda *_, **__: False)
        with pytest.raises(
            CheckpointError, match="cannot be written: orbax passes it over, having st"
        ):
            checkpoints.save(manager, STATE, history_to(20))


def test_a_full_disk_ends_the_run_before_orbax_tries(tmp_path, monkeypatch):
    with checkpoints.open_manager(tmp_path) as manager:
        monkeypatch.setattr(manager, "save", None)
        monkeypatch.setattr(
            shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9e9, 9e9, 85_000)
        )
        with pytest.raises(CheckpointError, match="it needs 85,540 bytes, but 85,000 are free"):
            checkpoints.save(manager, STATE, history_to(20))


class Killed(BaseException):
    """As far as the training loop can tell, the end of the process."""


@pytest.mark.parametrize("seed", range(6))
def test_killed_damaged_and_resumed_at_random_a_run_ends_at_the_same_bits(tmp_path, seed):
    """Real kills are those of test_training.py; here the damage comes on top."""
    expected = fit(tmp_path / "whole")
    rng = np.random.default_rng(seed)
    folder = tmp_path / "tried"
    for _ in range(4):
        last = rng.integers(STEPS)

        def batch(step, last=last):
            if step >= last:
                raise Killed
            return batch_at(step)

        with contextlib.suppress(Killed):
            fit(folder, batch_at=batch)
        steps = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        if len(steps) == 2 and rng.integers(2):
            damage(folder / str(steps[-1]), rng)
    found = fit(folder)
    chex.assert_trees_all_equal(found.params, expected.params)
    losses = [[e["step"], e["training_loss"], e["validation_loss"]] for e in found.history]
    assert losses == [
        [e["step"], e["training_loss"], e["validation_loss"]] for e in expected.history
    ]
