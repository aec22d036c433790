"""Training augmentation on the device: one jitted, vmapped function over a batch of pairs.

There are four groups of operations: brightness/contrast or gamma; blur or CLAHE; Gaussian or ISO noise; shift, scale
and rotation. Each group is applied with probability 1/2, with the same parameters for pre and post (but each has noise
of its own). What makes the two dates differ (`jaxcd.learn.augmentation.dates`) comes before all of them. The host does
the flips. An operation whose range is zero is left out when the step is traced, so that it costs no time and changes no
bit. See docs/method.md, Augmentation.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8

from jaxcd.base.scales import DAMAGE
from jaxcd.base.types import Batch
from jaxcd.config import AugmentConfig, DatesConfig
from jaxcd.learn.augmentation.clahe import clahe
from jaxcd.learn.augmentation.dates import differ
from jaxcd.learn.augmentation.filters import gaussian_blur
from jaxcd.models import IMAGENET, Normalisation
from jaxcd.models.draws import uniform16

_APPLY = 0.5

# Rows that turn RGB into luma and two chroma axes (YIQ); hue is the angle in the plane of the chroma axes.
_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
_RGB = np.linalg.inv(_YIQ).tolist()

# Both dates lie beside each other at each pixel, so that the warp reads their six values in one piece.
Pair = Float[Array, "h w 2 3"]
Operation = Callable[[Key[Array, ""], Pair], Pair]


def normalise(images: UInt8[Array, "*n 3"], wanted: Normalisation = IMAGENET) -> Float[Array, "*n 3"]:
    """Normalise RGB 0..255 for a network: (x/255 - mean) / deviation."""
    return _standardise(images.astype(jnp.float32) / 255, wanted)


def augment(
    key: Key[Array, ""],
    batch: Batch,
    config: AugmentConfig,
    wanted: Normalisation = IMAGENET,
    *,
    damaged: int = DAMAGE,
) -> tuple[Float[Array, "b h w 3"], Float[Array, "b h w 3"], Float[Array, "b h w"], Float[Array, "b h w"]]:
    """Augment and normalise a batch; pure, for use inside the training step.

    Args:
        key: random key; the same key gives the same result.
        batch: batch of the loader.
        config: ranges; if all are zero, images are only normalised.
        wanted: normalisation that the network needs.
        damaged: lowest code of the labels that counts as damage.

    Returns:
        Normalised pre and post images, labels and valid. Pixels that come from outside the tile are black in the images
        (before normalisation), 0 in the labels, and not valid.
    """
    if dataclasses.replace(config, flips=False) == AugmentConfig.off():
        # XLA does not round a division in the same way in every program. Without augmentation, use the function of
        # evaluation, so that training gets the same images.
        pre, post = normalise(batch.pre, wanted), normalise(batch.post, wanted)
        labels, valid = batch.labels.astype(jnp.float32), batch.valid.astype(jnp.float32)
        return pre, post, labels * valid, valid
    keys = jax.random.split(key, batch.pre.shape[0])

    def augment_pair(key: Key[Array, ""], pre: Array, post: Array, labels: Array, valid: Array) -> tuple[Array, ...]:
        tone, filters, noise, geometry = jax.random.split(key, 4)
        images = jnp.stack([pre, post], axis=2).astype(jnp.float32) / 255
        if config.dates != DatesConfig():
            # A key of its own: the other operations draw what they draw without this one.
            apart = jax.random.fold_in(key, 1)
            images, valid = differ(apart, images, labels, valid, config.dates, damaged=damaged)
        images = _one_of(tone, images, _tone_operations(config))
        images = _one_of(filters, images, _filter_operations(config))
        images = _one_of(noise, images, _noise_operations(config))
        masks = jnp.stack([labels, valid], axis=2).astype(jnp.float32)
        if config.shift or config.scale or config.rotate:
            images, masks = _warp(geometry, images, masks, config)
        images = _standardise(images, wanted)
        return images[:, :, 0], images[:, :, 1], masks[..., 0] * masks[..., 1], masks[..., 1]

    return jax.vmap(augment_pair)(keys, batch.pre, batch.post, batch.labels, batch.valid)  # type: ignore[return-value]


def _standardise(images: Float[Array, "*n 3"], wanted: Normalisation) -> Float[Array, "*n 3"]:
    return (images - jnp.array(wanted.mean, jnp.float32)) / jnp.array(wanted.deviation, jnp.float32)


def _one_of(key: Key[Array, ""], images: Pair, operations: Sequence[Operation]) -> Pair:
    """With probability 1/2, apply one of the operations; each is equally likely."""
    if not operations:
        return images
    whether, which, how = jax.random.split(key, 3)
    chosen = jax.random.randint(which, (), 1, len(operations) + 1)
    chosen = jnp.where(jax.random.bernoulli(whether, _APPLY), chosen, 0)
    # Under vmap, this computes all branches and then selects one.
    return jax.lax.switch(chosen, [lambda _, images: images, *operations], how, images)


def _tone_operations(config: AugmentConfig) -> list[Operation]:
    def brightness_contrast(key: Key[Array, ""], images: Pair) -> Pair:
        a, b = jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
        return jnp.clip(images * (1 + config.contrast * a) + config.brightness * b, 0, 1)

    def gamma(key: Key[Array, ""], images: Pair) -> Pair:
        exponent = 1 + config.gamma * jax.random.uniform(key, minval=-1.0, maxval=1.0)
        return images**exponent

    chosen = [(config.brightness or config.contrast, brightness_contrast), (config.gamma, gamma)]
    return [operation for on, operation in chosen if on]


def _filter_operations(config: AugmentConfig) -> list[Operation]:
    def blur(key: Key[Array, ""], images: Pair) -> Pair:
        size = 3 + 2 * jax.random.randint(key, (), 0, (config.blur - 3) // 2 + 1)
        return gaussian_blur(images, size, largest=config.blur)

    def equalise(key: Key[Array, ""], images: Pair) -> Pair:
        limit = jax.random.uniform(key, minval=1.0, maxval=config.clahe)
        return clahe(images, limit)

    chosen = [(config.blur, blur), (config.clahe, equalise)]
    return [operation for on, operation in chosen if on]


def _noise_operations(config: AugmentConfig) -> list[Operation]:
    def gaussian(key: Key[Array, ""], images: Pair) -> Pair:
        strength, draw = jax.random.split(key)
        variance = jax.random.uniform(strength, minval=10.0, maxval=config.gauss_noise)  # of values 0..255
        return jnp.clip(images + _normal(draw, images.shape) * (jnp.sqrt(variance) / 255), 0, 1)

    def iso(key: Key[Array, ""], images: Pair) -> Pair:
        """Add sensor noise of a high ISO setting: random changes of hue, and shot noise that brightens dark pixels."""
        strength, draw = jax.random.split(key)
        least = jnp.array([min(0.1, config.iso_noise), 0.01])
        most = jnp.array([config.iso_noise, 0.05])
        intensity, shift = least + (most - least) * jax.random.uniform(strength, (2,))
        # Drawn in the same way as in `gaussian`, so that XLA draws once if both are computed.
        light, hue, _ = _bands(_normal(draw, images.shape))
        luma, i, q = _weighted(images, _YIQ)
        # Poisson noise of mean 255 * intensity * std(luma), approximated by a normal distribution.
        mean = jnp.std(luma) * intensity * 255
        shot = jnp.maximum(mean + jnp.sqrt(mean) * light, 0) / 255
        angle = 2 * math.pi * shift * intensity * hue
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        noisy = jnp.stack([luma + shot * (1 - luma), cos * i - sin * q, sin * i + cos * q], axis=-1)
        return jnp.clip(jnp.stack(_weighted(noisy, _RGB), axis=-1), 0, 1)

    chosen = [(config.gauss_noise, gaussian), (config.iso_noise, iso)]
    return [operation for on, operation in chosen if on]


def _bands(images: Float[Array, "*n 3"]) -> tuple[Array, Array, Array]:
    return images[..., 0], images[..., 1], images[..., 2]


def _weighted(images: Float[Array, "*n 3"], rows: Sequence[Sequence[float]]) -> list[Float[Array, "*n"]]:
    """Return the weighted sum of the bands for each row of weights; XLA would not fuse a matrix product."""
    red, green, blue = _bands(images)
    return [r * red + g * green + b * blue for r, g, b in rows]


def _normal(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Draw normal noise from 16 random bits for each element, which is far finer than a grey level."""
    return math.sqrt(2) * jax.lax.erf_inv((uniform16(key, shape).astype(jnp.float32) + 0.5) * 2**-15 - 1)


