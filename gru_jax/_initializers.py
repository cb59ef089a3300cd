"""How parameters are drawn: presets, gate by gate, in a dtype."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
from jax.nn import initializers as jinit
from jax.typing import DTypeLike

from ._checks import as_array, check_floating, check_key, check_shape, check_size
from ._ops import at_least_float32

Initializer = Callable[..., jax.Array]
"""A function `(key, shape, dtype) -> array`, as made by `jax.nn.initializers`."""

Preset = Literal["linen", "torch", "haiku", "keras"]


class Initializers(NamedTuple):
    """What a preset draws each array with, given that array's whole shape."""

    w_x: Initializer
    w_h: Initializer
    b: Initializer = jinit.zeros
    b_hn: Initializer = jinit.zeros


def per_gate(initializer: Initializer, gates: int = 3, name: str = "initializer") -> Initializer:
    """Draws the gate blocks of a `[rows, gates · H]` matrix independently, each as `[rows, H]`."""

    def init(key: jax.Array, shape: Sequence[int], dtype: Any) -> jax.Array:
        rows, columns = shape
        size = rows, columns // gates
        keys = jax.random.split(key, gates)
        return jnp.concatenate([draw(initializer, k, size, dtype, name) for k in keys], axis=1)

    return init


def orthogonal(key: jax.Array, shape: Sequence[int], dtype: Any) -> jax.Array:
    """As `jax.nn.initializers.orthogonal`; mapped, one matrix after the other.

    XLA on CPU (JAX 0.10.2) hangs where it factorises two batches of matrices at a time: each waits
    for threads that the other holds.
    """

    @jax.custom_batching.sequential_vmap  # type: ignore[untyped-decorator]
    def one(key: jax.Array) -> jax.Array:
        return jinit.orthogonal()(key, shape, dtype)

    result: jax.Array = one(key)
    return result


def _torch_uniform(hidden: Callable[[Sequence[int]], int]) -> Initializer:
    """U(-1/√H, 1/√H), the distribution of every array of `torch.nn.GRU`."""

    def init(key: jax.Array, shape: Sequence[int], dtype: Any) -> jax.Array:
        bound = 1 / math.sqrt(hidden(shape))
        return jax.random.uniform(key, tuple(shape), dtype, -bound, bound)

    return init


_torch_matrix = _torch_uniform(lambda shape: shape[-1] // 3)
_torch_vector = _torch_uniform(lambda shape: shape[-1])


def _torch_bias(key: jax.Array, shape: Sequence[int], dtype: Any) -> jax.Array:
    """The sum b_ih + b_hh for z and r, b_in alone for n (its b_hn stays apart)."""
    size = shape[0] // 3
    z1, z2, r1, r2, n = (_torch_vector(k, (size,), dtype) for k in jax.random.split(key, 5))
    return jnp.concatenate([z1 + z2, r1 + r2, n])


# Each reproduces the named library's defaults exactly in distribution. Keras draws its stacked
# matrices as wholes, so its fan-out is 3H and its recurrent rows, not gates, are orthonormal.
PRESETS: dict[str, Initializers] = {
    # flax.linen.GRUCell
    "linen": Initializers(per_gate(jinit.lecun_normal()), per_gate(orthogonal)),
    # torch.nn.GRU.reset_parameters
    "torch": Initializers(_torch_matrix, _torch_matrix, _torch_bias, _torch_vector),
    # haiku.GRU: VarianceScaling() = lecun_normal, for both
    "haiku": Initializers(jinit.lecun_normal(), per_gate(jinit.lecun_normal())),
    # keras.layers.GRU
    "keras": Initializers(jinit.glorot_uniform(), orthogonal),
}


def draw_matrices(
    key: jax.Array,
    input_size: SupportsIndex,
    hidden_size: SupportsIndex,
    gates: int,
    dtype: DTypeLike,
) -> tuple[jax.Array, jax.Array]:
    """Flax's initialisation: input weights lecun normal, recurrent weights orthogonal per gate."""
    key = check_key("key", key)
    input_size = check_size("input_size", input_size)
    hidden_size = check_size("hidden_size", hidden_size)
    check_floating("dtype", dtype)
    w_x_key, w_h_key = jax.random.split(key)
    shapes = (input_size, gates * hidden_size), (hidden_size, gates * hidden_size)
    w_x = draw(per_gate(jinit.lecun_normal(), gates), w_x_key, shapes[0], dtype)
    return w_x, draw(per_gate(orthogonal, gates), w_h_key, shapes[1], dtype)


def draw(
    init: Initializer,
    key: jax.Array,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    name: str = "initializer",
) -> jax.Array:
    """Draws an array in float32 or wider, then rounds it: there is no bfloat16 QR factorisation.

    The result is a copy: an initialiser may return an array that its caller keeps.
    """
    array = as_array(f"the result of {name}", init(key, shape, at_least_float32(dtype)))
    check_shape(f"the result of {name}", array, shape, "the shape it was called with")
    return jnp.array(array, dtype, copy=True)
