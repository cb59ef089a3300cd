"""Weights from and to other frameworks: mappings of arrays, whole models, and files.

`from_X` reads the weights of framework X, `to_X` writes them. Both account for every entry and
raise `ValueError` for what the other side cannot represent. float16, bfloat16, float32 and float64
are kept, other dtypes are refused, and results share no memory with arguments. No framework is
imported except `onnx` for models and `h5py` for files of Keras. `README.md` shows how to load each
format, what each can represent, and how to add one.
"""

from .equinox import from_equinox as from_equinox
from .equinox import to_equinox as to_equinox
from .haiku import from_haiku as from_haiku
from .haiku import to_haiku as to_haiku
from .keras import from_keras as from_keras
from .keras import to_keras as to_keras
from .linen import from_linen as from_linen
from .linen import to_linen as to_linen
from .nnx import from_nnx as from_nnx
from .nnx import to_nnx as to_nnx
from .onnx import from_onnx as from_onnx
from .onnx import to_onnx as to_onnx
from .textbook import from_textbook as from_textbook
from .textbook import to_textbook as to_textbook
from .torch import from_torch as from_torch
from .torch import to_torch as to_torch
