"""`jax.vmap` of a recurrence as one more batch axis of it.

JAX maps a function operation by operation, and its rules for concatenating, reshaping and
broadcasting move the mapped axis to the front, so that arrays are transposed before and after each
loop over time. Here the recurrence is a single primitive until it is differentiated or
compiled, and the primitive's batching rule turns the mapped axis into a batch axis.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

Flat = Callable[..., Sequence[jax.Array]]
"""A recurrence on flat arguments, with flat results."""


def vmap_as_batch(
    f: Callable[..., tuple[Any, Any]], params: Any, constants: Any, h0: Any, inputs: Any
) -> tuple[Any, Any]:
    """Calls a recurrence such that `jax.vmap` gives it a batch axis.

    Where the weights are mapped, or the inputs are not, JAX's own rules apply.

    Args:
      f: `(params, constants, h0, inputs) -> (h_last, states)`, with any batch axes.
      params: a pytree without batch axes.
      constants: a pytree of arrays `[..., features]`.
      h0: a pytree of arrays `[..., features]`, as h_last is.
      inputs: a pytree of arrays `[T, ..., features]`, as the states are.
    """
    args = params, constants, h0, inputs
    leaves, tree = jax.tree.flatten(args)
    out = jax.tree.structure((h0, h0))

    def flat(*leaves: Any) -> list[jax.Array]:
        return jax.tree.leaves(f(*jax.tree.unflatten(tree, leaves)))

    sizes = _Sizes(*(len(jax.tree.leaves(arg)) for arg in (params, (constants, h0), inputs)))
    h_last, states = jax.tree.unflatten(out, _bind(flat, leaves, sizes))
    return h_last, states


class _Sizes(NamedTuple):
    """How many arrays each argument consists of."""

    params: int
    states: int
    inputs: int


def _bind(f: Flat, leaves: Sequence[Any], sizes: _Sizes) -> Sequence[jax.Array]:
    jaxpr = jax.make_jaxpr(f)(*leaves)
    results: Sequence[jax.Array] = _recurrence.bind(*leaves, f=f, call_jaxpr=jaxpr, sizes=sizes)
    return results


def _run(*leaves: Any, call_jaxpr: Any, **_: Any) -> Sequence[jax.Array]:
    results: Sequence[jax.Array] = jaxpr_as_fun(call_jaxpr)(*leaves)
    return results


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, f: Flat, **_: Any) -> Any:
    return jax.jvp(f, tuple(primals), tuple(map(ad.instantiate_zeros, tangents)))


def _map(
    leaves: Sequence[Any],
    dims: Sequence[int | None],
    *,
    f: Flat,
    call_jaxpr: Any,
    sizes: _Sizes,
) -> tuple[Sequence[jax.Array], tuple[int, ...]]:
    outs = len(call_jaxpr.out_avals) // 2
    out_dims = (0,) * outs + (1,) * outs
    xs = sizes.params + sizes.states
    if dims[xs] is None or any(dim is not None for dim in dims[: sizes.params]):
        return jax.vmap(f, in_axes=tuple(dims), out_axes=list(out_dims))(*leaves), out_dims
    size = leaves[xs].shape[dims[xs]]
    axes = [None] * sizes.params + [0] * sizes.states + [1] * sizes.inputs

    def placed(x: jax.Array, dim: int | None, axis: int | None) -> jax.Array:
        if axis is None:
            return x
        if dim is not None:
            return jnp.moveaxis(x, dim, axis)
        x = jnp.expand_dims(x, axis)
        return jnp.broadcast_to(x, (*x.shape[:axis], size, *x.shape[axis + 1 :]))

    leaves = [placed(*each) for each in zip(leaves, dims, axes, strict=True)]
    return _bind(f, leaves, sizes), out_dims


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
