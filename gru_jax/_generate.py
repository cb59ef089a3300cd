"""Autoregressive sampling."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ._checks import as_array, check_callable, check_key, check_size, kind
from ._ops import at_least_float32
from ._scan import check_next, first_state
from ._state import vary_like
from ._trace import once


def generate(
    key: jax.Array,
    step: Callable[[Any, Any, jax.Array], tuple[Any, jax.Array]],
    params: Any,
    h0: Any,
    prompt: ArrayLike | Sequence[Any],
    length: SupportsIndex,
    *,
    temperature: ArrayLike = 1.0,
    top_k: SupportsIndex | None = None,
    sample: Callable[[jax.Array, jax.Array], jax.Array] = jax.random.categorical,
) -> tuple[Any, jax.Array]:
    """Samples tokens one after the other, each fed back as the next input, in one scan.

        h, logits = step(params, h, token)
        token ~ softmax(logits / temperature), among the top_k largest

    The prompt is consumed first. The logits are scaled in float32 at least. The i-th new token is
    drawn with the i-th of `jax.random.split(key, length)`.

    Args:
      key: the key is consumed.
      step: any function `(params, h, token) -> (h', logits)`, with tokens `[...]` and logits
        `[..., V]`: for a GRU, an embedding followed by `generate_step` without activation. Traced
        once for calls of equal shapes, as the step of `unroll` is.
      params: passed to `step`.
      h0: the first state, any pytree.
      prompt: integers in 0..V − 1 `[P, ...]`, time-major, with P at least 1.
      length: the number of new tokens, a Python integer.
      temperature: divides the logits: a number, or `[...]` with one for each row. Zero takes the
        most probable token, and so does a traced one that is negative or NaN.
      top_k: keep only the k largest logits (and any equal to the smallest of them); a number of
        tokens.
      sample: `(key, logits) -> tokens`, applied to what temperature and top_k have left.

    Returns:
      `(h, tokens)`: the state before the last token is consumed, and the new tokens
      `[length, ...]`, int32, or int64 for an int64 prompt.
      `generate(key, step, params, h, tokens[-1:], ...)` goes on from there.

    Raises:
      ValueError: a prompt empty, not integer or with a token outside 0..V − 1, a negative length, a
        temperature negative or NaN, a top_k outside 1..V, logits whose shape is not the token's
        plus one axis, or a `step` or `sample` that returns something else.

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
    key = check_key("key", key)
    check_callable("step", step, "(params, h, token) -> (h', logits)")
    check_callable("sample", sample, "(key, logits) -> tokens")
    known = None if isinstance(prompt, jax.Array) else prompt
    prompt = as_array("prompt", prompt)
    if prompt.ndim < 1 or prompt.shape[0] < 1 or not jnp.issubdtype(prompt.dtype, jnp.integer):
        raise ValueError(
            f"prompt is {prompt.dtype} of shape {prompt.shape}, but must be integers (P, *batch) "
            "with P at least 1: start from a token that marks the beginning."
        )
    length = check_size("length", length, least=0)
    greedy, temperature = _check_temperature(temperature, prompt.shape[1:])
    wide = jnp.int64 if prompt.dtype.itemsize == 8 else jnp.int32
    h0 = jax.tree.map(partial(as_array, "h0"), h0)
    if top_k is not None:
        top_k = check_size("top_k", top_k)
    size = _vocabulary_size(step, params, h0, prompt.astype(wide)[0])
    if top_k is not None and top_k > size:
        raise ValueError(f"top_k is {top_k}, but must be in 1..V = {size}.")
    if not isinstance(prompt, jax.core.Tracer) and prompt.is_fully_addressable:
        given = np.asarray(prompt if known is None else known)  # before it was cut to 32 bits
        low, high = given.min(initial=0), given.max(initial=0)
        if low < 0 or high >= size:
            token = low if low < 0 else high
            raise ValueError(
                f"prompt has token {token}, but must have tokens in 0..V - 1 = {size - 1}: one "
                "that is only read, such as a mark of the beginning, needs a logit, too."
            )
    traced_once = once(step, params), once(sample)
    functions = (step, sample) if None in traced_once else traced_once
    run = _generate if None in traced_once else _generate_once
    settings = *functions, length, None if greedy else top_k, greedy
    result: tuple[Any, jax.Array] = run(
        settings, key, params, h0, (prompt.astype(wide), temperature)
    )
    return result


