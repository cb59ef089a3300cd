"""A recurrence as one primitive, with its rules for differentiation, transposition and batching.

JAX maps and transposes a function operation by operation. Its rules for concatenating, reshaping
and broadcasting move a mapped axis to the front, so that arrays are transposed before and after
each loop over time, and products with mapped weights are batches of small ones. Here a recurrence,
its derivative and the transpose of that are each a single primitive until they are compiled: a
mapped axis becomes a batch axis, and models run as the platform runs them best.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from jax.extend.core import Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from .batching import mapped_call
from .flat import Flat, Kind, merged, some


def as_primitive(
    f: Callable[..., Any],
    static: tuple[Any, ...],
    args: tuple[Any, ...],
    kinds: Sequence[Kind],
    out_kinds: Sequence[Kind],
    *,
    compiled: Callable[..., Any] | None = None,
    transposed: Callable[..., Any] | None = None,
) -> Any:
    """Calls `f(*static, *args)` as one primitive.

    Args:
      f: a function of the module level, linear in those of its arguments that are transposed.
      static: hashable arguments.
      args: pytrees of arrays.
      kinds: of the arrays of each argument.
      out_kinds: of those of each result, of which f returns a tuple or list.
      compiled: see `Flat`.
      transposed: see `Flat`.
    """
    leaves, tree = jax.tree.flatten(args)
    flat = Flat(f, static, tree, compiled, transposed)
    results = _traced.trace(flat.as_compiled(), *leaves).out_info
    flat_results = _bind(flat, leaves, _of_each(kinds, args), _of_each(out_kinds, results))
    return jax.tree.unflatten(jax.tree.structure(results), flat_results)


def _of_each(kinds: Sequence[Kind], trees: Sequence[Any]) -> list[Kind]:
    return [kind for kind, tree in zip(kinds, trees, strict=True) for _ in jax.tree.leaves(tree)]


def _bind(
    flat: Flat, leaves: Sequence[Any], kinds: Sequence[Kind], out_kinds: Sequence[Kind]
) -> Sequence[Any]:
    jaxpr = _traced.trace(flat.as_compiled(), *leaves).jaxpr
    kinds, out_kinds = tuple(kinds), tuple(out_kinds)
    results: Sequence[Any] = _recurrence.bind(
        *leaves, flat=flat, call_jaxpr=jaxpr, kinds=kinds, out_kinds=out_kinds
    )
    return results


@partial(jax.jit, static_argnums=0)
def _traced(flat: Flat, *leaves: Any) -> Any:
    return flat(*leaves)


def _run(*leaves: Any, call_jaxpr: Any, **_: Any) -> Sequence[jax.Array]:
    results: Sequence[jax.Array] = jaxpr_as_fun(call_jaxpr)(*leaves)
    return results


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, flat: Flat, **_: Any) -> Any:
    varied = [not isinstance(tangent, ad.Zero) for tangent in tangents]
    f = flat.of(primals, varied)
    return jax.jvp(f, tuple(some(primals, varied)), tuple(some(tangents, varied)))


def _transpose(
    cotangents: Sequence[Any],
    *leaves: Any,
    flat: Flat,
    kinds: Sequence[Kind],
    out_kinds: Sequence[Kind],
    **_: Any,
) -> Sequence[Any]:
    linear = tuple(map(ad.is_undefined_primal, leaves))
    only_linear = all(kind.linear for kind in some(kinds, linear))
    known = [not each for each in linear]
    avals = tuple(leaf.aval for leaf in some(leaves, linear))
    nonzero = tuple(not isinstance(cotangent, ad.Zero) for cotangent in cotangents)
    results = as_primitive(
        _transposed,
        (flat, linear, avals, nonzero),
        (*some(leaves, known), *some(cotangents, nonzero)),
        (*some(kinds, known), *some(out_kinds, nonzero)),
        some(kinds, linear),
        compiled=_by_kernel if flat.transposed and only_linear else None,
    )
    return merged([None] * len(leaves), linear, results)


def _transposed(
    flat: Flat, linear: Sequence[bool], avals: Any, nonzero: Sequence[bool], *leaves: Any
) -> list[Any]:
    """The transpose, of the other arguments and the cotangents that are not zero."""
    count = len(linear) - sum(linear)
    known, cotangents = leaves[:count], list(leaves[count:])
    f = flat.of(merged([None] * len(linear), [not each for each in linear], known), linear)
    return list(jax.linear_transpose(lambda *values: some(f(*values), nonzero), *avals)(cotangents))


def _by_kernel(
    flat: Flat, linear: Sequence[bool], avals: Any, nonzero: Sequence[bool], *leaves: Any
) -> list[Any]:
    """As `_transposed`, by the kernel for it."""
    count = len(linear) - sum(linear)
    shapes = merged([None] * len(linear), linear, avals)
    args = merged(shapes, [not each for each in linear], leaves[:count])
    cotangents = merged([None] * len(nonzero), nonzero, leaves[count:])
    results = jax.tree.leaves(flat.transpose(args, cotangents))
    return some(results, linear[len(linear) - len(results) :])


def _map(
    leaves: Sequence[Any], dims: Sequence[int | None], *, call_jaxpr: Any, **call: Any
) -> tuple[Sequence[Any], Sequence[int]]:
    return mapped_call(_bind, arguments=(leaves, dims), **call)


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
_recurrence.def_effectful_abstract_eval(  # a kernel in its simulator may have effects
    lambda *_, call_jaxpr, **__: (call_jaxpr.out_avals, call_jaxpr.effects)
)
ad.primitive_jvps[_recurrence] = _jvp
ad.primitive_transposes[_recurrence] = _transpose
batching.primitive_batchers[_recurrence] = _map
mlir.register_lowering(_recurrence, mlir.lower_fun(_run, multiple_results=True))