def _warp(
    key: Key[Array, ""], images: Pair, masks: Float[Array, "h w 2"], config: AugmentConfig
) -> tuple[Pair, Float[Array, "h w 2"]]:
    """Shift, scale and rotate about the centre: images bilinearly on black, masks to nearest pixels on 0."""
    h, w = masks.shape[:2]
    whether, how = jax.random.split(key)
    on = jax.random.bernoulli(whether, _APPLY)
    ranges = jnp.array([config.shift * h, config.shift * w, config.scale, math.radians(config.rotate)])
    dy, dx, scale, angle = jnp.where(on, ranges * jax.random.uniform(how, (4,), minval=-1.0, maxval=1.0), 0.0)

    # Where each output pixel comes from: the inverse of "turn and scale about the centre, then shift".
    cy, cx = (h - 1) / 2, (w - 1) / 2
    y = jnp.arange(h)[:, None] - cy - dy
    x = jnp.arange(w)[None, :] - cx - dx
    cos, sin = jnp.cos(angle) / (1 + scale), jnp.sin(angle) / (1 + scale)
    y, x = cos * y - sin * x + cy, sin * y + cos * x + cx

    def pick(source: Float[Array, "h w d"], row: Array, column: Array) -> Float[Array, "h w d"]:
        inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
        index = jnp.clip(row, 0, h - 1) * w + jnp.clip(column, 0, w - 1)
        return jnp.where(inside[..., None], source.reshape(h * w, -1)[index], 0.0)

    source = images.reshape(h, w, -1)
    top, left = jnp.floor(y), jnp.floor(x)
    fy, fx = (y - top)[..., None], (x - left)[..., None]
    r, s = top.astype(jnp.int32), left.astype(jnp.int32)
    upper = (1 - fx) * pick(source, r, s) + fx * pick(source, r, s + 1)
    lower = (1 - fx) * pick(source, r + 1, s) + fx * pick(source, r + 1, s + 1)
    warped = ((1 - fy) * upper + fy * lower).reshape(images.shape)
    return warped, pick(masks, jnp.round(y).astype(jnp.int32), jnp.round(x).astype(jnp.int32))
