"""A run's folder: what is refused before training, what belongs to a run, and its record."""

import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

from experiments.harness import models, runs
from experiments.harness.runs import begun
from experiments.harness.settings import USAGE, Interval, Output, Run, SettingError, Use


@dataclasses.dataclass(frozen=True)
class Config:
    preset: str = "default"
    size: Annotated[int, Interval("[1, 8]")] = 1
    heat: Annotated[float, USAGE] = 1.0
    use: Use = None
    run: Run = dataclasses.field(default_factory=Run)


STEM = "test_runs-default"  # the name of the configuration's module, and the preset


def config_in(folder, *, resume=False, **changes):
    return Config(run=Run(folder, resume), **changes)


def begin(folder, *, data=None, **changes):
    with begun(config_in(folder, **changes), lambda: data or {}) as run:
        return run


def test_a_record_says_where_its_numbers_come_from(tmp_path, capsys):
    with begun(config_in(tmp_path / "new" / "folder"), lambda: {"a.txt": "f00"}) as run:
        run.warnings.append("something is odd")
        written = run.write_record({"loss": float("nan"), "sizes": (1, 2)}, history=[{"step": 1}])
        run.conclude("loss 3")
    record = json.loads((tmp_path / "new" / "folder" / f"{STEM}.json").read_text())
    assert record == written
    assert record["settings"] == {"preset": "default", "size": 1, "heat": 1.0}
    assert record["data"] == {"a.txt": "f00"}
    assert record["warnings"] == ["something is odd"]
    assert record["results"] == {"loss": None, "sizes": [1, 2]}
    assert record["history"] == [{"step": 1}]
    assert len(record["environment"]["commit"]) >= 7
    assert record["environment"]["tree"].split(":")[0] in ("clean", "changed", "unknown")
    *_, warning, last = capsys.readouterr().out.splitlines()
    assert warning == "Warning: something is odd"
    assert last.startswith(f"{STEM} took 0 s: loss 3; record: {tmp_path}")


def test_settings_are_checked_before_data_are_read(tmp_path):
    with (
        pytest.raises(SettingError, match="--size is 9"),
        begun(config_in(tmp_path / "a", size=9), lambda: 1 / 0),
    ):
        pass
    assert not (tmp_path / "a").exists()


def test_a_run_is_resumed_under_its_settings_and_data_only(tmp_path):
    begin(tmp_path, data={"a": "1"})
    begin(tmp_path, data={"a": "1"}, resume=True)
    begin(
        tmp_path, data={"a": "1"}, resume=True, heat=3.0
    )  # what is done with the model may change
    with pytest.raises(SettingError, match=r"other settings or data: --size \(was 1, is 2\)\."):
        begin(tmp_path, data={"a": "1"}, resume=True, size=2)
    with pytest.raises(SettingError, match=r"--a \(was '1', is '2'\)"):
        begin(tmp_path, data={"a": "2"}, resume=True)


def test_nothing_to_resume_is_said_and_a_run_begins(tmp_path, capsys):
    begin(tmp_path, resume=True)
    assert "There is nothing to resume in" in capsys.readouterr().out
    begin(tmp_path, resume=True)
    assert capsys.readouterr().out == ""


def test_a_new_run_keeps_nothing_of_an_old_one(tmp_path):
    """Killed in its first part and resumed, it must not find the old one's second part."""
    old = begin(tmp_path).checkpoints
    (old / "second").mkdir()
    (old / "second" / "10").write_text("old")
    (tmp_path / f".{old.name}-old-1" / "x").mkdir(parents=True)  # a kill came between
    begin(tmp_path)
    assert [path.name for path in old.iterdir()] == ["run.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".{STEM}.lock", old.name]


def test_what_a_kill_left_of_a_folder_is_not_resumed(tmp_path, capsys):
    """Without run.json the parts belong to nobody."""
    folder = begin(tmp_path).checkpoints
    (folder / "second").mkdir()
    (folder / "run.json").unlink()
    begin(tmp_path, resume=True)
    assert "nothing to resume" in capsys.readouterr().out
    assert not (folder / "second").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"settings": 1, "data": {}}', "{}"])
def test_a_damaged_identity_is_named(tmp_path, content):
    about = begin(tmp_path).checkpoints / "run.json"
    about.write_text(content)
    with pytest.raises(SettingError, match=r"run\.json is damaged: begin anew, without --resume"):
        begin(tmp_path, resume=True)
    begin(tmp_path)


