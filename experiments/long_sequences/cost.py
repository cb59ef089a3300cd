"""Time and memory of training through a sequence, each measured in a process of its own.

A pass is what an epoch would be: one update by the exact gradient of the whole sequence, or one
after each segment.
"""

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import optax

from experiments.benchmark.timing import temporary_bytes
from experiments.harness.settings import settings_of, with_settings
from experiments.long_sequences import data
from experiments.long_sequences.config import Config
from experiments.long_sequences.model import WAYS, Model, Way, first_carry, init_model

MEBIBYTE = 2**20
LEAST = 100_000
"""Steps of a round, which has several passes through shorter sequences."""


def peak_mebibytes() -> float:
    """The most resident memory that this process has had.

    Linux passes the peak of `getrusage` on from the process that starts another, but not VmHWM.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEBIBYTE


def pass_through(
    way: Way, optimiser: optax.GradientTransformation, segment: int
) -> Callable[..., tuple[Model, Any, jax.Array]]:
    """`(model, optimiser state, sequence) -> (model, optimiser state, nats per step)`."""

    def update(state: Any, sequence: data.Sequence) -> Any:
        model, optimiser_state, carry = state
        gradient = jax.value_and_grad(way.loss, has_aux=True)
        (nats, carry), gradients = gradient(model, carry, sequence)
        updates, optimiser_state = optimiser.update(gradients, optimiser_state, model)
        return (optax.apply_updates(model, updates), optimiser_state, carry), nats

    def run(model: Model, optimiser_state: Any, sequence: data.Sequence) -> Any:
        length = len(sequence.inputs)
        state = model, optimiser_state, first_carry(model, way, segment)
        if not way.truncates:
            state, nats = update(state, sequence)
        else:
            cut = jax.tree.map(lambda x: x.reshape(-1, min(segment, length)), sequence)
            state, nats = jax.lax.scan(update, state, cut)
        return *state[:2], nats.sum() / length

    return run


def measure(name: str, length: int, config: Config) -> dict[str, Any]:
    """Trains through the first steps of the text in this process: seconds and mebibytes."""
    text = data.load()
    sequence = data.first(text.train, length, "--measured")
    sizes = config.embedding_size, config.hidden_size
    model = init_model(jax.random.key(0), len(text.vocabulary), *sizes)
    optimiser = optax.adam(1e-3)
    arguments = model, optimiser.init(model), jax.tree.map(jax.numpy.asarray, sequence)
    before = peak_mebibytes()
    run = jax.jit(pass_through(WAYS[name], optimiser, config.segments[0]), donate_argnums=(0, 1))
    program = run.lower(*arguments).compile()
    losses, seconds, cpu_seconds = [], [], []
    for _ in range(1 + config.rounds * max(1, LEAST // length)):
        begin = time.perf_counter(), time.process_time()
        *state, nats = program(*arguments)
        losses.append(float(nats))
        seconds.append(time.perf_counter() - begin[0])
        cpu_seconds.append(time.process_time() - begin[1])
        arguments = *state, arguments[2]
    return {
        "nats_per_pass": losses,
        "seconds": seconds[1:],
        "cpu_seconds": cpu_seconds[1:],
        "temporary_mebibytes": temporary_bytes(program) / MEBIBYTE,
        "peak_mebibytes": peak_mebibytes(),
        "peak_mebibytes_before": before,
    }


def main() -> None:
    """Measures what the command line names, and prints it as JSON."""
    name, length, settings = sys.argv[1:]
    config = with_settings(Config(), json.loads(settings))
    print(json.dumps(measure(name, int(length), config)))


def measured_apart(name: str, length: int, config: Config) -> dict[str, Any]:
    """The same in a new process.

    Raises:
      MemoryError: the memory does not suffice.
    """
    program = f"import {__name__}; {__name__}.main()"
    settings = json.dumps(settings_of(config))
    command = [sys.executable, "-c", program, name, str(length), settings]
    top = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=top, stdout=subprocess.PIPE)
    if done.returncode == -signal.SIGKILL:
        raise MemoryError("the system ended the process")  # as Linux does where memory is short
    done.check_returncode()
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def microseconds_per_step(entry: dict[str, Any], length: int) -> float:
    """Of the processor, in the fastest pass: others share the caches with whatever else runs."""
    seconds: float = min(entry["cpu_seconds"])
    return 1e6 * seconds / length