def _check_temperature(temperature: Any, batch_shape: tuple[Any, ...]) -> tuple[bool, jax.Array]:
    """Whether every row is greedy, known at trace time; and the temperatures, float32 at least."""
    array = as_array("temperature", temperature)
    real = jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)
    if not real or array.shape not in ((), batch_shape):
        raise ValueError(
            f"temperature is {array.dtype} of shape {array.shape}, but must be a real number, or "
            f"one for each row {batch_shape}."
        )
    known = None if isinstance(temperature, jax.core.Tracer) else np.asarray(temperature)
    if known is not None and not np.all(known >= 0):
        raise ValueError(f"temperature is {temperature}, but must be at least 0.")
    greedy = known is not None and not known.any()
    return greedy, array.astype(at_least_float32(array.dtype))


def _vocabulary_size(step: Any, params: Any, h0: Any, token: jax.Array) -> int:
    """V, from the logits of a step; raises `ValueError` for a step that returns something else."""
    try:
        result = jax.eval_shape(lambda h, token: step(params, h, token), h0, token)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"step refuses h0, or the prompt's tokens of shape {token.shape}: {error}"
        ) from error
    if not isinstance(result, tuple) or len(result) != 2:
        raise ValueError(f"step returned {kind(result)}, but must return (h', logits).")
    h, logits = result
    check_next(h0, h)
    shape: tuple[int, ...] = getattr(logits, "shape", ())
    floating = shape and jnp.issubdtype(logits.dtype, jnp.floating)
    if not floating or shape[:-1] != token.shape:
        raise ValueError(
            f"step returned logits of shape {shape}, but must return floating (*batch, V) with "
            f"batch = {token.shape}."
        )
    return int(shape[-1])


def _generate(
    settings: tuple[Any, ...], key: jax.Array, params: Any, h0: Any, inputs: tuple[Any, Any]
) -> tuple[Any, jax.Array]:
    step, sample, length, top_k, greedy = settings
    prompt, temperature = inputs

    def choose(key: jax.Array, logits: jax.Array) -> jax.Array:
        best = jnp.argmax(logits, axis=-1).astype(prompt.dtype)
        if greedy:
            return best
        t = jnp.zeros_like(best, temperature.dtype) + temperature  # sharded like the rows
        tokens = sample(key, _scale(logits, t, top_k))
        found = jax.typeof(tokens) if isinstance(tokens, jax.Array) else kind(tokens)
        integer = isinstance(tokens, jax.Array) and jnp.issubdtype(tokens.dtype, jnp.integer)
        if not integer or tokens.shape != best.shape:
            raise ValueError(
                f"sample returned {found}, but must return integers of shape {best.shape}."
            )
        return jnp.where(t > 0, tokens.astype(prompt.dtype), best)

    def body(carry: tuple[Any, jax.Array], inputs: tuple[Any, Any, Any]) -> Any:
        h, last = carry
        given, is_given, key = inputs
        h, logits = step(params, h, jnp.where(is_given, given, last))
        token = choose(key, logits)
        return (h, token), token

    h0 = first_state(h0, params, prompt[..., None], key, temperature)
    for leaf in jax.tree.leaves(h0)[:1]:  # the tokens are sharded as the state is
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        if floating and leaf.ndim == prompt.ndim and leaf.shape[:-1] == prompt.shape[1:]:
            prompt = prompt + jnp.sum(leaf[..., :0], axis=-1).astype(prompt.dtype)[None]
    # Steps 0..P-1 read the prompt, the others the token before; step P-1+i draws new token i.
    count, extra = prompt.shape[0], max(length - 1, 0)
    given = jnp.pad(prompt, ((0, extra), *((0, 0) for _ in prompt.shape[1:])))
    is_given = jnp.arange(count + extra) < count
    keys = jax.random.split(key, max(length, 1))
    keys = jnp.concatenate([jnp.repeat(keys[:1], count - 1, axis=0), keys])
    token = vary_like(prompt[0], params, h0, key, temperature)
    (h, _), tokens = jax.lax.scan(body, (h0, token), (given, is_given, keys))
    return h, tokens[count - 1 :][:length]


_generate_once = jax.jit(_generate, static_argnums=0, inline=True)


def _scale(logits: jax.Array, temperature: jax.Array, top_k: int | None) -> jax.Array:
    """The logits over their temperatures, those of the most probable tokens zero."""
    logits = logits.astype(at_least_float32(logits.dtype))
    most = jnp.max(logits, axis=-1, keepdims=True)
    t = jnp.expand_dims(temperature, -1).astype(logits.dtype)
    # Less the maximum first: a small temperature sends the others to -inf, and none to inf.
    below = (logits - most) / jnp.where(t > 0, t, jnp.ones_like(t))
    scaled = jnp.where(logits == most, jnp.zeros_like(below), below)
    scaled = jnp.where(logits == -jnp.inf, logits, scaled)  # even where the temperature is inf
    if top_k is not None:
        kept, _ = jax.lax.top_k(logits, top_k)
        scaled = jnp.where(logits >= kept[..., -1:], scaled, -jnp.inf)
    return scaled
