"""The network of contrastive pretraining: an encoder, global average pooling, a linear map (docs/method.md)."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from jaxcd.config import ModelConfig
from jaxcd.models.functional import apply_streams
from jaxcd.models.networks import check, find

DIMENSIONS = 128


class Embedding(nnx.Module):
    """Embeds two stacks of images with one encoder, that of the damage network it is pretrained for.

    Where an encoder sees one date at a time (FC-Siam), the stacks are the images before and after the event; where it
    sees both (FC-EF), they are two pairs, each with its six channels.
    """

    def __init__(
        self,
        name: str,
        *,
        size: str = "large",
        fusion: str = "",
        dropout: float = 0.0,
        dtype: Any = jnp.float32,
        onednn: bool = False,
        rngs: nnx.Rngs,
    ):
        """Make the network; its arguments are those of `create`, though the encoder is the same for each fusion."""
        check(ModelConfig(name=name, size=size, fusion=fusion))
        self.encoder, bottom = find(name).make_encoder(size, dropout=dropout, dtype=dtype, rngs=rngs)
        self.encoder.set_attributes(onednn=onednn, raise_if_not_found=False)
        self.embedding = nnx.Linear(bottom, DIMENSIONS, rngs=rngs)
        self.dtype = dtype

    def __call__(
        self, first: Float[Array, "b h w c"], second: Float[Array, "b h w c"], *, key: Key[Array, ""] | None = None
    ) -> Float[Array, "2 b 128"]:
        """Return the embeddings of both stacks of normalised images, in float32."""
        images = first.astype(self.dtype), second.astype(self.dtype)
        bottoms = jnp.stack([bottom for _, bottom in apply_streams(self.encoder, images, key=key)])
        return self.embedding(jnp.mean(bottoms.astype(jnp.float32), axis=(2, 3)))
