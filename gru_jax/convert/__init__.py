"""Weights from and to other frameworks: mappings of arrays, whole models, and files.

`from_X` reads the weights of framework X, `to_X` writes them. Both account for every entry and
raise `ValueError` for what the other side cannot represent. float16, bfloat16, float32 and float64
are kept, other dtypes are refused, and results share no memory with arguments. No framework is
imported except `onnx` for models and `h5py` for files of Keras. `README.md` shows how to load each
format, what each can represent, and how to add one.
"""

from .equinox import from_equinox, to_equinox
from .haiku import from_haiku, to_haiku
from .keras import from_keras, to_keras
from .linen import from_linen, to_linen
from .nnx import from_nnx, to_nnx
from .onnx import from_onnx, to_onnx
from .textbook import from_textbook, to_textbook
from .torch import from_torch, to_torch

__all__ = (
    "from_equinox",
    "from_haiku",
    "from_keras",
    "from_linen",
    "from_nnx",
    "from_onnx",
    "from_textbook",
    "from_torch",
    "to_equinox",
    "to_haiku",
    "to_keras",
    "to_linen",
    "to_nnx",
    "to_onnx",
    "to_textbook",
    "to_torch",
)
