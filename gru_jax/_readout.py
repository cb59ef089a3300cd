"""From states to outputs: the linear head, and sequences generated one step at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import initializers as jinit
from jax.typing import ArrayLike, DTypeLike

from ._cell import biased, gru_step, product
from ._checks import as_array, check_floating, check_shape, check_size
from ._params import GRUParams, Initializer, draw

_LECUN_NORMAL = jinit.lecun_normal()


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ReadoutParams:
    """The weights of a linear head from H features to O outputs, a pytree.

    Attributes:
      w: weights `[H, O]`.
      b: bias `[O]`, or None.
    """

    w: jax.Array  # [H, O]
    b: jax.Array | None = None  # [O]


def init_readout(
    key: jax.Array,
    hidden_size: int,
    output_size: int,
    *,
    bias: bool = True,
    dtype: DTypeLike = jnp.float32,
    w_init: Initializer = _LECUN_NORMAL,
    b_init: Initializer = jinit.zeros,
) -> ReadoutParams:
    """Draws the parameters of a linear head.

    Args:
      key: the key is consumed.
      hidden_size: H.
      output_size: O.
      bias: False leaves `b` None.
      dtype: a floating dtype.
      w_init: called with shape `[H, O]`; lecun normal by default.
      b_init: called with shape `[O]`.

    Returns:
      A `ReadoutParams`.

    Raises:
      ValueError: a size below 1, or a `dtype` not floating.

    >>> import jax, gru_jax
    >>> params = gru_jax.init_readout(jax.random.key(0), 5, 2)
    >>> params.w.shape, params.b.shape
    ((5, 2), (2,))
    """
    check_size("hidden_size", hidden_size)
    check_size("output_size", output_size)
    check_floating("dtype", dtype)
    w_key, b_key = jax.random.split(key)
    return ReadoutParams(
        w=draw(w_init, w_key, (hidden_size, output_size), dtype),
        b=draw(b_init, b_key, (output_size,), dtype) if bias else None,
    )


def readout(params: ReadoutParams, h: ArrayLike) -> jax.Array:
    """The linear head h W + b.

    Args:
      params: the weights.
      h: states `[..., H]`.

    Returns:
      Outputs `[..., O]` in h's dtype; the product is taken in the parameters' dtype.

    Raises:
      ValueError: an argument of the wrong shape.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_readout(jax.random.key(0), 5, 2)
    >>> gru_jax.readout(params, jnp.ones((7, 5))).shape
    (7, 2)
    """
    h = as_array("h", h)
    params = jax.tree.map(partial(as_array, "params"), params)
    if params.w.ndim != 2:
        raise ValueError(f"params.w has shape {params.w.shape}, but must have (H, O).")
    hidden_size, output_size = params.w.shape
    if params.b is not None:
        check_shape("params.b", params.b, (output_size,), "(O,)")
    if h.shape[-1:] != (hidden_size,):
        raise ValueError(f"h has shape {h.shape}, but must have (..., H) with H = {hidden_size}.")
    return biased(product(h, params.w, h.dtype), params.b)


def generate_step(
    params: GRUParams,
    readout_params: ReadoutParams,
    h: ArrayLike,
    x: ArrayLike,
    *,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.sigmoid,
) -> tuple[jax.Array, jax.Array]:
    """One step of a generating GRU: the next state, then y = σ(W_y h').

    Args:
      params: the GRU's weights.
      readout_params: the head's weights.
      h: the state `[..., H]`.
      x: the input `[..., I]`.
      activation: σ; pass `lambda y: y` for logits.

    Returns:
      `(h', y)`: the next state `[..., H]` and the output `[..., O]`.

    Raises:
      ValueError: an argument of the wrong shape or dtype.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> params = gru_jax.init_gru(jax.random.key(0), 3, 5)
    >>> readout_params = gru_jax.init_readout(jax.random.key(1), 5, 2)
    >>> h = gru_jax.zero_state(params)
    >>> h, y = gru_jax.generate_step(params, readout_params, h, jnp.ones(3))
    >>> h.shape, y.shape
    ((5,), (2,))
    """
    h = gru_step(params, h, x)
    return h, activation(readout(readout_params, h))


def generate(
    key: jax.Array,
    step: Callable[[Any, Any, jax.Array], tuple[Any, jax.Array]],
    params: Any,
    h0: Any,
    prompt: ArrayLike,
    length: int,
    *,
    temperature: ArrayLike = 1.0,
    top_k: int | None = None,
    sample: Callable[[jax.Array, jax.Array], jax.Array] = jax.random.categorical,
) -> tuple[Any, jax.Array]:
    """Samples tokens one after the other, each fed back as the next input, in one scan.

        h, logits = step(params, h, token)
        token ~ softmax(logits / temperature), among the top_k largest

    The prompt is consumed first. The i-th new token is drawn with the i-th of
    `jax.random.split(key, length)`.

    Args:
      key: the key is consumed.
      step: any function `(params, h, token) -> (h', logits)`, with tokens `[...]` and logits
        `[..., V]`: for a GRU, an embedding followed by `generate_step` without activation.
      params: passed to `step`.
      h0: the first state, any pytree.
      prompt: integers `[P, ...]`, time first, with P at least 1.
      length: the number of new tokens, a Python integer.
      temperature: divides the logits. The Python number 0 takes the most probable token.
      top_k: keep only the k largest logits (and any equal to the smallest of them).
      sample: `(key, logits) -> tokens`, applied to what temperature and top_k have left.

    Returns:
      `(h, tokens)`: the state before the last token is consumed, and the new tokens
      `[length, ...]`. `generate(key, step, params, h, tokens[-1:], ...)` goes on from there.

    Raises:
      ValueError: a prompt empty or not integer, a negative length or temperature, a top_k outside
        1..V, logits whose shape is not the token's plus one axis.

    >>> import jax, jax.numpy as jnp, gru_jax
    >>> vocabulary, hidden = 4, 5
    >>> params = (
    ...     gru_jax.init_gru(jax.random.key(0), vocabulary, hidden),
    ...     gru_jax.init_readout(jax.random.key(1), hidden, vocabulary),
    ... )
    >>> def step(params, h, token):
    ...     x = jax.nn.one_hot(token, vocabulary)
    ...     return gru_jax.generate_step(*params, h, x, activation=lambda y: y)
    >>> prompt = jnp.array([[1, 2], [3, 0]])  # [P, B]
    >>> h0 = gru_jax.zero_state(params[0], (2,))
    >>> h, tokens = gru_jax.generate(jax.random.key(2), step, params, h0, prompt, 6)
    >>> tokens.shape
    (6, 2)
    """
    prompt = as_array("prompt", prompt)
    if prompt.ndim < 1 or prompt.shape[0] < 1 or not jnp.issubdtype(prompt.dtype, jnp.integer):
        raise ValueError(
            f"prompt is {prompt.dtype} of shape {prompt.shape}, but must be integers (P, *batch) "
            "with P at least 1: start from a token that marks the beginning."
        )
    if length < 0:
        raise ValueError(f"length is {length}, but must be at least 0.")
    if isinstance(temperature, int | float) and temperature < 0:
        raise ValueError(f"temperature is {temperature}, but must be at least 0.")

    def choose(key: jax.Array, logits: jax.Array) -> jax.Array:
        if logits.shape[:-1] != prompt.shape[1:] or logits.ndim != prompt.ndim:
            raise ValueError(
                f"step returned logits of shape {logits.shape}, but must return (*batch, V) with "
                f"batch = {prompt.shape[1:]}."
            )
        if isinstance(temperature, int | float) and temperature == 0:
            return jnp.argmax(logits, axis=-1)
        logits = logits / jnp.asarray(temperature, logits.dtype)
        if top_k is not None:
            if not 1 <= top_k <= logits.shape[-1]:
                raise ValueError(f"top_k is {top_k}, but must be in 1..V = {logits.shape[-1]}.")
            kept, _ = jax.lax.top_k(logits, top_k)
            logits = jnp.where(logits >= kept[..., -1:], logits, -jnp.inf)
        return sample(key, logits)

    def body(carry: tuple[Any, jax.Array], inputs: tuple[Any, Any, Any]) -> Any:
        h, last = carry
        given, is_given, key = inputs
        h, logits = step(params, h, jnp.where(is_given, given, last))
        token = choose(key, logits).astype(prompt.dtype)
        return (h, token), token

    # Steps 0..P-1 read the prompt, the others the token before; step P-1+i draws new token i.
    extra = max(length - 1, 0)
    given = jnp.concatenate([prompt, jnp.zeros((extra, *prompt.shape[1:]), prompt.dtype)])
    is_given = jnp.arange(len(given)) < len(prompt)
    keys = jax.random.split(key, max(length, 1))
    keys = jnp.concatenate([jnp.repeat(keys[:1], len(prompt) - 1, axis=0), keys])
    (h, _), tokens = jax.lax.scan(body, (h0, prompt[0]), (given, is_given, keys))
    return h, tokens[len(prompt) - 1 :][:length]
