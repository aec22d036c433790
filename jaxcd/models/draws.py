"""Random numbers of 16 bits: those of 32 that JAX draws are twice as many bytes as values in bfloat16."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, UInt16


def uniform16(key: Key[Array, ""], shape: tuple[int, ...]) -> UInt16[Array, "..."]:
    """Draw integers from 0 to 65535, each as likely; two from each word of 32 bits that the generator gives."""
    size = math.prod(shape)
    words = jax.random.bits(key, (-(-size // 2),), jnp.uint32)
    return jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[:size].reshape(shape)


def dropout(x: Array, rate: float, key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
    """Set elements to 0 at random, and scale the others so that the mean stays.

    Args:
        x: to drop from.
        rate: share that is dropped, at least 0 and below 1; rounded to a multiple of 1/65536.
        key: the same key drops the same.
        shape: of the mask; along axes of size 1 all is dropped or nothing.
    """
    dropped = min(round(2**16 * rate), 2**16 - 1)
    return jnp.where(uniform16(key, shape) >= dropped, x * (2**16 / (2**16 - dropped)), 0).astype(x.dtype)
