"""The devices of a run, of one process or of several.

All processes run the same program; the first one alone writes and prints. How arrays are spread
over the devices is in `layouts.py`.
"""

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from experiments.harness.files import is_first
from experiments.harness.settings import Form, Interval, Run, SettingError, check, option

HEARTBEAT = 30
"""Seconds without a sign of life after which a process counts as dead, and ends all others."""
ADDRESS = Form(r"auto|.+:[0-9]{1,5}", "HOST:PORT or auto")


class ProcessError(RuntimeError):
    """Another process of the run has failed; the message is one sentence."""


@dataclass(frozen=True)
class ParallelRun(Run):
    """A run that may be spread over devices, which change nothing but the order of sums."""

    devices: Annotated[int, Interval("[1, 65536]")] = 1
    """Devices of each process, over which every batch is spread: its first accelerators or, where
    there is none, parts of the CPU."""
    coordinator: Annotated[str, ADDRESS] | None = None
    """Be one of several processes, which share a file system: HOST:PORT where process 0 listens, or
    "auto" on a cluster whose scheduler JAX knows."""
    processes: Annotated[int, Interval("[1, 65536]")] | None = None
    """With HOST:PORT: how many processes there are."""
    process: Annotated[int, Interval("[0, 65535]")] | None = None
    """With HOST:PORT: which of them this one is, from 0."""


ParallelOptions = Annotated[ParallelRun, tyro.conf.arg(name="")]


def begin(config: Any, spread: Sequence[str] = ("batch_size",)) -> Mesh | None:
    """Joins the other processes, and finds the devices; before anything else is computed.

    Args:
      config: of an experiment; its run may be a `ParallelRun`.
      spread: the settings whose product is the size of what is spread over the devices; none if
        nothing is.

    Returns:
      The devices of all processes in one axis, "batch"; None if there is but one device.

    Raises:
      SettingError: there are fewer devices than asked for, the batch does not spread over them, or
        an option of the processes lacks another one.
    """
    run = config.run
    if not isinstance(run, ParallelRun):
        return None
    check(run)
    if not spread and (run.devices > 1 or run.coordinator):
        raise SettingError(
            "--devices and --coordinator spread training, but with these settings nothing is "
            "trained."
        )
    if run.devices > 1:
        with contextlib.suppress(RuntimeError):  # JAX has its devices already
            jax.config.update("jax_num_cpu_devices", run.devices)
    _join(run)
    if run.devices > jax.local_device_count():
        raise SettingError(
            f"--devices is {run.devices}, but must be at most {jax.local_device_count()}, the "
            f"number of this process's devices ({jax.default_backend()})."
        )
    count = run.devices * jax.process_count()
    size = math.prod(getattr(config, name) for name in spread)
    if size % count:
        raise SettingError(
            f"{' × '.join(map(option, spread))} is {size}, but must be a multiple of {count}, the "
            "number of all devices."
        )
    if count == 1:
        return None
    chosen = [
        device
        for process in range(jax.process_count())
        for device in jax.local_devices(process)[: run.devices]
    ]
    return Mesh(np.array(chosen), ("batch",))


def _join(run: ParallelRun) -> None:
    """Makes this process one of several, if it is to be."""
    by_hand = run.coordinator not in (None, "auto")
    for name in ("processes", "process"):
        if (getattr(run, name) is not None) != by_hand:
            raise SettingError(
                f"--{name} is {getattr(run, name)} and --coordinator {run.coordinator}, but "
                "--coordinator HOST:PORT, --processes and --process must come together."
            )
    if run.processes is not None and run.process is not None and run.process >= run.processes:
        raise SettingError(
            f"--process is {run.process}, but must be below --processes, which is {run.processes}."
        )
    if run.coordinator is None or jax.distributed.is_initialized():
        return
    jax.config.update("jax_enable_preemption_service", val=False)  # SIGTERM ends it as ever
    address = run.coordinator if by_hand else None
    try:
        jax.distributed.initialize(
            address, run.processes, run.process, heartbeat_timeout_seconds=HEARTBEAT
        )
    except ValueError as error:
        raise SettingError(
            f"--coordinator is auto, but JAX finds no cluster here ({error}): give HOST:PORT."
        ) from error
    default = sys.excepthook

    def end(*failure: Any) -> None:
        default(*failure)
        os._exit(1)  # at its end Python would wait for the others, which wait for this process

    sys.excepthook = end
    # connects all devices now: later the processes must come to it within half a minute
    multihost_utils.sync_global_devices("begin")


def by_first(do: Callable[[], object]) -> None:
    """Does something in the first process, while the others wait; where it fails, all end.

    Raises:
      ProcessError: it failed, and this is another process.
    """
    failure = None
    if is_first():
        try:
            do()
        except Exception as error:  # raised below, when the others know of it
            failure = error
    if jax.distributed.is_initialized():
        failed = bool(multihost_utils.broadcast_one_to_all(np.array(failure is not None)))
        if failed and not is_first():
            raise ProcessError("The first process has failed, and says why.")
    if failure is not None:
        raise failure


@contextlib.contextmanager
def together(advice: str) -> Iterator[None]:
    """A block in which an error that comes of another process's end says so.

    Args:
      advice: what can be done about it; ends the sentence.

    Raises:
      ProcessError: another process has ended.
    """
    try:
        yield
    except Exception as error:  # of many kinds, for JAX passes on what its collectives say
        signs = ("Gloo", "NCCL", "CoordinationService")
        if not jax.distributed.is_initialized() or not any(sign in str(error) for sign in signs):
            raise
        raise ProcessError(f"Another process has ended, or cannot be reached{advice}") from error


def described(mesh: Mesh | None) -> dict[str, str]:
    """The devices and processes of a run, for its record."""
    count = 1 if mesh is None else mesh.size
    return {"devices": f"{count} of {jax.default_backend()}", "processes": str(jax.process_count())}
