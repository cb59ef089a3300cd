"""Drop-in replacements for Flax's recurrent layers, on the fast recurrence.

`gru_jax.flax.linen.RNN` for `flax.linen.RNN`, `gru_jax.flax.nnx.RNN` for `flax.nnx.RNN`.
"""