def test_an_old_folder_that_cannot_be_deleted_ends_the_run(tmp_path, monkeypatch):
    begin(tmp_path)

    def rmtree(path):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(path))

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    with pytest.raises(OSError, match="Operation not permitted"):
        begin(tmp_path)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_is_named_at_once(tmp_path, monkeypatch, number):
    def acquire(self):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(runs.filelock.FileLock, "acquire", acquire)
    with pytest.raises(SettingError, match="which cannot be written: " + os.strerror(number)):
        begin(tmp_path)


def test_a_file_in_the_folders_place_is_named(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(SettingError, match=r"--output is '.*/a', which cannot be written: "):
        begin(tmp_path / "a")


def test_a_path_that_the_locale_cannot_read_is_named():
    with pytest.raises(SettingError, match="which this locale cannot read: set PYTHONUTF8=1"):
        begin(Path("caf\udcc3"))


def test_two_runs_in_one_folder_do_not_meet(tmp_path):
    """Within a process and between two; another preset's run may lie beside."""
    with begun(config_in(tmp_path)):
        with pytest.raises(SettingError, match=f"where another process runs {STEM}: wait for it"):
            begin(tmp_path)
        code = (
            "import sys, pathlib, test_runs\n"
            "try: test_runs.begin(pathlib.Path(sys.argv[1]))\n"
            "except ValueError as error: print(error)"
        )
        here = Path(__file__).parent
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path], env=environment, capture_output=True, text=True
        )
        assert f"where another process runs {STEM}" in done.stdout
        begin(tmp_path, preset="other")
    begin(tmp_path)


def test_a_file_system_without_locks_is_used_without(tmp_path, monkeypatch):
    def acquire(self):
        raise NotImplementedError

    monkeypatch.setattr(runs.filelock.FileLock, "acquire", acquire)
    begin(tmp_path)


@dataclasses.dataclass(frozen=True)
class Timing:
    preset: str = "default"
    run: Output = dataclasses.field(default_factory=Output)


def test_a_run_without_training_has_no_checkpoints(tmp_path):
    with begun(Timing(run=Output(tmp_path))) as run:
        assert not run.checkpoints.exists()


PARAMS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": (np.ones(3, np.float32),)}


def saved_in(folder):
    with begun(config_in(folder, size=4)) as run:
        run.save_model(PARAMS, symbols=("a", "é"))
    return folder / f"{STEM}.npz"


def test_a_model_is_used_again_under_its_trainings_settings(tmp_path):
    path = saved_in(tmp_path)
    for use in (tmp_path, path, path.with_suffix(".json")):
        config, model = models.opened(Config(heat=7.0, use=use))
        assert (config.size, config.heat) == (4, 7.0)
        assert model.knows == {"symbols": ["a", "é"]}
        found = models.params_of(model, lambda: PARAMS)
        np.testing.assert_array_equal(found["w"], PARAMS["w"])
        np.testing.assert_array_equal(found["b"][0], PARAMS["b"][0])


def test_a_model_of_other_arrays_is_refused(tmp_path):
    saved_in(tmp_path)
    _, model = models.opened(Config(use=tmp_path))
    wanted = PARAMS | {"w": np.zeros((2, 4), np.float32)}
    with pytest.raises(SettingError, match=r"array \['w'\] has shape \(2, 3\), but .* \(2, 4\)"):
        models.params_of(model, lambda: wanted)
    with pytest.raises(SettingError, match=r"array \['c'\] has shape None, but this code's has"):
        models.params_of(model, lambda: PARAMS | {"c": np.zeros(2)})


def test_a_damaged_model_is_never_loaded(tmp_path):
    """Cut short, or with a flipped bit anywhere: refused, or read unchanged."""
    path = saved_in(tmp_path)
    whole = path.read_bytes()
    expected = models.load_model(path)
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(SettingError, match="is no model of a finished run"):
            models.load_model(path)
    refused = 0
    rng = np.random.default_rng(0)
    for place in rng.integers(len(whole), size=200):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            found = models.load_model(path)
        except SettingError:
            refused += 1
            continue
        assert (found.settings, found.knows) == (expected.settings, expected.knows)
        for name, array in expected.arrays.items():
            np.testing.assert_array_equal(found.arrays[name], array)
    assert refused > 100


def test_no_model_is_named(tmp_path):
    with pytest.raises(SettingError, match=r"\.npz is no model of a finished run: No such file"):
        models.opened(Config(use=tmp_path / "absent"))
