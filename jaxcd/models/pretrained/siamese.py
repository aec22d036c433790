"""Siamese U-Nets whose encoder can begin with ImageNet weights; all other weights begin at random."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from jaxcd.models.blocks import ConvLayer, as_logits
from jaxcd.models.convolutions.geometry import Window, centred, receptive_radius
from jaxcd.models.description import IMAGENET, DamageNetwork, Description, Normalisation
from jaxcd.models.functional import apply_streams
from jaxcd.models.pretrained import lite0, resnet
from jaxcd.models.pretrained.layers import ConvNorm

WIDTHS = {"small": (16, 24, 32, 48, 64), "medium": (16, 32, 64, 96, 128), "large": (32, 64, 96, 128, 256)}
"""Channels of the decoder at strides 1, 2, 4, 8 and 16, by size; the encoder is the same for all sizes."""

_COPIES = {"both": 3, "diff": 1, "conc": 2}
_STRIDES = 4  # halvings of the resolution
# Number of 3x3 convolutions of each decoder level, from the full resolution down. The first number includes the last
# convolution, which gives the logits.
_CONVOLUTIONS = (2, 1, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """An encoder, and the settings that its ImageNet weights need.

    Attributes:
        make: function that makes the encoder.
        channels: channels of its features at strides 2, 4, 8 and 16.
        stages: windows of its layers from one stride to the next.
        normalisation: normalisation of the images.
        epsilon: epsilon of BatchNorm.
        padding: padding of convolutions in words, for the description.
        unused: beginnings of the names of entries in a file of weights that the encoder does not use.
    """

    make: Callable[..., nnx.Module]
    channels: tuple[int, ...]
    stages: tuple[tuple[Window, ...], ...]
    normalisation: Normalisation
    epsilon: float
    padding: str
    unused: tuple[str, ...]


LITE0 = Backbone(
    make=lite0.Lite0,
    channels=lite0.CHANNELS,
    stages=lite0.STAGES,
    # (rgb - 127) / 128
    normalisation=Normalisation((127 / 255, 127 / 255, 127 / 255), (128 / 255, 128 / 255, 128 / 255)),
    epsilon=lite0.EPSILON,
    padding="zeros; strided layers more below and right, TensorFlow's same",
    unused=lite0.UNUSED,
)


def _resnet(depth: resnet.Depth) -> Backbone:
    return Backbone(
        make=partial(resnet.ResNet, depth),
        channels=depth.channels,
        stages=depth.stages,
        normalisation=IMAGENET,
        epsilon=resnet.EPSILON,
        padding="zeros",
        unused=resnet.UNUSED,
    )


class SiamNet(DamageNetwork):
    """Base of these networks: one encoder for both images, whose features are joined at each stride, and a light
    decoder.

    Source: docs/method.md, Pretrained encoders.
    """

    sizes = tuple(WIDTHS)
    fusions = tuple(_COPIES)
    backbone: ClassVar[Backbone]

    def __init__(
        self, size: str, *, dropout: float, dtype: Any, rngs: nnx.Rngs, fusion: str = "both", outputs: int = 1
    ):
        """Make the network with random weights, in eval mode.

        Args:
            size: size of the decoder.
            dropout: rate of train mode, for whole channels in the decoder; the encoder has no dropout.
            dtype: compute type.
            rngs: source of the initial weights.
            fusion: features that each level of the decoder gets: those of both dates and their absolute difference
                ("both"), the difference alone ("diff"), or those of both dates alone ("conc").
            outputs: number of logits for each pixel.
        """
        widths, epsilon = WIDTHS[size], self.backbone.epsilon
        self.encoder, _ = self.make_encoder(size, dropout=dropout, dtype=dtype, rngs=rngs)
        self.fusion = fusion
        copies = _COPIES[fusion]
        self.joins = nnx.List(
            ConvNorm(copies * c, width, centred(1), activation=jax.nn.relu, epsilon=epsilon, dtype=dtype, rngs=rngs)
            for c, width in zip(self.backbone.channels, widths[1:], strict=True)
        )
        self.decoder = LightDecoder(
            widths,
            (3 * copies, *widths[1:-1]),
            outputs=outputs,
            dropout=dropout,
            epsilon=epsilon,
            dtype=dtype,
            rngs=rngs,
        )
        self.stride = 2**_STRIDES
        self.dtype = dtype

    @classmethod
    def describe(cls, size: str) -> Description:
        """Describe the network; the description is the same for all sizes, which only change the decoder's channels."""
        return Description(
            stride=2**_STRIDES,
            receptive_radius=receptive_radius(cls.backbone.stages, _CONVOLUTIONS),
            pairs_compared=1,
            normalisation=cls.backbone.normalisation,
            batchnorm_epsilon=cls.backbone.epsilon,
            padding=cls.backbone.padding,
        )

    @classmethod
    def make_encoder(cls, size: str, *, dropout: float, dtype: Any, rngs: nnx.Rngs) -> tuple[nnx.Module, int]:
        """Return the encoder, which is the same for all sizes, and the number of channels at its bottom."""
        return cls.backbone.make(dtype=dtype, rngs=rngs), cls.backbone.channels[-1]

    def __call__(
        self, pre: Float[Array, "b h w 3"], post: Float[Array, "b h w 3"], *, key: Key[Array, ""] | None = None
    ) -> Float[Array, "b h w *k"]:
        """Return logits for normalised images; `key` is the dropout key of train mode."""
        if pre.shape != post.shape or pre.shape[1] % self.stride or pre.shape[2] % self.stride:
            raise ValueError(
                f"pre {pre.shape} and post {post.shape}: expected equal shapes with sides that are multiples of "
                f"{self.stride}"
            )
        images = pre.astype(self.dtype), post.astype(self.dtype)
        before, after = ((*skips, bottom) for skips, bottom in apply_streams(self.encoder, images, key=None))
        levels = [join(self._joined(*features)) for join, *features in zip(self.joins, before, after, strict=True)]
        return self.decoder(levels[-1], (self._joined(*images), *levels[:-1]), key=key)

    def _joined(self, pre: Float[Array, "b h w c"], post: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        difference = jnp.abs(pre - post)
        if self.fusion == "diff":
            return difference
        return jnp.concatenate([pre, post] if self.fusion == "conc" else [pre, post, difference], axis=-1)


class LightDecoder(nnx.Module):
    """A decoder with one 3x3 convolution a level, over the upsampled level below and the encoder's features."""

    def __init__(
        self,
        widths: Sequence[int],
        skips: Sequence[int],
        *,
        outputs: int,
        dropout: float,
        epsilon: float,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        """Make the decoder.

        Args:
            widths: channels of its levels, from the full resolution down; the last number is that of its input.
            skips: channels of the encoder's features at each level but the last.
            outputs: number of logits for each pixel.
            dropout: rate of train mode, for whole channels.
            epsilon: epsilon of BatchNorm.
            dtype: compute type.
            rngs: source of the initial weights.
        """
        layer = partial(ConvLayer, dropout=dropout, decoder=True, epsilon=epsilon, dtype=dtype, rngs=rngs)
        self.layers = nnx.List(
            layer(below + skip, width, last=False)
            for below, skip, width in zip(widths[1:], skips, widths[:-1], strict=True)
        )
        self.out = layer(widths[0], outputs, last=True)

    def __call__(
        self, x: Float[Array, "b h_n w_n c_n"], skips: Sequence[Float[Array, "b _ _ _"]], *, key: Key[Array, ""] | None
    ) -> Float[Array, "b h w *k"]:
        """Return logits in float32; `skips` are the features to join at each level, the full resolution first."""
        for i in reversed(range(len(skips))):
            drawn = None if key is None else jax.random.fold_in(key, i)
            x = self.layers[i](jnp.concatenate([_nearest(x), skips[i]], axis=-1), key=drawn)
        return as_logits(self.out(x, key=None))


def _nearest(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Double height and width by repeating each pixel four times."""
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)


class SiamLite0(SiamNet):
    """Siamese network with EfficientNet-Lite0."""

    backbone = LITE0


class SiamResNet18(SiamNet):
    """Siamese network with ResNet-18."""

    backbone = _resnet(resnet.RESNET18)


class SiamResNet34(SiamNet):
    """Siamese network with ResNet-34."""

    backbone = _resnet(resnet.RESNET34)


class SiamResNet50(SiamNet):
    """Siamese network with ResNet-50."""

    backbone = _resnet(resnet.RESNET50)
