"""Kernels that a GPU launches for each implementation: compiled for an H100, not run."""

from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from experiments.benchmark.chips import MissingCompilerError, compile_for
from experiments.benchmark.hlo import launches
from experiments.benchmark.timing import Mode, Shape, time_major
from experiments.harness.runs import OpenRun
from experiments.time_parallel.speed import JACOBIANS, MAKES, MODES, kernel, shapes

CHIP = "H100"
KERNEL = "kernel"


def measure(run: OpenRun) -> list[dict[str, Any]]:
    """The launches of each program; none, with a warning, where nothing here compiles for GPUs."""
    results = []
    try:
        for shape in shapes(run.config):
            found: dict[str, Any] = {"shape": shape._asdict()}
            for mode in MODES:
                found[mode] = {name: counted(make, shape, mode) for name, make in MAKES.items()}
                try:
                    found[mode][KERNEL] = counted(kernel, shape, mode)
                except ValueError as reason:
                    run.warnings.append(f"the kernel is skipped: {reason}")
            results.append(found)
            tqdm.write(f"T = {shape.steps}, H = {shape.hidden}: compiled for {CHIP}")
    except MissingCompilerError as reason:
        run.warnings.append(f"launches are not counted: {reason}")
        return []
    return results


def counted(make: Callable[[Shape], Any], shape: Shape, mode: Mode) -> dict[str, int]:
    """Launches of a call apart from two loops, of an iteration of each, and temporary bytes.

    The loops, whose trip counts depend on the data, are Newton's method and the one that finishes
    what does not converge; programs without have zeros.
    """
    loops = 2 * (make in [MAKES[name] for name in JACOBIANS])
    function, args = time_major(make, shape, mode)
    program = compile_for(CHIP, function, *args, assumed=(0,) * loops)
    outside = program.launches.total
    each = [launches(program.text, trips).total - outside for trips in [(1, 0), (0, 1)] if loops]
    iteration, step = each or (0, 0)
    return {
        "outside": outside,
        "iteration": iteration,
        "finishing_step": step,
        "temporary_bytes": program.temporary_bytes,
    }
