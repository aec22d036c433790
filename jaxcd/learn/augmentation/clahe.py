"""Contrast-limited adaptive histogram equalisation on the device."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_GRID = 8  # tiles a side
_BINS = 256
_LUMA = (0.299, 0.587, 0.114)


def clahe(images: Float[Array, "h w t 3"], limit: Float[Array, ""]) -> Float[Array, "h w t 3"]:
    """Equalise the luma of each image on an 8x8 grid; chroma (YCbCr) stays.

    Args:
        images: RGB 0..1.
        limit: clip limit, a multiple of a histogram's mean count; >= 1.
    """
    luma = sum(weight * images[..., band] for band, weight in enumerate(_LUMA))
    gain = jax.vmap(lambda y: _equalise(y, limit), in_axes=2, out_axes=2)(luma) - luma
    return jnp.clip(images + gain[..., None], 0, 1)


def _equalise(luma: Float[Array, "h w"], limit: Float[Array, ""]) -> Float[Array, "h w"]:
    h, w = luma.shape
    th, tw = -(-h // _GRID), -(-w // _GRID)  # a tile's sides, the image padded to whole tiles
    padded = jnp.pad(luma, ((0, th * _GRID - h), (0, tw * _GRID - w)), mode="reflect")
    level = jnp.clip(jnp.round(padded * (_BINS - 1)), 0, _BINS - 1).astype(jnp.int32)
    tiles = level.reshape(_GRID, th, _GRID, tw).swapaxes(1, 2).reshape(_GRID * _GRID, th * tw)

    def lookup(tile: Array) -> Float[Array, "256"]:
        counts = jnp.bincount(tile, length=_BINS).astype(jnp.float32)
        ceiling = jnp.maximum(limit * th * tw / _BINS, 1)
        excess = jnp.sum(jnp.maximum(counts - ceiling, 0))
        return jnp.cumsum(jnp.minimum(counts, ceiling) + excess / _BINS) / (th * tw)

    tables = jax.vmap(lookup)(tiles).reshape(-1)
    # Each pixel mixes the tables of the four nearest tile centres; beyond the outer centres, of fewer.
    row = jnp.clip((jnp.arange(h) + 0.5) / th - 0.5, 0, _GRID - 1)[:, None]
    column = jnp.clip((jnp.arange(w) + 0.5) / tw - 0.5, 0, _GRID - 1)[None, :]
    r, s = jnp.floor(row).astype(jnp.int32), jnp.floor(column).astype(jnp.int32)
    fy, fx = row - r, column - s
    level = level[:h, :w]

    def table(r: Array, s: Array) -> Float[Array, "h w"]:
        r, s = jnp.minimum(r, _GRID - 1), jnp.minimum(s, _GRID - 1)
        return tables[(r * _GRID + s) * _BINS + level]

    upper = (1 - fx) * table(r, s) + fx * table(r, s + 1)
    lower = (1 - fx) * table(r + 1, s) + fx * table(r + 1, s + 1)
    return (1 - fy) * upper + fy * lower
