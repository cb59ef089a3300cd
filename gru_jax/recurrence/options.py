"""The options of a fast path: static ones, and arrays that are the same at all steps."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from .._checks import check_bool, check_option, check_rate
from .._scan import check_unroll

Save = Literal["gates", "states", "chunks"]
SAVES: tuple[Save, ...] = ("gates", "states", "chunks")
Program = Literal["scan", "pallas"]


@dataclass(frozen=True)
class Options:
    """The static options, one static argument of every function in this package.

    Attributes:
      save: the residuals stored for the backward pass: "gates", "states" or "chunks", as
        described in `gru_unroll`; None where the values alone are computed.
      reverse: run from the last step to the first.
      unroll: the number of steps per iteration of the compiled loop.
      zoneout: in [0, 1); the share of its old value that every unit keeps in each step.
      implementation: "scan", "pallas" or None, as described in `gru_unroll`.
      models: how many models, or tangents of one, `jax.vmap` runs at once.
    """

    save: Save | None = "gates"
    reverse: bool = False
    unroll: int = 1
    zoneout: float = 0.0
    implementation: Program | None = None
    models: int = 1

    def checked(self, length: Any) -> "Options":
        """The options with canonical types.

        Args:
          length: T, an integer or a dimension variable of `jax.export`.

        Raises:
          ValueError: an option of the wrong kind or out of its range, or one that needs a known T.
        """
        check_option("save", self.save, SAVES)
        check_implementation(self.implementation)
        check_bool("reverse", self.reverse)
        if self.save == "chunks" and not isinstance(length, int):
            raise ValueError(
                f'save is "chunks", but T = {length} is a dimension variable: use save="states".'
            )
        unroll, zoneout = check_unroll(self.unroll, length), check_rate("zoneout", self.zoneout)
        return Options(self.save, bool(self.reverse), unroll, zoneout, self.implementation)


def check_implementation(implementation: Any) -> None:
    """Raises `ValueError` for what is neither None nor the name of an implementation."""
    if implementation is not None:
        check_option("implementation", implementation, get_args(Program))


class Constants(NamedTuple):
    """Arrays that are the same at all steps, besides the weights; each may be None."""

    scale: Any  # [..., H], multiplies the state where it enters the products
    reset_state: Any  # like the state, replaces it at a reset
