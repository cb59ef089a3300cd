"""The library over a mesh of two devices: axes of type Auto and Explicit, and `shard_map`."""

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("run_sharded.py")


def test_sharded_matches_one_device():
    """States are sharded like the inputs; only the weights' gradients are summed over devices."""
    done = subprocess.run([sys.executable, PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, collectives in json.loads(done.stdout.splitlines()[-1]).items():
        assert collectives == ["all-reduce"], name
