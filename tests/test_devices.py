"""Training over devices and processes: what it changes (nothing), refuses and survives."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import run_processes
from jax.sharding import Mesh
from processes import environment, lines_of

from experiments.harness import command_line, devices
from experiments.harness.devices import ParallelRun, ProcessError
from experiments.harness.files import write_json
from experiments.harness.models import load_model, save_model
from experiments.harness.settings import Run, SettingError, Use

pytestmark = pytest.mark.usefixtures("jax_defaults")
PROGRAM = Path(run_processes.__file__)
ONE, SEVERAL = "run_processes-default", "__main__-default"


PORTS = range(61440, 65536)  # those that JAX chooses from under Open MPI


def free_port():
    for port in PORTS[os.getpid() % 1000 :]:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def run_two(folder, *options, dies=(), cluster=False):
    """Runs the program as two processes, of which one may die: their statuses and messages."""
    port, running = free_port(), []
    for process in range(2):
        where = ["--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--process", process]
        changes = {}
        if cluster:  # what Open MPI's launcher would say
            where = ["--coordinator", "auto"]
            changes = {
                "OMPI_MCA_orte_hnp_uri": f"{(port - PORTS[0]) << 12}.0;tcp://127.0.0.1:{port}",
                "OMPI_COMM_WORLD_SIZE": "2",
                "OMPI_COMM_WORLD_RANK": str(process),
                "OMPI_COMM_WORLD_LOCAL_RANK": str(process),
            }
        step = dies[1] if dies and dies[0] == process else -1
        arguments = [step, "--output", folder, *where, *options]
        running.append(
            subprocess.Popen(
                [sys.executable, PROGRAM, *map(str, arguments)],
                env=environment(**changes),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    printed = [each.communicate(timeout=300) for each in running]
    return [each.returncode for each in running], printed


def run_one(folder, **changes):
    run_processes.main(run_processes.Config(run=ParallelRun(folder, **changes)))
    return load_model(folder / f"{ONE}.npz").arrays


def steps_in(folder):
    return sorted(int(path.name) for path in folder.glob("*.checkpoints/*") if path.is_dir())


def compare(actual, expected):
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(actual[name], expected[name], rtol=1e-6, atol=1e-6)


def test_processes_agree_with_one_and_survive_each_others_end(tmp_path):
    """First the one that all others wait for is killed, then the other one."""
    folder = tmp_path / "two"
    expected = run_one(tmp_path / "one")

    statuses, printed = run_two(folder, dies=(0, 15))
    assert statuses[0] == -9
    assert statuses[1] not in (0, -9)
    said = ("Another process has ended, or cannot be reached; to go on", "another task died")
    assert any(text in printed[1][1] for text in said), printed[1]
    assert steps_in(folder) == [10]

    statuses, printed = run_two(folder, "--resume", dies=(1, 25))
    assert statuses == [1, -9]
    last = printed[0][1].splitlines()[-1]
    assert last.startswith("Another process has ended, or cannot be reached; to go on from the")
    assert steps_in(folder) == [10, 20]

    shutil.copytree(folder / f"{SEVERAL}.checkpoints", tmp_path / f"{ONE}.checkpoints")
    compare(run_one(tmp_path, resume=True), expected)

    statuses, printed = run_two(folder, "--resume", "--devices", "2", cluster=True)
    assert statuses == [0, 0], printed
    compare(load_model(folder / f"{SEVERAL}.npz").arrays, expected)
    record = json.loads((folder / f"{SEVERAL}.json").read_text())
    assert record["environment"]["devices"] == "4 of cpu"
    assert record["environment"]["processes"] == "2"
    assert [entry["step"] for entry in record["history"]] == [10, 20, 30]
    assert record["results"]["rows"] == [0, 1, 2, 3]
    assert "took" in printed[0][0]
    assert "took" not in printed[1][0]  # the first one alone prints
    assert not lines_of(printed[1][1])


def test_one_device_of_a_mesh_gives_the_same_bits_as_none(tmp_path, monkeypatch):
    expected = run_one(tmp_path / "none")
    mesh = Mesh(np.array(jax.devices()[:1]), ("batch",))
    monkeypatch.setattr(devices, "begin", lambda config, spread: mesh)
    actual = run_one(tmp_path / "mesh")
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"devices": 0}, r"--devices is 0, but must be a whole number in \[1, 65536\]"),
        ({"devices": 4096}, r"--devices is 4096, but must be at most \d+, the number of this"),
        ({"coordinator": "here"}, "--coordinator is 'here', but must be .*HOST:PORT or auto"),
        ({"processes": 2}, "--processes is 2 and --coordinator None, but .* must come together"),
        ({"process": 0}, "--process is 0 and --coordinator None, but"),
        ({"coordinator": "a:1", "process": 0}, "--processes is None and --coordinator a:1, but"),
        ({"coordinator": "a:1", "processes": 2}, "--process is None and --coordinator a:1, but"),
        ({"coordinator": "auto", "processes": 2}, "--processes is 2 and --coordinator auto, but"),
        (
            {"coordinator": "a:1", "processes": 2, "process": 2},
            "--process is 2, but must be below --processes, which is 2",
        ),
    ],
)
def test_devices_and_processes_that_there_are_not_are_refused(options, said):
    jax.devices()  # from here on their number stays
    with pytest.raises(SettingError, match=said):
        devices.begin(run_processes.Config(run=ParallelRun(**options)))
    assert not jax.distributed.is_initialized()


def test_where_jax_finds_no_cluster_the_run_says_so(monkeypatch):
    def initialize(*_, **__):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(SettingError, match="--coordinator is auto, but JAX finds no cluster here"):
        devices.begin(run_processes.Config(run=ParallelRun(coordinator="auto")))


def test_a_batch_that_does_not_divide_is_refused(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    with pytest.raises(SettingError, match="--batch-size is 4, but must be a multiple of 3, the"):
        devices.begin(run_processes.Config())
    config = SimpleNamespace(run=ParallelRun(), subjects=5, restarts=2)
    with pytest.raises(SettingError, match="--subjects × --restarts is 10, but must be a multiple"):
        devices.begin(config, spread=("subjects", "restarts"))


def test_what_is_not_trained_is_not_spread():
    with pytest.raises(SettingError, match="spread training, but with these settings nothing is"):
        devices.begin(run_processes.Config(run=ParallelRun(devices=2)), spread=())


def test_without_options_there_is_no_mesh():
    assert devices.begin(run_processes.Config()) is None
    assert devices.begin(replace(run_processes.Config(), run=Run())) is None


@dataclass(frozen=True)
class Usable(run_processes.Config):
    use: Use = None


@pytest.mark.parametrize("options", [["--devices", "2"], ["--coordinator", "auto"]])
def test_what_trains_nothing_is_not_spread(tmp_path, options):
    save_model(tmp_path / "test_devices-default.npz", {}, {}, {})
    arguments = ["--use", str(tmp_path), *options]
    with pytest.raises(SettingError, match="spread training, but --use trains nothing"):
        command_line.parse({"default": Usable()}, arguments)


@pytest.fixture
def second_of_two(monkeypatch):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(jax, "process_index", lambda: 1)


@pytest.mark.usefixtures("second_of_two")
def test_another_process_than_the_first_writes_nothing(tmp_path):
    assert write_json(tmp_path / "folder" / "a.json", {"a": (1,)}) == {"a": [1]}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("second_of_two")
@pytest.mark.parametrize("failed", [False, True])
def test_what_fails_in_the_first_process_ends_the_others(monkeypatch, failed):
    monkeypatch.setattr(devices.multihost_utils, "broadcast_one_to_all", lambda _: failed)
    with pytest.raises(ProcessError) if failed else contextlib.nullcontext():
        devices.by_first(lambda: 1 / 0)


@pytest.mark.usefixtures("second_of_two")
def test_an_error_of_ones_own_is_not_anothers():
    with pytest.raises(ValueError, match="a bug"), devices.together("."):
        raise ValueError("a bug")
    with pytest.raises(ProcessError, match=r"be reached: do"), devices.together(": do so."):
        raise ValueError("UNKNOWN: Gloo all-reduce failed: Connection closed by peer")
