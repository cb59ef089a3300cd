"""Conversion of arrays of any framework to new JAX arrays."""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

_DTYPES = [jnp.dtype(name) for name in ("float16", "bfloat16", "float32", "float64")]


def to_array(name: str, value: Any) -> jax.Array:
    """A copy of a floating NumPy, JAX or PyTorch array, or of a Flax or Keras variable.

    A tracer stays one. float64 becomes float32 unless `jax_enable_x64` is set.

    Raises:
      ValueError: not an array, or a dtype other than float16, bfloat16, float32 and float64.
    """
    value = unboxed(value)
    if not isinstance(value, jax.Array):
        value = _to_numpy(name, value)
    if value.dtype not in _DTYPES:
        raise ValueError(
            f"{name} is {value.dtype}, but must be float16, bfloat16, float32 or float64: "
            "dequantise quantised weights, and cast others before they are converted."
        )
    try:
        # a float64 beyond the range of float32 becomes inf, as in other casts of JAX
        with np.errstate(over="ignore"):
            return jnp.array(value, copy=True)
    except RuntimeError as error:  # a JAX array that was deleted or donated
        raise ValueError(f"{name} cannot be read, but must be an array with values.") from error


def unboxed(value: Any) -> Any:
    """The value of a Flax box (`nn.Partitioned`, `nnx.Param`, ...) or a Keras variable."""
    while not isinstance(value, (jax.Array, np.ndarray)):
        if callable(getattr(value, "unbox", None)):  # flax.core.meta.AxisMetadata
            value = value.unbox()
        elif callable(getattr(value, "get_value", None)):  # flax.nnx.Variable
            value = value.get_value()
        elif hasattr(value, "path") and hasattr(value, "value"):  # keras.Variable
            value = value.value
        else:
            break
    return value


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of an array, () for any other object."""
    try:
        return tuple(unboxed(value).shape)
    except (AttributeError, TypeError):
        return ()


def _to_numpy(name: str, value: Any) -> npt.NDArray[Any]:
    torch = sys.modules.get("torch")  # imported if the value is a tensor
    try:
        if torch is not None and isinstance(value, torch.Tensor):
            return _from_torch(value, torch)
        array = np.asarray(value)
    except Exception as error:  # frameworks raise errors of any class for unreadable values
        raise ValueError(
            f"{name} is a {_described(value)} that cannot be read, but must be an array: "
            "of values in memory, dequantised, dense, and with rows of one length."
        ) from error
    if array.dtype.kind in "OSUM":
        raise ValueError(f"{name} is a {_described(value)}, but must be a floating array.")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _from_torch(tensor: Any, torch: Any) -> npt.NDArray[Any]:
    tensor = tensor.detach().cpu()
    if tensor.dtype is torch.bfloat16:  # .numpy() raises, because NumPy has no bfloat16
        bits: npt.NDArray[Any] = tensor.contiguous().view(torch.int16).numpy()
        return bits.view(jnp.bfloat16)
    array: npt.NDArray[Any] = tensor.numpy()
    return array


def _described(value: Any) -> str:
    """The class of an object, with its dtype and device if it has them."""
    parts = [str(getattr(value, name, "")) for name in ("dtype", "device")]
    return " ".join([type(value).__name__, *filter(None, parts)])
