"""Training on many devices: what they exchange. For TPUs compiled, not run; on eight CPUs run."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import benchmark
from experiments.benchmark import chips, hlo, pods, run
from experiments.benchmark.hlo import Collective
from experiments.benchmark.timing import Shape
from experiments.harness.settings import Output, SettingError
from experiments.shakespeare.config import PRESETS

PROGRAM = Path(__file__).with_name("run_wide.py")
SMALL = dataclasses.replace(PRESETS["full"], hidden_size=128, chunk_length=16, batch_size=8)
WIDE = Shape(steps=16, batch=8, inputs=128, hidden=4096)
# what imports of the experiments warn about is theirs to mend
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("jax_defaults")]

TEXT = """\
HloModule jit_f, is_scheduled=true

%async (p.2: f32[2,3]) -> f32[3] {
  %p.2 = f32[2,3]{1,0} parameter(0)
  ROOT %scattered = f32[1,3]{1,0} reduce-scatter(%p.2), dimensions={0}
}

%fused (p.1: f32[2,3]) -> bf16[4,3] {
  %p.1 = f32[2,3]{1,0} parameter(0)
  ROOT %gathered = bf16[4,3]{1,0} all-gather(%p.1), dimensions={0}
}

%body (t: (s32[], f32[2,3])) -> (s32[], f32[2,3]) {
  %t = (s32[], f32[2,3]{1,0}) parameter(0)
  %x.1 = f32[2,3]{1,0} get-tuple-element(%t), index=1
  %all = bf16[4,3]{1,0} fusion(%x.1), kind=kCustom, calls=%fused
  %start = (f32[2,3]{1,0}, f32[4,3]{1,0:T(8,128)S(1)}, u32[]{:S(2)}) all-gather-start(%x.1)
  %done = f32[4,3]{1,0} all-gather-done(%start)
  %moved = (f32[2,3]{1,0}, f32[2,3]{1,0}, u32[], u32[]) collective-permute-start(%x.1)
  ROOT %tuple = (s32[], f32[2,3]{1,0}) tuple(%t, %x.1)
}

ENTRY %main (x: f32[2,3]) -> f32[2,3] {
  %x = f32[2,3]{1,0} parameter(0)
  %async.1 = ((f32[2,3]{1,0}), f32[1,3]{1,0}) async-start(%x), calls=%async
  %first = (s32[], f32[2,3]) tuple(%x)
  %loop = (s32[], f32[2,3]) while(%first), condition=%unknown, body=%body, \
backend_config={"known_trip_count":{"n":"7"}}
  %sum = (f32[2,3]{1,0}, /*index=1*/f32[]{:T(128)}) all-reduce(%x, %x), to_apply=%add
  ROOT %result = f32[2,3]{1,0} get-tuple-element(%loop), index=1
}
"""


def test_collectives_are_counted():
    assert hlo.collectives(TEXT) == [
        Collective("reduce-scatter", 1, 12),
        Collective("all-gather", 7, 24),
        Collective("all-gather", 7, 48),
        Collective("collective-permute", 7, 24),
        Collective("all-reduce", 1, 28),
    ]


def test_units_over_eight_devices_equal_one():
    """One exchange in each loop: of the states, and of their cotangents; then the sums."""
    done = subprocess.run(
        [sys.executable, PROGRAM],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PROGRAM.parents[1])},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == ["all-gather", "all-reduce", "reduce-scatter"]


def compiled(function, *args, **keywords):
    try:
        return function(*args, **keywords)
    except chips.MissingCompilerError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(
    ("topology", "count"), [("v5e:2x2", 4), ("v5e:8x8", 64), ("v5e:16x16", 256)]
)
def test_an_update_of_an_experiment_has_one_all_reduce(topology, count):
    """Of all gradients and the loss at once; what a chip holds does not grow with their number."""
    pod = compiled(pods.data_parallel, topology, SMALL)
    assert pod.chips == count
    h, e, v = SMALL.hidden_size, SMALL.embedding_size, pods.CHARACTERS
    parameters = v * e + 3 * h * (e + h + 1) + (h + 1) * v
    assert pod.collectives == (Collective("all-reduce", pods.UPDATES, 4 * (parameters + 1)),)
    # parameters, the best ones, two moments of each; and in tiles, so that there is a little more
    assert 4 <= pod.held_bytes / (4 * parameters) < 4.5
    assert pod.temporary_bytes <= 4e6


def test_how_much_is_summed_at_once_is_an_option():
    """Else XLA has a limit, beyond which there are several all-reduces."""
    options = dict.fromkeys(pods.AT_ONCE, "1")
    pod = compiled(pods.data_parallel, pods.PODS[0], SMALL, options=options)
    assert len(pod.collectives) > 1
    assert {each.opcode for each in pod.collectives} == {"all-reduce"}


def test_a_wide_gru_gathers_once_in_each_step_and_direction():
    """The transpose of a gather scatters a sum. All sums over chips are one, after the loops."""
    pod = compiled(pods.units_sharded, WIDE)
    steps, rows, inputs, units = WIDE
    gathered, scattered, summed = pod.collectives
    assert gathered == Collective("all-gather", steps, 2 * rows * units)  # in bfloat16
    assert scattered == Collective("reduce-scatter", steps, 4 * rows * units // pod.chips)
    of_inputs = 4 * steps * rows * inputs
    assert summed == Collective("all-reduce", 1, of_inputs + 4)
    weights = 4 * (3 * units * (inputs + units + 1) + units)
    assert pod.held_bytes <= 1.01 * (2 * weights / pod.chips + 2 * of_inputs)
    assert pod.temporary_bytes <= weights / pod.chips


def test_the_table_of_all_experiments_is_that_of_the_record():
    experiments = PROGRAM.parents[1] / "experiments"
    record = json.loads((experiments / "results" / "benchmark-pods.json").read_text("utf-8"))
    (table,) = benchmark.summary(record).values()
    lines = table.splitlines()
    _, shown = (experiments / "README.md").read_text("utf-8").split(f"\n{lines[0]}\n")
    rows = shown.partition("\n\n")[0].splitlines()
    assert len(rows) > 1
    assert set(rows) <= set(lines)


def small(kind):
    collectives = Collective("all-gather", 20, 3_000_000), Collective(kind, 1, 2_000_000)
    return pods.Pod(8, "time step", 10, collectives, 1_234_567_890, 2_500_000)


def test_a_run_leaves_a_record_and_a_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "pin_to_cores", lambda cores: None)
    monkeypatch.setattr(pods, "data_parallel", lambda *_, **__: small("all-reduce"))
    for name in ("units_sharded", "sharded_by_xla", "one_chip"):
        monkeypatch.setattr(pods, name, lambda shape: small("all-to-all"))
    config = dataclasses.replace(benchmark.PRESETS["pods"], run=Output(tmp_path))
    results = benchmark.main(config)
    record = json.loads((tmp_path / "benchmark-pods.json").read_text())
    assert record["results"] == results
    assert len(results) == len(pods.PODS) + 5
    (table,) = benchmark.summary(record).values()
    assert table in capsys.readouterr().out
    exchanged = "2 all-gather (6.00) per time step; 1 all-to-all (2.00)"
    assert f"| GRU, 4096 units, one chip | 8 | {exchanged} | 1,234.6 | 2.5 |" in table

    def missing(*_, **__):
        raise chips.MissingCompilerError("nothing here compiles for TPU v5e: install libtpu")

    monkeypatch.setattr(pods, "data_parallel", missing)
    with pytest.raises(SettingError, match=r"--preset pods cannot compile: .* install libtpu"):
        benchmark.main(config)
