"""FC-EF, FC-Siam-Conc and FC-Siam-Diff (Daudt, Le Saux, Boulch 2018) in three sizes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from jaxcd.models.blocks import Decoder, Encoder
from jaxcd.models.functional import apply_streams

_SMALL = ((16,), (32,), (64,))
_MEDIUM = ((16, 16), (32, 32), (64, 64, 64), (128, 128, 128))
_LARGE = (*_MEDIUM, (256, 256, 256))
_MEDIUM_DECODER = ((128, 128, 64), (64, 64, 32), (32, 16), (16, 1))

# Output channels of every convolution: encoder blocks from the image down, decoder blocks back up.
ENCODER_BLOCKS = {"small": _SMALL, "medium": _MEDIUM, "large": _LARGE}
DECODER_BLOCKS = {
    "small": ((32,), (16,), (1,)),
    "medium": _MEDIUM_DECODER,
    "large": ((256, 256, 128), *_MEDIUM_DECODER),
}


class UNet(nnx.Module):
    """What the three networks share: an encoder over `c_in` channels, a decoder over `copies` maps a level."""

    c_in: int
    copies: int

    def __init__(self, size: str, *, dropout: float, dtype: Any, rngs: nnx.Rngs):
        blocks = ENCODER_BLOCKS[size]
        self.encoder = Encoder(self.c_in, blocks, dropout=dropout, dtype=dtype, rngs=rngs)
        self.decoder = Decoder(
            blocks[-1][-1], DECODER_BLOCKS[size], copies=self.copies, dropout=dropout, dtype=dtype, rngs=rngs
        )
        self.dtype = dtype

    @property
    def stride(self) -> int:
        """Height and width of the images must be multiples of this many pixels."""
        return 2 ** len(self.encoder.blocks)

    def _check(self, pre: Array, post: Array) -> None:
        if pre.shape != post.shape or pre.shape[1] % self.stride or pre.shape[2] % self.stride:
            raise ValueError(
                f"pre {pre.shape} and post {post.shape}: expected equal shapes with sides that are multiples of "
                f"{self.stride}"
            )


def _keys(key: Key[Array, ""] | None) -> tuple[Key[Array, ""] | None, Key[Array, ""] | None]:
    return (None, None) if key is None else tuple(jax.random.split(key))


class FCEF(UNet):
    """Early fusion: pre and post stacked on the channels and seen by one encoder."""

    c_in, copies = 6, 2

    def __call__(
        self, pre: Float[Array, "b h w 3"], post: Float[Array, "b h w 3"], *, key: Key[Array, ""] | None = None
    ) -> Float[Array, "b h w"]:
        """Return logits of damage for normalised images; `key` is the dropout key of train mode."""
        self._check(pre, post)
        down, up = _keys(key)
        skips, x = self.encoder(jnp.concatenate([pre, post], axis=-1).astype(self.dtype), key=down)
        return self.decoder(x, [(skip,) for skip in skips], key=up)


class FCSiam(UNet):
    """Siamese: one encoder over both images; the decoder starts from the post stream."""

    c_in = 3

    def _fuse(self, pre: Array, post: Array) -> tuple[Array, ...]:
        raise TypeError("FCSiam is the common part of FCSiamConc and FCSiamDiff")

    def __call__(
        self, pre: Float[Array, "b h w 3"], post: Float[Array, "b h w 3"], *, key: Key[Array, ""] | None = None
    ) -> Float[Array, "b h w"]:
        """Return logits of damage for normalised images; `key` is the dropout key of train mode."""
        self._check(pre, post)
        down, up = _keys(key)
        skips, x = apply_streams(self.encoder, jnp.stack([pre, post]).astype(self.dtype), key=down)
        return self.decoder(x[1], [self._fuse(skip[0], skip[1]) for skip in skips], key=up)


class FCSiamConc(FCSiam):
    """Siamese with both streams' skips concatenated, post first."""

    copies = 3

    def _fuse(self, pre: Array, post: Array) -> tuple[Array, ...]:
        return post, pre


class FCSiamDiff(FCSiam):
    """Siamese with the absolute difference of the streams' skips."""

    copies = 2

    def _fuse(self, pre: Array, post: Array) -> tuple[Array, ...]:
        return (jnp.abs(pre - post),)


NETWORKS: dict[str, Callable[..., UNet]] = {"fc_ef": FCEF, "fc_siam_conc": FCSiamConc, "fc_siam_diff": FCSiamDiff}


def create(
    name: str, *, size: str = "large", dropout: float = 0.0, dtype: Any = jnp.float32, rngs: nnx.Rngs
) -> FCEF | FCSiamConc | FCSiamDiff:
    """Build a network, in eval mode.

    Args:
        name: fc_ef, fc_siam_conc or fc_siam_diff.
        size: small, medium or large (3, 4, 5 levels).
        dropout: dropout rate of train mode.
        dtype: compute type; parameters, statistics and logits are float32.
        rngs: source of the initial weights, `nnx.Rngs(seed)`.

    Returns:
        A network whose call takes normalised `f32[b,h,w,3]` images before and after the event and gives
        logits `f32[b,h,w]`; sides are multiples of `.stride`.

    Raises:
        KeyError: an unknown name or size.

    Source: METHOD, Architectures; paper Fig. 4.

    Example:
        >>> model = create("fc_siam_diff", size="small", rngs=nnx.Rngs(0))
        >>> model(jnp.zeros((1, 64, 64, 3)), jnp.zeros((1, 64, 64, 3))).shape
        (1, 64, 64)
    """
    return NETWORKS[name](size, dropout=dropout, dtype=dtype, rngs=rngs)  # type: ignore[return-value]
