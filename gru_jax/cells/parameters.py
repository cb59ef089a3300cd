"""What the parameter classes of all cells share."""

from typing import Any, TypeVar

import jax
from jax.tree_util import GetAttrKey

Cls = TypeVar("Cls", bound=type[Any])


class Sizes:
    """The sizes of a cell with matrices w_x `[I, ...]` and w_h `[H, ...]`."""

    w_x: jax.Array
    w_h: jax.Array

    @property
    def input_size(self) -> int:
        """I, the number of features of one input."""
        return self.w_x.shape[-2]

    @property
    def hidden_size(self) -> int:
        """H, the number of features of the state."""
        return self.w_h.shape[-2]


def register(cls: type[Any], static: str, option: str, optional: tuple[str, ...]) -> None:
    """Registers a dataclass whose last arrays belong to one option of its static field only.

    Without that option, and where they are None, they are no children: a checkpoint of the one
    option, by the names of its leaves, does not fit the other.

    Args:
      cls: a dataclass with one static field, the last.
      static: the name of the static field.
      option: the value of it with which the optional arrays are children.
      optional: the names of those arrays.
    """
    names = tuple(name for name in cls.__dataclass_fields__ if name != static)
    always = tuple(name for name in names if name not in optional)

    def children(params: Any) -> tuple[list[tuple[GetAttrKey, Any]], Any]:
        value = getattr(params, static)
        given = any(getattr(params, name) is not None for name in optional)
        present = names if value == option or given else always
        return [(GetAttrKey(name), getattr(params, name)) for name in present], value

    def build(value: Any, children: Any) -> Any:
        # not by the constructor, whose arguments may be checked: a child may be any object
        params = object.__new__(cls)
        given = dict(zip(names, children, strict=False))
        params.__dict__.update(dict.fromkeys(names) | given | {static: value})
        return params

    jax.tree_util.register_pytree_with_keys(cls, children, build)
