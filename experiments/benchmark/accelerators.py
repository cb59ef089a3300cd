"""GPUs and TPUs: what each implementation's program launches and needs, and its time on a device.

Every program is compiled for each chip, not run. Where JAX finds a GPU or a TPU the same command
also times them there, with PyTorch's cuDNN beside them.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from tqdm import tqdm

from experiments.benchmark.chip_report import table
from experiments.benchmark.chips import CHIPS, MissingCompilerError, Program, compile_for
from experiments.benchmark.config import MODES, WORKLOADS, Workload
from experiments.benchmark.ours import ours
from experiments.benchmark.peers import JAX_PEERS, pytorch
from experiments.benchmark.timing import (
    Implementation,
    Mode,
    Problem,
    Ready,
    Shape,
    UnsupportedError,
    ready,
    time_major,
    timed,
)
from experiments.harness.settings import SettingError

T = TypeVar("T")
KERNELS: Mapping[str, Callable[[Shape, Mode], Problem]] = {
    "gru_jax pallas": partial(time_major, partial(ours, implementation="pallas")),
    "gru_jax pallas before": partial(
        time_major, partial(ours, reset="before", implementation="pallas")
    ),
}
PROGRAMS: Mapping[str, Callable[[Shape, Mode], Problem]] = {
    "gru_jax": partial(time_major, ours),
    "gru_jax before": partial(time_major, partial(ours, reset="before")),
    **KERNELS,
    **JAX_PEERS,
}
CUDNN = "PyTorch (cuDNN)"


def measure(workloads: Sequence[Workload], rounds: int) -> dict[str, Any]:
    """Compiles everything for each chip that there is a compiler for, and times it on a device.

    Raises:
      SettingError: there is neither a compiler nor a device.
    """
    results: dict[str, Any] = {"chips": {}}
    reasons = []
    for chip in CHIPS:
        try:
            results["chips"][chip] = {name: compiled(chip, name) for name in workloads}
        except MissingCompilerError as reason:
            tqdm.write(f"{chip} is skipped: {reason}")
            reasons.append(str(reason))
    kind = device()
    if kind is not None:
        results["device"] = {"kind": kind, "workloads": times(workloads, rounds)}
    elif not results["chips"]:
        raise SettingError(f"--preset accelerators has no GPU or TPU, and {reasons[0]}")
    return results


def device() -> str | None:
    """The kind of JAX's default device, None for a CPU."""
    first = jax.devices()[0]
    return None if first.platform == "cpu" else str(first.device_kind)


def compiled(chip: str, workload: Workload) -> dict[str, Any]:
    """What is known of each program for a chip, by mode and implementation."""
    shape = WORKLOADS[workload]
    found: dict[str, Any] = {"shape": shape._asdict()}
    for mode in MODES:
        found[mode] = {}
        title = f"{chip}, {workload} {mode}"
        for name in tqdm(PROGRAMS, f"{title}: compiling", leave=False, disable=None):
            try:
                program = made(partial(compile_for, chip), name, shape, mode)
            except (ImportError, UnsupportedError) as reason:
                tqdm.write(f"{title}: {name} is skipped: {reason}")
            else:
                found[mode][name] = facts(program)
        print(table(title, found[mode], shape.steps), flush=True)
    return found


def made(compile: Callable[..., T], name: str, shape: Shape, mode: Mode) -> T:
    """Compiles an implementation.

    Raises:
      UnsupportedError: a kernel does not take these sizes, or there is none for the chip.
    """
    function, args = PROGRAMS[name](shape, mode)
    try:
        return compile(function, *args)
    except (ValueError, NotImplementedError, jax.errors.JaxRuntimeError) as reason:
        if name not in KERNELS:
            raise
        raise UnsupportedError(str(reason).partition("\n")[0]) from reason


def facts(program: Program) -> dict[str, Any]:
    """What the record keeps of a program."""
    return {
        "launches": program.launches.total,
        "outside": program.launches.outside,
        "loops": [loop._asdict() for loop in program.launches.loops],
        "temporary_bytes": program.temporary_bytes,
        "compile_seconds": program.seconds,
        "kernels": [kernel._asdict() for kernel in program.kernels],
    }


def times(workloads: Sequence[Workload], rounds: int) -> dict[str, Any]:
    """Milliseconds of each implementation on JAX's default device, and how far kernels are off."""
    implementations: dict[str, Implementation] = {
        name: partial(made, tried, name) for name in PROGRAMS
    }
    implementations[CUDNN] = partial(pytorch, device="cuda")
    results: dict[str, Any] = {}
    for name in workloads:
        shape = WORKLOADS[name]
        results[name] = {"shape": shape._asdict(), "largest_errors": largest_errors(shape)}
        for mode in MODES:
            entries = timed(f"{name} {mode}", shape, mode, implementations, rounds)
            results[name][mode] = {key: entry._asdict() for key, entry in entries.items()}
    return results


def tried(function: Callable[..., Any], *args: Any) -> Ready:
    """Compiles and runs a function once, so that a kernel which fails here is skipped."""
    result = ready(function, *args)
    result.call()
    return result


def largest_errors(shape: Shape) -> dict[str, float]:
    """Of each kernel on JAX's default device: how far its outputs and gradients are off the scan's.

    The largest difference of each array, relative to its largest number; of those the largest.
    """
    errors = {}
    for name in (each for each in KERNELS if each in PROGRAMS):
        try:
            errors[name] = max(
                float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b)))
                for mode in MODES
                for a, b in zip(
                    *(
                        jax.tree.leaves(made(tried, each, shape, mode).call())
                        for each in (name, name.replace(" pallas", ""))
                    ),
                    strict=True,
                )
            )
        except UnsupportedError as reason:
            tqdm.write(f"{name} is skipped: {reason}")
    return errors
