"""Training on many TPU chips, compiled, not run: what they exchange, and the memory of each.

The batch of an experiment is sharded over up to 256 chips, the units of a wide GRU over eight.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from tqdm import tqdm

import gru_jax
from experiments.benchmark import wide
from experiments.benchmark.chips import MissingCompilerError, compiler, devices
from experiments.benchmark.hlo import Collective, collectives
from experiments.benchmark.timing import Shape
from experiments.harness.layouts import Layout
from experiments.harness.records import markdown_table
from experiments.harness.settings import SettingError
from experiments.harness.updates import State, jitted
from experiments.shakespeare.config import PRESETS, Config
from experiments.shakespeare.data import Batch
from experiments.shakespeare.model import init_model, loss_of
from experiments.shakespeare.run import optimiser_of

Options = Mapping[str, str]

PODS = ("v5e:2x2", "v5e:8x8", "v5e:16x16")
"""Slices of 4, 64 and 256 chips, as XLA for TPU names them."""
EIGHT = "v5e:2x4"
WIDE = Shape(steps=128, batch=64, inputs=512, hidden=4096)
AT_ONCE = {"xla_jf_crs_combiner_threshold_in_bytes": str(2**30)}
"""Makes one sum of all gradients where they are many: XLA's own limit is a fraction of that."""
UPDATES = 10  # of one call, as `training.fit` makes them
CHARACTERS = 65  # of tiny Shakespeare


class Pod(NamedTuple):
    """A program for several chips; bytes are those of each."""

    chips: int
    unit: str
    """What is done again and again in one call: "update" or "time step"."""
    units: int
    """How often."""
    collectives: tuple[Collective, ...]
    held_bytes: int
    """Arguments and results, counted once where a result takes the place of an argument."""
    temporary_bytes: int


def measure() -> dict[str, Any]:
    """Compiles everything.

    Raises:
      SettingError: there is no compiler for TPUs.
    """
    config = PRESETS["full"]
    large = replace(config, hidden_size=WIDE.hidden)
    sums = f"Shakespeare, {large.hidden_size} units, {PODS[0]}"
    layer = f"GRU, {WIDE.hidden} units"
    programs: dict[str, Callable[[], Pod]] = {
        **{f"Shakespeare, {name}": partial(data_parallel, name, config) for name in PODS},
        sums: partial(data_parallel, PODS[0], large),
        f"{sums}, summed at once": partial(data_parallel, PODS[0], large, options=AT_ONCE),
        f"{layer}, one chip": partial(one_chip, WIDE),
        f"{layer}, {EIGHT}": partial(units_sharded, WIDE),
        f"{layer}, {EIGHT}, by XLA alone": partial(sharded_by_xla, WIDE),
    }
    results = {}
    for name in tqdm(programs, "compiling", leave=False, disable=None):
        try:
            pod = programs[name]()
        except MissingCompilerError as reason:
            raise SettingError(f"--preset pods cannot compile: {reason}") from reason
        results[name] = pod._asdict() | {"collectives": [c._asdict() for c in pod.collectives]}
    return results


def data_parallel(topology: str, config: Config, *, options: Options | None = None) -> Pod:
    """The updates of `experiments.shakespeare`, with `config.batch_size` streams on each chip.

    Args:
      topology: of the chips, over which the streams are sharded.
      config: of one chip.
      options: XLA's, as `jax.jit` takes them in `compiler_options`.
    """
    mesh = mesh_of(topology, "batch")
    place = partial(placed, mesh)
    config = replace(config, batch_size=config.batch_size * mesh.size)
    key, optimiser = jax.random.key(config.seed), optimiser_of(config)
    model = jax.eval_shape(partial(init_model, config, vocabulary_size=CHARACTERS), key)
    carry = jax.eval_shape(
        partial(gru_jax.zero_state, batch_shape=(config.batch_size,)), model.stack
    )
    keep = partial(Layout(mesh).keep, axes=State(None, None, 0, None, None))
    parts = jitted(optimiser, key, partial(loss_of, config), jnp.zeros_like, keep)
    state = place(jax.eval_shape(parts.new_state, model, carry), P())
    state = state._replace(carry=place(state.carry, P("batch")))
    size = UPDATES, config.chunk_length + 1, config.batch_size
    tokens = place(jax.ShapeDtypeStruct(size, jnp.int32), P(None, None, "batch"))
    is_first = place(jax.ShapeDtypeStruct((UPDATES,), jnp.bool), P())
    step = place(jax.ShapeDtypeStruct((), jnp.int32), P())
    program = lowered(parts.train, state, step, Batch(tokens, is_first))
    return compiled(("update", UPDATES), mesh, program, options)


