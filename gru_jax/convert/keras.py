"""Keras: the weights of `keras.layers.GRU`, alone or within a `Bidirectional`."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from .._params import GRUParams, Reset
from .._stack_params import Bidirectional
from ._entries import biases, hidden_size, negated_z, read, require, reset_of


def from_keras(
    weights: Mapping[str, Any], *, reset_after: bool = True
) -> GRUParams | Bidirectional:
    """Takes `{w.name: w for w in layer.cell.weights}` of a `keras.layers.GRU`.

    Keras writes h' = z ∘ h + (1 − z) ∘ n: z is negated; the order of the gates is ours. Of the
    two biases that reset_after=True has, those of z and r only ever add up, and are added here;
    back in Keras the sum stands in the first. Everything else is lossless.

    Args:
      weights: {"kernel": `[I, 3H]`, "recurrent_kernel": `[H, 3H]`, "bias": `[2, 3H]`, or `[3H]`
        with reset_after=False, or absent with use_bias=False}; or {"forward": such a mapping,
        "backward": another} for a `Bidirectional`.
      reset_after: as given to the layer; True is Keras' default.

    Returns:
      A `GRUParams`, or a `Bidirectional` of two.

    Raises:
      ValueError: an entry missing, unknown or of the wrong shape.

    >>> import numpy as np
    >>> from gru_jax import convert
    >>> shapes = {"kernel": (3, 15), "recurrent_kernel": (5, 15), "bias": (2, 15)}
    >>> convert.from_keras({name: np.ones(shape) for name, shape in shapes.items()}).hidden_size
    5
    """
    if "forward" in weights or "backward" in weights:
        if set(weights) != {"forward", "backward"}:
            raise ValueError(
                f"keras.layers.Bidirectional has {sorted(weights)}, but must have "
                "['backward', 'forward']."
            )
        return Bidirectional(
            from_keras(weights["forward"], reset_after=reset_after),
            from_keras(weights["backward"], reset_after=reset_after),
        )
    what = f"keras.layers.GRU with reset_after={reset_after}"
    names = ["kernel", "recurrent_kernel", "bias"]
    if weights.get("bias") is None:
        names = names[:2]
    w_x, w_h, *b = read(what, weights, names)
    hidden = hidden_size(what, "recurrent_kernel", w_h, axis=1)
    require(what, "kernel", w_x, (*w_x.shape[:1], 3 * hidden), "(I, 3H)")
    bias = b_hn = None
    if b and reset_after:
        require(what, "bias", b[0], (2, 3 * hidden), "(2, 3H)")
        inner = b[0][1].at[2 * hidden :].set(0)
        bias, b_hn = negated_z(b[0][0] + inner), b[0][1, 2 * hidden :]
    elif b:
        require(what, "bias", b[0], (3 * hidden,), "(3H,)")
        bias = negated_z(b[0])
    reset: Reset = "after" if reset_after else "before"
    return GRUParams(negated_z(w_x), negated_z(w_h), bias, b_hn, reset)


def to_keras(params: GRUParams | Bidirectional) -> dict[str, Any]:
    """The inverse of `from_keras`; without biases the result has none.

    `layer.set_weights([np.asarray(w) for w in to_keras(params).values()])` puts the result into a
    built layer with the same reset; of a `Bidirectional`, into layer.forward_layer and
    layer.backward_layer.

    Raises:
      ValueError: something other than a `GRUParams` or a `Bidirectional`.
    """
    if isinstance(params, Bidirectional):
        return {"forward": to_keras(params.forward), "backward": to_keras(params.backward)}
    reset_of("keras.layers.GRU", params, None)
    weights: dict[str, jax.Array] = {
        "kernel": negated_z(params.w_x),
        "recurrent_kernel": negated_z(params.w_h),
    }
    both = biases(params)
    if both is not None and params.reset == "before":
        weights["bias"] = negated_z(both[0])
    elif both is not None:
        inner = jnp.zeros_like(both[0]).at[2 * params.hidden_size :].set(both[1])
        weights["bias"] = jnp.stack([negated_z(both[0]), inner])
    return weights
