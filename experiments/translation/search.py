"""Sequences out of a model that gives one token at a time: greedy and beam search, under jit.

Both take a function `step(state, tokens) -> (state, logits)` for tokens `[B, ...]` and logits
`[B, ..., V]`, and end early once every row has ended.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.harness.tokens import PAD

Step = Callable[[Any, jax.Array], tuple[Any, jax.Array]]


def greedy(step: Step, state: Any, start: jax.Array, *, end: int, length: int) -> jax.Array:
    """The most probable token, again and again.

    Args:
      step: see above.
      state: before the first token, arrays `[B, ...]`.
      start: the first tokens to be read `[B]`.
      end: the token that ends a sequence.
      length: the greatest number of tokens.

    Returns:
      Tokens `[B, length]`, int32, PAD after the end.
    """
    start = start.astype(jnp.int32)  # which holds any token, whatever the first ones came in

    def going_on(carry: Any) -> Any:
        t, _, _, ended, _ = carry
        return (t < length) & ~jnp.all(ended)

    def body(carry: Any) -> Any:
        t, state, last, ended, tokens = carry
        state, logits = step(state, last)
        last = jnp.where(ended, PAD, jnp.argmax(logits, axis=-1)).astype(start.dtype)
        return t + 1, state, last, ended | (last == end), tokens.at[:, t].set(last)

    tokens = jnp.full((*start.shape, length), PAD, start.dtype)
    carry = jnp.int32(0), state, start, jnp.zeros(start.shape, bool), tokens
    found: jax.Array = jax.lax.while_loop(going_on, body, carry)[-1]
    return found


def beam_search(
    step: Step,
    state: Any,
    start: jax.Array,
    *,
    end: int,
    length: int,
    size: int,
    length_penalty: float,
) -> tuple[jax.Array, jax.Array]:
    """Keeps the `size` most probable hypotheses of each row at every step.

    A hypothesis that has ended stays as it is and takes part in the choice with its log
    probability. At the end all are ordered by log p / n^length_penalty, with n their number of
    tokens, END included: 0 asks for the most probable sequence, 1 for the most probable per token.

    Args:
      step: see above; its tokens are `[B, K]`.
      state: before the first token, arrays `[B, ...]`, without a beam's axis.
      start: the first tokens to be read `[B]`.
      end: the token that ends a sequence.
      length: the greatest number of tokens.
      size: K, the number of hypotheses.
      length_penalty: see above.

    Returns:
      `(tokens, scores)`: int32 `[B, K, length]`, PAD after the end, and `[B, K]`, the best first.
      Where there are fewer than K sequences, the rest have a score of −inf.
    """
    start, rows = start.astype(jnp.int32), len(start)  # int32 as in `greedy`

    def going_on(carry: Any) -> Any:
        t, _, _, ended, _, _ = carry
        return (t < length) & ~jnp.all(ended)

    def body(carry: Any) -> Any:
        t, state, log_p, ended, last, tokens = carry
        state, logits = step(state, last)
        new = jax.nn.log_softmax(logits)
        only_pad = jnp.where(jnp.arange(new.shape[-1]) == PAD, 0.0, -jnp.inf)
        total = log_p[..., None] + jnp.where(ended[..., None], only_pad, new)  # [B, K, V]
        log_p, chosen = jax.lax.top_k(total.reshape(rows, -1), size)
        parents, last = chosen // new.shape[-1], (chosen % new.shape[-1]).astype(start.dtype)

        state, ended, tokens = jax.tree.map(lambda x: of_places(x, parents), (state, ended, tokens))
        return t + 1, state, log_p, ended | (last == end), last, tokens.at[..., t].set(last)

    def of_places(x: jax.Array, places: jax.Array) -> jax.Array:
        found: jax.Array = jax.vmap(lambda row, places: row[places])(x, places)
        return found

    def widen(x: jax.Array) -> jax.Array:
        return jnp.repeat(x[:, None], size, axis=1)

    log_p = jnp.full((rows, size), -jnp.inf).at[:, 0].set(0.0)  # one hypothesis at first
    ended = jnp.zeros((rows, size), bool)
    tokens = jnp.full((rows, size, length), PAD, start.dtype)
    carry = jnp.int32(0), jax.tree.map(widen, state), log_p, ended, widen(start), tokens
    _, _, log_p, _, _, tokens = jax.lax.while_loop(going_on, body, carry)
    count = jnp.maximum(jnp.sum(tokens != PAD, axis=-1), 1)
    scores, order = jax.lax.top_k(log_p / count**length_penalty, size)
    return of_places(tokens, order), scores
