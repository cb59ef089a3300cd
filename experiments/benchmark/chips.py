"""Compiling for GPUs and TPUs without owning one, to read off what the program would do.

XLA's own compilers make the program, from a chip's data sheet or its name. They come with the
plugins of the extra `aot` (tests/README.md has the commands) and need no driver. What was compiled
so was not run: it shows launches, memory and registers, and no time.
"""

import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import SingleDeviceSharding

from experiments.benchmark.hlo import Launches, launches
from experiments.benchmark.timing import temporary_bytes


class Chip(NamedTuple):
    """A kind of device."""

    platform: str
    """As `lowering_platforms` names it."""
    topology: str
    """A few of them, as XLA for TPU names them, or the file of a GPU's data sheet."""
    packages: str
    """What compiles for it."""
    target: str | None = None
    """A GPU's, for which its kernels are assembled."""


_CUDA, _TPU = "jax-cuda12-plugin, jax-cuda12-pjrt and nvidia-cuda-nvcc-cu12", "libtpu"
CHIPS = {
    "H100": Chip("cuda", "h100.txtpb", _CUDA, "sm_90a"),
    "A100": Chip("cuda", "a100.txtpb", _CUDA, "sm_80"),
    "TPU v4": Chip("tpu", "v4:2x2x1", _TPU),
    "TPU v5e": Chip("tpu", "v5e:2x2", _TPU),
    "TPU v5p": Chip("tpu", "v5p:2x2x1", _TPU),
    "TPU v6e": Chip("tpu", "v6e:2x2", _TPU),
}
ENVIRONMENT: Mapping[str, Mapping[str, str | None]] = {
    # registers and spills of each kernel, and the shared memory that it is called with
    "cuda": {"MOSAIC_GPU_DUMP_PTXAS": "1", "MOSAIC_GPU_DUMP_HOST_LLVM": "1"},
    # No server is asked which TPU this machine has; several processes may compile at once, since
    # none of them holds a TPU; and no flags are read: of those it does not know, such as XLA's for
    # CPU, libtpu would end the process.
    "tpu": {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "XLA_FLAGS": None},
}
"""Environment variables of a platform's compiler."""


class Kernel(NamedTuple):
    """What the assembler says of one Pallas kernel; None what does not exist on its platform."""

    name: str
    memory_bytes: int
    """Shared memory of a block on a GPU; on a TPU VMEM, without operands that XLA keeps there."""
    registers: int | None
    """Of one thread."""
    spilled_bytes: int | None
    """What does not fit the registers, and is stored to memory."""
    target: str | None
    """The machine that it was assembled for, such as "sm_90a"."""


class Program(NamedTuple):
    """A program that was compiled, not run."""

    text: str
    launches: Launches
    temporary_bytes: int
    seconds: float
    """To lower and compile it."""
    kernels: tuple[Kernel, ...]


class MissingCompilerError(Exception):
    """There is no compiler for a chip here; its message says what to install or to set."""


def compile_for(
    chip: str, function: Callable[..., Any], *args: Any, assumed: Sequence[int] = ()
) -> Program:
    """Compiles a function for one device of a chip.

    Args:
      chip: one of `CHIPS`.
      function: a function of pytrees of arrays.
      *args: arrays, or their shapes.
      assumed: trip counts of loops that depend on the data; see `hlo.launches`.

    Raises:
      MissingCompilerError: the packages that compile for the chip are not there.
      ValueError: a kernel of the function is one for another generation of GPUs.
    """
    platform, *_ = CHIPS[chip]
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args)
    with compiler(platform) as output:
        device = SingleDeviceSharding(devices(chip)[0])
        start = time.perf_counter()
        traced = jax.jit(function, in_shardings=device).trace(*shapes)
        compiled = traced.lower(lowering_platforms=(platform,)).compile()
        seconds = time.perf_counter() - start
        said = output()
    text = compiled.as_text()
    kernels = tuple(_gpu_kernels(text, said) if platform == "cuda" else _tpu_kernels(text))
    for kernel in kernels:
        if kernel.target is not None and kernel.target != CHIPS[chip].target:
            raise ValueError(f"kernel {kernel.name} is for {kernel.target}: {chip} cannot run it.")
    return Program(text, launches(text, assumed), temporary_bytes(compiled), seconds, kernels)


@contextmanager
def compiler(platform: str) -> Iterator[Callable[[], str]]:
    """Meanwhile programs for a platform are compiled as for a user; gives what was printed."""
    with _environment(ENVIRONMENT[platform]), _all_optimisations(), _output() as output:
        yield output


