"""FC-EF, FC-Siam-Conc and FC-Siam-Diff (Daudt, Le Saux, Boulch 2018) in three sizes."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from jaxcd.models.blocks import BATCHNORM_EPSILON, Decoder, Encoder
from jaxcd.models.description import DamageNetwork, Description
from jaxcd.models.functional import apply_streams

_SMALL = ((16,), (32,), (64,))
_MEDIUM = ((16, 16), (32, 32), (64, 64, 64), (128, 128, 128))
_LARGE = (*_MEDIUM, (256, 256, 256))
_MEDIUM_DECODER = ((128, 128, 64), (64, 64, 32), (32, 16), (16, 1))

# Output channels of every convolution, in blocks: the encoder from the image down, the decoder back up. The last
# convolution has as many channels as the network has outputs.
ENCODER_BLOCKS = {"small": _SMALL, "medium": _MEDIUM, "large": _LARGE}
DECODER_BLOCKS = {
    "small": ((32,), (16,), (1,)),
    "medium": _MEDIUM_DECODER,
    "large": ((256, 256, 128), *_MEDIUM_DECODER),
}


class UNet(DamageNetwork):
    """Base of the three networks: an encoder of `c_in` input channels, a decoder that joins `copies` maps a level."""

    sizes = tuple(ENCODER_BLOCKS)
    c_in: ClassVar[int]
    copies: ClassVar[int]

    def __init__(self, size: str, *, dropout: float, dtype: Any, rngs: nnx.Rngs, outputs: int = 1):
        self.encoder: Encoder
        self.encoder, bottom = self.make_encoder(size, dropout=dropout, dtype=dtype, rngs=rngs)
        self.decoder = Decoder(
            bottom,
            DECODER_BLOCKS[size],
            copies=self.copies,
            outputs=outputs,
            dropout=dropout,
            dtype=dtype,
            rngs=rngs,
        )
        self.stride = self.describe(size).stride
        self.dtype = dtype

    @classmethod
    def describe(cls, size: str) -> Description:
        """Describe the network of a size; an encoder of six input channels takes both dates at once."""
        return Description(
            stride=2 ** len(ENCODER_BLOCKS[size]),
            receptive_radius=_receptive_radius(size),
            pairs_compared=cls.c_in // 3,
            batchnorm_epsilon=BATCHNORM_EPSILON,
        )

    @classmethod
    def make_encoder(cls, size: str, *, dropout: float, dtype: Any, rngs: nnx.Rngs) -> tuple[Encoder, int]:
        """Return the encoder, and the number of channels that it gives at its bottom."""
        blocks = ENCODER_BLOCKS[size]
        return Encoder(cls.c_in, blocks, dropout=dropout, dtype=dtype, rngs=rngs), blocks[-1][-1]

    def _check(self, pre: Array, post: Array) -> None:
        if pre.shape != post.shape or pre.shape[1] % self.stride or pre.shape[2] % self.stride:
            raise ValueError(
                f"pre {pre.shape} and post {post.shape}: expected equal shapes with sides that are multiples of "
                f"{self.stride}"
            )


def _receptive_radius(size: str) -> int:
    """Return how many pixels away an input pixel may lie and still change an output pixel.

    The range of needed pixels is followed from the output back to the input. A 3x3 convolution widens it by 1 on each
    side; a change of level doubles or halves it. It depends on the position of the output pixel within the stride, so
    the result is the maximum over these positions.
    """
    down = [len(block) for block in ENCODER_BLOCKS[size]]
    up = [len(block) for block in reversed(DECODER_BLOCKS[size])]
    return max(_reach(at, down, up) for at in range(2 ** len(down)))


def _reach(at: int, down: list[int], up: list[int]) -> int:
    """Return the radius for an output pixel at position `at`; `down` and `up` count convolutions, shallowest first."""
    low = high = at
    skips = []
    for convolutions in up:
        low, high = low - convolutions, high + convolutions
        skips.append((low, high))
        low, high = low // 2, high // 2
    for convolutions, skip in zip(reversed(down), reversed(skips), strict=True):
        low, high = min(2 * low, skip[0]) - convolutions, max(2 * high + 1, skip[1]) + convolutions
    return max(at - low, high - at)


def _keys(key: Key[Array, ""] | None) -> tuple[Key[Array, ""] | None, Key[Array, ""] | None]:
    return (None, None) if key is None else tuple(jax.random.split(key))


class FCEF(UNet):
    """Early fusion: pre and post stacked on the channels and seen by one encoder."""

    c_in, copies = 6, 2

    def __call__(
        self, pre: Float[Array, "b h w 3"], post: Float[Array, "b h w 3"], *, key: Key[Array, ""] | None = None
    ) -> Float[Array, "b h w *k"]:
        """Return logits for normalised images; `key` is the dropout key of train mode."""
        self._check(pre, post)
        down, up = _keys(key)
        skips, x = self.encoder(jnp.concatenate([pre, post], axis=-1).astype(self.dtype), key=down)
        return self.decoder(x, [(skip,) for skip in skips], key=up)


class FCSiam(UNet):
    """Base of the Siamese networks: one encoder for both images; the decoder begins with the features of post."""

    c_in = 3

    def _fuse(self, pre: Array, post: Array) -> tuple[Array, ...]:
        raise TypeError("FCSiam is the base of FCSiamConc and FCSiamDiff; use one of these")

    def __call__(
        self, pre: Float[Array, "b h w 3"], post: Float[Array, "b h w 3"], *, key: Key[Array, ""] | None = None
    ) -> Float[Array, "b h w *k"]:
        """Return logits for normalised images; `key` is the dropout key of train mode."""
        self._check(pre, post)
        down, up = _keys(key)
        images = pre.astype(self.dtype), post.astype(self.dtype)
        (before, _), (after, x) = apply_streams(self.encoder, images, key=down)
        return self.decoder(x, [self._fuse(*skip) for skip in zip(before, after, strict=True)], key=up)


class FCSiamConc(FCSiam):
    """Siamese network whose decoder gets the skips of both dates, post first."""

    copies = 3

    def _fuse(self, pre: Array, post: Array) -> tuple[Array, ...]:
        return post, pre


class FCSiamDiff(FCSiam):
    """Siamese network whose decoder gets the absolute difference of the two dates' skips."""

    copies = 2

    def _fuse(self, pre: Array, post: Array) -> tuple[Array, ...]:
        return (jnp.abs(pre - post),)