def one_chip(shape: Shape) -> Pod:
    """The gradient of a GRU by `gru_unroll`."""
    mesh = Mesh(mesh_of(EIGHT, wide.UNITS).devices[:1], (wide.UNITS,))
    return wide_gradient(mesh, shape, gru_jax.gru_unroll, weights(shape))


def units_sharded(shape: Shape) -> Pod:
    """That of a GRU by `wide.unroll`."""
    mesh = mesh_of(EIGHT, wide.UNITS)
    params = jax.eval_shape(wide.per_gate, weights(shape))
    return wide_gradient(mesh, shape, partial(wide.unroll, mesh), params)


def sharded_by_xla(shape: Shape) -> Pod:
    """That of a GRU by `gru_unroll`, with sharded columns of the weights."""
    return wide_gradient(mesh_of(EIGHT, wide.UNITS), shape, gru_jax.gru_unroll, weights(shape))


def weights(shape: Shape) -> Any:
    """The shapes of a GRU's weights."""
    key, *sizes = jax.random.key(0), shape.inputs, shape.hidden
    return jax.eval_shape(lambda: gru_jax.init_gru(key, *sizes, reset="after"))


def wide_gradient(mesh: Mesh, shape: Shape, run: Callable[..., Any], params: Any) -> Pod:
    """The gradient of a loss of all states, with respect to weights and inputs."""

    def loss(params: Any, h0: jax.Array, xs: jax.Array) -> jax.Array:
        return jnp.mean(run(params, h0, xs)[1] ** 2)

    def of_units(leaf: Any) -> Any:
        return placed(mesh, leaf, P(*[None] * (leaf.ndim - 1), wide.UNITS))

    h0 = jax.ShapeDtypeStruct((shape.batch, shape.hidden), jnp.float32)
    xs = jax.ShapeDtypeStruct((shape.steps, shape.batch, shape.inputs), jnp.float32)
    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 2)))
    arguments = *jax.tree.map(of_units, (params, h0)), placed(mesh, xs, P())
    return compiled(("time step", shape.steps), mesh, lowered(gradient, *arguments))


def mesh_of(topology: str, axis: str) -> Mesh:
    """All chips of a slice along one axis."""
    with compiler("tpu"):
        chips = devices("TPU v5e", topology)
    return Mesh(np.array(chips), (axis,), axis_types=(AxisType.Auto,))


def placed(mesh: Mesh, tree: Any, spec: P) -> Any:
    """The shapes of arrays, sharded."""
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


def lowered(function: Any, *shapes: Any) -> Any:
    """A jitted function of sharded arguments, before XLA compiles it."""
    with compiler("tpu"):
        return function.trace(*shapes).lower(lowering_platforms=("tpu",))


def compiled(
    work: tuple[str, int], mesh: Mesh, program: Any, options: Options | None = None
) -> Pod:
    """What is known of a program; `work` is the unit of what it does in one call, and how often."""
    with compiler("tpu"):
        program = program.compile(compiler_options=options)
    memory = program.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    exchanged = tuple(collectives(program.as_text()))
    return Pod(mesh.size, *work, exchanged, held, memory.temp_size_in_bytes)


def markdown_pods(results: Mapping[str, Any]) -> str:
    """The page's table."""
    head = "compiled, not run", "chips", "collectives (MB)", "held MB", "temporary MB"
    rows = []
    for name, pod in results.items():
        memory = (f"{pod[each] / 1e6:,.1f}" for each in ("held_bytes", "temporary_bytes"))
        rows.append([name, str(pod["chips"]), exchanged(pod), *memory])
    return markdown_table(head, rows)


def exchanged(pod: Mapping[str, Any]) -> str:
    """What its loops exchange in each update or time step, and what it exchanges once in a call."""
    once = [each for each in pod["collectives"] if each["iterations"] == 1]
    often = [each for each in pod["collectives"] if each["iterations"] > 1]
    said = [
        f"{_total(found, count)}{when}"
        for found, count, when in ((often, pod["units"], f" per {pod['unit']}"), (once, 1, ""))
        if found
    ]
    return "; ".join(said) or "–"


def _total(found: Sequence[Mapping[str, Any]], count: int) -> str:
    """How many there are of each kind, and the bytes of all, divided by a count."""
    kinds = Counter[str]()
    for each in found:
        kinds[each["opcode"]] += each["iterations"]
    size = sum(each["iterations"] * each["bytes"] for each in found) / count
    numbers = ", ".join(f"{round(number / count, 1):g} {kind}" for kind, number in kinds.items())
    return f"{numbers} ({size / 1e6:.2f})"