def devices(chip: str, topology: str | None = None) -> Sequence[Any]:
    """The devices of a chip's topology, or of another one of a TPU; within `compiler`.

    Raises:
      MissingCompilerError: the packages that compile for the chip are not there.
    """
    platform, default, packages, _ = CHIPS[chip]
    topology = topology or default
    sheet = Path(__file__).with_name(topology)
    try:
        if platform == "tpu":
            described = topologies.get_topology_desc(topology, platform)
        else:
            described = topologies.get_topology_desc(
                sheet.stem, platform, target_config=sheet.read_text("utf-8"), topology="1x1x1"
            )
    except (NotImplementedError, RuntimeError) as error:
        raise MissingCompilerError(
            f"nothing here compiles for {chip}: install {packages} as the extra aot has them, and "
            f"set JAX_PLATFORMS=cpu where no such device is ({error})."
        ) from error
    found: Sequence[Any] = described.devices
    return found


@contextmanager
def _environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Sets environment variables, None for none."""
    given = {name: os.environ.get(name) for name in values}

    def put(values: Mapping[str, str | None]) -> None:
        for name, value in values.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    try:
        put(values)
        yield
    finally:
        put(given)


@contextmanager
def _all_optimisations() -> Iterator[None]:
    """Compiles as for a user, and anew: programs out of a cache have no time and say nothing."""
    names = "jax_disable_most_optimizations", "jax_enable_compilation_cache"
    given = {name: jax.config.values[name] for name in names}
    try:
        jax.config.update("jax_disable_most_optimizations", val=False)
        jax.config.update("jax_enable_compilation_cache", val=False)
        compilation_cache.reset_cache()
        yield
    finally:
        for name, value in given.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


@contextmanager
def _output() -> Iterator[Callable[[], str]]:
    """What the process prints meanwhile, with what Mosaic and ptxas say of a kernel."""
    sys.stdout.flush()
    with tempfile.TemporaryFile() as file:
        stdout = os.dup(1)

        def output() -> str:
            file.seek(0)
            return file.read().decode("utf-8", "replace")

        try:
            os.dup2(file.fileno(), 1)
            yield output
        finally:
            os.dup2(stdout, 1)
            os.close(stdout)


_ASSEMBLED: dict[str, Kernel] = {}
"""GPU kernels by their hash: Mosaic assembles each once in a process."""


def _gpu_kernels(text: str, said: str) -> Iterator[Kernel]:
    """The Mosaic kernels of a GPU program, from what was printed when each was assembled."""
    verdict = re.compile(
        r"Compiling entry function '(\w+)' for '(\w+)'.*?(\d+) bytes spill stores.*?"
        r"Used (\d+) registers",
        re.DOTALL,
    )
    found = {}
    for entry, target, spilled, registers in verdict.findall(said):
        name = entry.removesuffix("_kernel")
        # Its launch has the sizes of grid, cluster and block, then the bytes of shared memory:
        # JAX 0.10 calls the one function, 0.12 the other.
        memory = re.search(
            rf"define void @{name}\(.*?@mosaic_gpu_(?:launch_kernel|build_kernel_spec)"
            r"\(ptr %\d+(?:, i32 \d+){9}, i32 (\d+)",
            said,
            re.DOTALL,
        )
        assert memory, f"the shared memory of {name}"
        short = name.removesuffix("_mosaic_gpu")
        found[name] = Kernel(short, int(memory[1]), int(registers), int(spilled), target)
    for line in text.splitlines():
        if 'custom_call_target="mosaic_gpu' in line:
            (key,) = re.findall(r'kernel_hash ?= ?"(.*?)", ?module', line)
            for name, kernel in found.items():
                if name in line:
                    _ASSEMBLED[key] = kernel
            yield _ASSEMBLED[key]


def _tpu_kernels(text: str) -> Iterator[Kernel]:
    """The Mosaic kernels of a TPU program."""
    for line in text.splitlines():
        if 'custom_call_target="tpu_custom_call"' in line:
            name = line.strip().removeprefix("ROOT ").partition(" =")[0].lstrip("%")
            (used,) = re.findall(r'"used_scoped_memory_configs":(\[.*?\])', line)
            sizes = re.findall(r'"memory_space":"1","offset":"\d+","size":"(\d+)"', used)
            yield Kernel(name.partition(".")[0], sum(map(int, sizes)), None, None, None)
