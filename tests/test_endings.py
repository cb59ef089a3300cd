"""How an experiment's process ends when it is interrupted, or cannot write what it has to say."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import environment, lines_of

SMALL = [
    "--tasks",
    "adding-4",
    "--cells",
    "gru",
    "--hidden-size",
    "4",
    "--seeds",
    "1",
    "--evaluate-every",
    "10",
]


def command(folder, *options):
    module = [sys.executable, "-m", "experiments.long_memory"]
    return [*module, *SMALL, "--output", str(folder), *options]


def test_ctrl_c_ends_in_one_line_that_tells_how_to_go_on(tmp_path):
    """Off a terminal progress is plain lines, and no carriage return."""
    running = subprocess.Popen(
        command(tmp_path, "--steps", "1000000"),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    first = next(line for line in running.stderr if lines_of(line))
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*.checkpoints/adding-4-gru/10")):
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    _, printed = running.communicate(timeout=60)
    assert running.returncode == 130
    last = printed.strip().splitlines()[-1]
    assert first.startswith("step 10 of 1000000, ")
    assert "\r" not in first + printed
    options = " ".join(command(tmp_path, "--steps", "1000000", "--resume")[3:])
    assert last == (
        "Interrupted; to go on from the last checkpoint: python -m experiments.long_memory "
        + options
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_where_nothing_can_be_printed_the_run_ends_in_one_sentence(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command(tmp_path, "--steps", "10"),
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    lines = [line for line in lines_of(done.stderr) if not line.startswith("step ")]
    assert lines == ["A file cannot be read or written: No space left on device."]


def test_a_run_without_standard_error_ends_well(tmp_path):
    done = subprocess.run(
        ["sh", "-c", '"$@" 2>&-', "sh", *command(tmp_path, "--steps", "10")],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert "long_memory-default took" in done.stdout


def test_a_locale_that_cannot_read_the_folders_name_is_named(tmp_path):
    ascii_only = environment(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    done = subprocess.run(
        command(tmp_path / "café", "--steps", "10"),
        env=ascii_only,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    (line,) = lines_of(done.stderr)
    assert "which this locale cannot read: set PYTHONUTF8=1" in line
