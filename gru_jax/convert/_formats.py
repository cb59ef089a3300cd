"""The table of formats: one row per framework, which converters, tests and `README.md` follow."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..cells.gru import GRUParams, Reset
from ..stack.params import Bidirectional, GRUStack


class Format(NamedTuple):
    """What the GRU of one framework can represent.

    Attributes:
      name: of the module and of its functions `from_<name>` and `to_<name>`.
      framework: the title of its section in `README.md`.
      package: the import path of the framework, None if there is none.
      cell: the framework's GRU, as error messages name it.
      networks: the classes that `to_<name>` accepts.
      resets: the positions of the reset gate.
      negates_z: whether the update gate is 1 − z: h' = (1 − z) ∘ n + z ∘ h.
      biases: the fields of `GRUParams` that it can store; other biases must be zero or None.
      without_bias: whether `to_<name>` writes no biases where `GRUParams` has none. Otherwise
        missing biases become zeros.
      summed: the resets with which it stores two biases per gate of which only the sum matters.
      reset_options: the keyword arguments that tell `from_<name>` the position of the reset gate,
        by position; empty if the weights tell.
    """

    name: str
    framework: str
    package: str | None
    cell: str
    networks: tuple[type, ...]
    resets: tuple[Reset, ...]
    negates_z: bool
    biases: tuple[str, ...]
    without_bias: bool
    summed: tuple[Reset, ...] = ()
    reset_options: Mapping[Reset, Mapping[str, Any]] = {}


FORMATS = {
    row.name: row
    for row in (
        Format(
            name="torch",
            framework="PyTorch",
            package="torch",
            cell="torch.nn.GRU",
            networks=(GRUParams, GRUStack),
            resets=("after",),
            negates_z=True,
            biases=("b", "b_hn"),
            without_bias=True,
            summed=("after",),
        ),
        Format(
            name="keras",
            framework="Keras",
            package="keras",
            cell="keras.layers.GRU",
            networks=(GRUParams, Bidirectional),
            resets=("before", "after"),
            negates_z=True,
            biases=("b", "b_hn"),
            without_bias=True,
            summed=("after",),
            reset_options={"before": {"reset_after": False}, "after": {"reset_after": True}},
        ),
        Format(
            name="linen",
            framework="Flax linen",
            package="flax.linen",
            cell="flax.linen.GRUCell",
            networks=(GRUParams,),
            resets=("after",),
            negates_z=True,
            biases=("b", "b_hn"),
            without_bias=False,
        ),
        Format(
            name="nnx",
            framework="Flax nnx",
            package="flax.nnx",
            cell="flax.nnx.GRUCell",
            networks=(GRUParams,),
            resets=("after",),
            negates_z=True,
            biases=("b",),
            without_bias=False,
        ),
        Format(
            name="haiku",
            framework="Haiku",
            package="haiku",
            cell="haiku.GRU",
            networks=(GRUParams,),
            resets=("before",),
            negates_z=False,
            biases=("b",),
            without_bias=False,
        ),
        Format(
            name="equinox",
            framework="Equinox",
            package="equinox",
            cell="equinox.nn.GRUCell",
            networks=(GRUParams,),
            resets=("after",),
            negates_z=True,
            biases=("b", "b_hn"),
            without_bias=True,
        ),
        Format(
            name="onnx",
            framework="ONNX",
            package="onnx",
            cell="the ONNX operator GRU",
            networks=(GRUParams, Bidirectional, GRUStack),
            resets=("before", "after"),
            negates_z=True,
            biases=("b", "b_hn"),
            without_bias=False,
            summed=("before", "after"),
            reset_options={
                "before": {"linear_before_reset": 0},
                "after": {"linear_before_reset": 1},
            },
        ),
        Format(
            name="textbook",
            framework="The textbook",
            package=None,
            cell="the textbook's GRU",
            networks=(GRUParams,),
            resets=("before",),
            negates_z=False,
            biases=(),
            without_bias=True,
        ),
    )
}
