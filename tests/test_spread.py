"""Fits, seeds and sequences, spread over two devices, learn what they learn on one."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import run_spread
from processes import environment

from experiments import behaviour, long_sequences, memory_rl, time_parallel
from experiments.harness import devices
from experiments.harness.devices import ParallelRun
from experiments.harness.settings import SettingError


def test_two_devices_agree_with_one(tmp_path):
    command = [sys.executable, Path(run_spread.__file__), tmp_path]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == set(run_spread.CASES)
    for case, on in found.items():
        one, two = on["one"], on["two"]
        assert (set(one["spread"]), set(two["spread"])) == ({False}, {True}), case
        np.testing.assert_allclose(
            two["learned"], one["learned"], rtol=1e-5, atol=1e-6, err_msg=case
        )


@pytest.mark.parametrize(
    ("experiment", "changes", "said"),
    [
        (behaviour, {"subjects": 3, "restarts": 3}, "--subjects × --restarts is 9, but must be a"),
        (memory_rl, {"seeds": 5}, "--seeds is 5, but must be a multiple of 2, the number of all"),
        (long_sequences, {}, "--batch-size is 1, but must be a multiple of 2"),
        (time_parallel, {"batch_size": 3}, "--batch-size is 3, but must be a multiple of 2"),
        (behaviour, {"rounds": 1}, "with these settings nothing is trained"),
        (memory_rl, {"rounds": 1}, "with these settings nothing is trained"),
    ],
)
def test_what_does_not_spread_is_refused(experiment, changes, said, tmp_path, monkeypatch):
    """Over a device of each of two processes; this one is not joined to another."""
    monkeypatch.setattr(devices, "_join", lambda run: None)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    run = ParallelRun(tmp_path / "runs", coordinator="auto")
    with pytest.raises(SettingError, match=said):
        experiment.main(experiment.Config(**changes, run=run))
    assert list(tmp_path.iterdir()) == []
