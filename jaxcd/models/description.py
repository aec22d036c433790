"""How a network describes itself, so that code outside of `jaxcd.models` needs no network's name."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from flax import nnx
from jaxtyping import Array, Float, Key

ENCODER = "encoder"
"""Attribute of every network that holds its encoder, and first key of the encoder's parameters and statistics."""


class Normalisation(NamedTuple):
    """How a network wants its images: (x / 255 - mean) / deviation, for each of the three bands."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True, kw_only=True)
class Description:
    """The description of a network of one size.

    Attributes:
        stride: pixels that height and width of its images must be multiples of.
        receptive_radius: most pixels away at which an input pixel can change an output pixel.
        pairs_compared: image pairs that make one element when its encoder is pretrained: 1 where the encoder sees one
            date at a time (before is compared with after), 2 where it sees both (pairs are compared with each other).
        normalisation: of its input.
        batchnorm_epsilon: added to the variance in BatchNorm.
        padding: what its convolutions add at the borders of an image.
    """

    stride: int
    receptive_radius: int
    pairs_compared: int
    normalisation: Normalisation = IMAGENET
    batchnorm_epsilon: float = 1e-5
    padding: str = "zeros"


class DamageNetwork(nnx.Module):
    """Base class of the networks that map damage; a subclass is all that a new network takes.

    A subclass says what sizes it has, describes each, makes its encoder, holds it as the attribute `encoder`, and
    takes the arguments below.

    Attributes:
        sizes: names of its sizes, the smallest first.
        fusions: names of the ways in which it can join what it sees of the two dates, its usual one first; empty where
            there is no choice. A network that has some takes one as the argument `fusion`.
    """

    sizes: ClassVar[tuple[str, ...]]
    fusions: ClassVar[tuple[str, ...]] = ()
    encoder: nnx.Module

    def __init__(self, size: str, *, dropout: float, dtype: Any, rngs: nnx.Rngs, outputs: int = 1):
        """Make the network with random weights, in eval mode.

        Args:
            size: one of `sizes`.
            dropout: rate of train mode.
            dtype: compute type; parameters, statistics and logits are float32.
            rngs: source of the initial weights.
            outputs: logits that it gives a pixel: as many as the scale of damage has levels. A network that takes no
                such argument can learn the scale `binary` only.
        """
        raise NotImplementedError

    @classmethod
    def describe(cls, size: str) -> Description:
        """Describe the network of a size."""
        raise NotImplementedError

    @classmethod
    def make_encoder(cls, size: str, *, dropout: float, dtype: Any, rngs: nnx.Rngs) -> tuple[nnx.Module, int]:
        """Make the encoder, which pretraining trains alone.

        Returns:
            The encoder, whose call `(images, key=key)` gives skips and bottom `[b, h_n, w_n, c_n]`; and c_n.
        """
        raise NotImplementedError

    def __call__(
        self, pre: Float[Array, "b h w 3"], post: Float[Array, "b h w 3"], *, key: Key[Array, ""] | None = None
    ) -> Float[Array, "b h w *k"]:
        """Return logits for normalised images, with an axis of outputs if there are several.

        One output is the logit of damage; several are those of `jaxcd.learn.ordinal`. `key` is the dropout key of
        train mode.
        """
        raise NotImplementedError
