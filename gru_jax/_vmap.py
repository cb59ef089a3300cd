"""`jax.vmap` of a recurrence as one more batch axis of it.

JAX maps a function operation by operation, and its rules for joining, reshaping and broadcasting
move the mapped axis to the front, where the loops do not want it: arrays are transposed on every
side of each loop. Here the recurrence is a single primitive until it is differentiated or
compiled, and the primitive's rule puts the mapped axis where a batch axis stands.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

Recurrence = Callable[..., tuple[jax.Array, jax.Array]]


def vmap_as_batch(f: Recurrence, *args: Any) -> tuple[jax.Array, jax.Array]:
    """Calls a recurrence such that `jax.vmap` gives it a batch axis.

    Where the weights are mapped, or the inputs are not, it is mapped by JAX's own rules.

    Args:
      f: `(params, constants, h0, (xs, mask, resets)) -> (h_last, states)`, with any batch axes.
      *args: its arguments.
    """
    leaves, tree = jax.tree.flatten(args)

    def flat(*leaves: Any) -> tuple[jax.Array, jax.Array]:
        return f(*jax.tree.unflatten(tree, leaves))

    weights, *_, inputs = (len(jax.tree.leaves(arg)) for arg in args)
    h_last, states = _bind(flat, leaves, weights=weights, inputs=inputs)
    return h_last, states


def _bind(f: Recurrence, leaves: Sequence[Any], **sizes: int) -> Sequence[jax.Array]:
    jaxpr = jax.make_jaxpr(f)(*leaves)
    results: Sequence[jax.Array] = _recurrence.bind(*leaves, f=f, call_jaxpr=jaxpr, **sizes)
    return results


def _run(*leaves: Any, call_jaxpr: Any, **_: Any) -> Sequence[jax.Array]:
    results: Sequence[jax.Array] = jaxpr_as_fun(call_jaxpr)(*leaves)
    return results


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, f: Recurrence, **_: Any) -> Any:
    return jax.jvp(f, tuple(primals), tuple(map(ad.instantiate_zeros, tangents)))


def _map(
    leaves: Sequence[Any],
    dims: Sequence[int | None],
    *,
    f: Recurrence,
    weights: int,
    inputs: int,
    **_: Any,
) -> tuple[Sequence[jax.Array], tuple[int, int]]:
    first = len(leaves) - inputs  # xs
    if dims[first] is None or any(dim is not None for dim in dims[:weights]):
        return jax.vmap(f, in_axes=tuple(dims), out_axes=(0, 1))(*leaves), (0, 1)
    size = leaves[first].shape[dims[first]]
    axes = [None] * weights + [0] * (len(leaves) - weights - inputs) + [1] * inputs

    def placed(x: jax.Array, dim: int | None, axis: int | None) -> jax.Array:
        if axis is None:
            return x
        if dim is not None:
            return jnp.moveaxis(x, dim, axis)
        x = jnp.expand_dims(x, axis)
        return jnp.broadcast_to(x, (*x.shape[:axis], size, *x.shape[axis + 1 :]))

    leaves = [placed(*each) for each in zip(leaves, dims, axes, strict=True)]
    return _bind(f, leaves, weights=weights, inputs=inputs), (0, 1)


class _ClosedCall(Primitive):
    """The call of a jaxpr, `call_jaxpr`: interpreters of jaxprs that inline calls inline this one.

    Those of JAX, such as `checkify`, bind a call with what they made of its jaxpr as `subfuns`.
    """

    multiple_results = True

    def to_lojax(self, *args: Any, **params: Any) -> Any:
        return _run(*args, **params)

    def bind(self, *args: Any, subfuns: Sequence[Any] = (), **params: Any) -> Any:
        if not subfuns:
            return super().bind(*args, **params)  # type: ignore[no-untyped-call]
        (interpreted,) = subfuns
        return interpreted.call_wrapped(*args)


_recurrence: Any = _ClosedCall("closed_call")
_recurrence.def_impl(_run)
_recurrence.def_abstract_eval(lambda *_, call_jaxpr, **__: call_jaxpr.out_avals)
ad.primitive_jvps[_recurrence] = _jvp
batching.primitive_batchers[_recurrence] = _map
mlir.register_lowering(_recurrence, mlir.lower_fun(_run, multiple_results=True))
