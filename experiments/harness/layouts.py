"""Data parallelism: how arrays lie on the devices of a run, which `devices.begin` finds.

The batch is spread over them, and parameters are replicated. `jax.jit` partitions the program that
is written for one device, and adds the gradients up over the devices.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


@dataclass(frozen=True)
class Layout:
    """How the arrays of an update lie on the devices.

    Attributes:
      mesh: as `begin` returns it; None leaves everything as it is, on one device.
      batch: the axis of the batch in each array of it, as `in_axes` of `jax.vmap`; an array whose
        axis is None is replicated.
      carry: likewise of what goes from step to step, the axis of the seeds included.
    """

    mesh: Mesh | None = None
    batch: Any = 0
    carry: Any = 0

    def put(self, tree: Any, axes: Any) -> Any:
        """Arrays on the devices.

        Args:
          tree: of arrays, the same in every process.
          axes: those to spread, a prefix of the tree.
        """
        return self._with(_put, tree, axes)

    def put_own(self, batches: Any) -> Any:
        """Batches on the devices, stacked along a first axis; each process gives its own rows."""
        put = jax.make_array_from_process_local_data
        return self._with(lambda rows, sharding: put(sharding, rows), batches, self.batch, ahead=1)

    def keep(self, tree: Any, axes: Any) -> Any:
        """Within `jax.jit`, the tree as `put` lays it out."""
        return self._with(jax.lax.with_sharding_constraint, tree, axes)

    def _with(self, place: Callable[..., Any], tree: Any, axes: Any, ahead: int = 0) -> Any:
        if self.mesh is None:
            return tree
        mesh = self.mesh

        def place_leaf(axis: int | None, leaf: Any) -> Any:
            spec: list[str | None] = [None] * np.ndim(leaf)
            if axis is not None:
                spec[axis + ahead if axis >= 0 else axis] = "batch"
            return place(leaf, NamedSharding(mesh, P(*spec)))

        def place_part(axis: int | None, part: Any) -> Any:
            return jax.tree.map(partial(place_leaf, axis), part)

        return jax.tree.map(place_part, axes, tree, is_leaf=lambda axis: axis is None)

    def whole(self, tree: Any) -> Any:
        """Spread arrays as this process has all of them, on its first device."""
        if self.mesh is None:
            return tree
        return self.local(jax.device_put(tree, NamedSharding(self.mesh, P())))

    def local(self, tree: Any) -> Any:
        """Replicated arrays as this process has them on its first device."""
        if self.mesh is None:
            return tree
        return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)

    def agreed(self, value: jax.Array) -> Any:
        """A number that decides how the run goes on: the first process's."""
        return value if self.mesh is None else multihost_utils.broadcast_one_to_all(value)


ONE_DEVICE = Layout()


def _put(array: Any, sharding: NamedSharding) -> jax.Array:
    whole = np.asarray(array)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])
