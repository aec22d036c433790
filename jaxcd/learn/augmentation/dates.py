"""Training augmentation that makes the two dates of a pair differ in what is no damage.

Two images of one place differ in light, haze, sensor and angle of view, and lie some pixels apart. A network that has
seen little of this takes it for damage. Labels and the image that they were drawn on stay where they are; what is moved
is the other image. Each operation is applied with probability 1/2; light and sharpness change for each date by itself.
"""

import math

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, Key, Num

from jaxcd.config import DatesConfig
from jaxcd.learn.augmentation.filters import blur_each

_APPLY = 0.5
_OWN = 0.3  # share of a change of tone that is a band's own: a cast of colour
_AIRLIGHT = 0.8  # grey that haze tends to

_DATES = ("pre", "post")

Pair = Float[Array, "h w 2 3"]
Image = Float[Array, "h w 3"]
Mask = Num[Array, "h w"]


def differ(
    key: Key[Array, ""], images: Pair, codes: Mask, valid: Mask, config: DatesConfig, *, damaged: int
) -> tuple[Pair, Mask]:
    """Make the two dates of a pair differ.

    Args:
        key: the same key gives the same result.
        images: before and after, 0..1.
        codes: labels as codes of a scale.
        valid: 1 where the label is known.
        config: ranges.
        damaged: lowest code that counts as damage.

    Returns:
        The images, and `valid`: 0 also where the moved image shows nothing.
    """
    order, buildings, ground, light = jax.random.split(key, 4)
    if config.swap:
        intact = ~jnp.any((codes >= damaged) & (valid > 0))
        swapped = intact & jax.random.bernoulli(order, config.swap)
        images = jnp.where(swapped, images[:, :, ::-1], images)
    moved = _DATES.index(config.moved)
    if config.parallax:
        other = _lean(buildings, images[:, :, moved], codes, config.parallax)
        images = images.at[:, :, moved].set(other)
    if config.shift or config.turn or config.stretch:
        other, seen = _move(ground, images[:, :, moved], config)
        images, valid = images.at[:, :, moved].set(other), valid * seen
    tone, haze, shade = jax.random.split(light, 3)
    if config.tone:
        images = _tone(tone, images, config.tone)
    if config.haze:
        share = config.haze * _strengths(haze)
        images = images * (1 - share) + _AIRLIGHT * share
    if config.shade:
        images = _shade(shade, images, config.shade)
    if config.blur:
        # A key of its own: the others draw what they draw without this one.
        sigma = config.blur * _strengths(jax.random.fold_in(light, 1))[:, 0]
        images = blur_each(images, sigma, largest=config.blur)
    return images, valid


def _strengths(key: Key[Array, ""]) -> Float[Array, "2 1"]:
    """Draw 0..1 for each date; 0 in half of the cases."""
    on, how = jax.random.split(key)
    return jnp.where(jax.random.bernoulli(on, _APPLY, (2, 1)), jax.random.uniform(how, (2, 1)), 0.0)


def _tone(key: Key[Array, ""], images: Pair, largest: float) -> Pair:
    """Change gain, offset and gamma of each date, most of it alike in all bands."""
    on, common, own = jax.random.split(key, 3)
    mixed = (1 - _OWN) * jax.random.uniform(common, (3, 2, 1), minval=-1.0) + _OWN * jax.random.uniform(
        own, (3, 2, 3), minval=-1.0
    )
    gain, offset, exponent = largest * mixed * jax.random.bernoulli(on, _APPLY, (2, 1))
    return jnp.clip(images ** (1 + exponent) * (1 + gain) + offset / 2, 0, 1)


def _shade(key: Key[Array, ""], images: Pair, largest: float) -> Pair:
    """Darken each date towards one side, as terrain or thin cloud does."""
    side, strength = jax.random.split(key)
    h, w = images.shape[:2]
    angle = jax.random.uniform(side, (2,), maxval=2 * math.pi)
    y, x = jnp.linspace(-0.5, 0.5, h)[:, None, None], jnp.linspace(-0.5, 0.5, w)[None, :, None]
    towards = (jnp.sin(angle) * y + jnp.cos(angle) * x) / math.sqrt(2) + 0.5
    return images * (1 - largest * towards[..., None] * _strengths(strength))


def _lean(key: Key[Array, ""], image: Image, codes: Mask, largest: float) -> Image:
    """Shift the buildings of an image over their ground, as another angle of view does with roofs."""
    on, how = jax.random.split(key)
    apart = jnp.round(largest * jax.random.uniform(how, (2,), minval=-1.0)).astype(jnp.int32)
    apart = jnp.where(jax.random.bernoulli(on, _APPLY), apart, 0)
    h, w = codes.shape
    y, x = jnp.arange(h)[:, None] - apart[0], jnp.arange(w)[None, :] - apart[1]
    inside = (y >= 0) & (y < h) & (x >= 0) & (x < w)
    y, x = jnp.clip(y, 0, h - 1), jnp.clip(x, 0, w - 1)
    roof = inside & (codes[y, x] > 0)
    return jnp.where(roof[..., None], image[y, x], image)


def _move(key: Key[Array, ""], image: Image, config: DatesConfig) -> tuple[Image, Mask]:
    """Shift, turn and stretch an image; return also where it still shows something."""
    on, how = jax.random.split(key)
    ranges = jnp.array([config.shift, config.shift, math.radians(config.turn), config.stretch])
    drawn = ranges * jax.random.uniform(how, (4,), minval=-1.0)
    down, right, angle, scale = jnp.where(jax.random.bernoulli(on, _APPLY), drawn, 0.0)
    h, w = image.shape[:2]
    y = jnp.arange(h)[:, None] - (h - 1) / 2 - down
    x = jnp.arange(w)[None, :] - (w - 1) / 2 - right
    cos, sin = jnp.cos(angle) / (1 + scale), jnp.sin(angle) / (1 + scale)
    y, x = cos * y - sin * x + (h - 1) / 2, sin * y + cos * x + (w - 1) / 2
    seen = (y >= 0) & (y <= h - 1) & (x >= 0) & (x <= w - 1)
    bands = [map_coordinates(image[:, :, band], [y, x], order=1, mode="nearest") for band in range(3)]
    return jnp.where(seen[..., None], jnp.stack(bands, axis=-1), 0.0), seen.astype(jnp.float32)
