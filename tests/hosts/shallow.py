"""A network of one level: it compiles in seconds, and the runs of these tests are about processes."""

import jax

from jaxcd.models import DamageNetwork, Description
from jaxcd.models.blocks import Decoder, Encoder
from jaxcd.models.functional import apply_streams


class Shallow(DamageNetwork):
    """The decoder sees post - pre."""

    sizes = ("tiny",)

    def __init__(self, size, *, dropout, dtype, rngs):
        self.encoder, width = self.make_encoder(size, dropout=dropout, dtype=dtype, rngs=rngs)
        self.decoder = Decoder(width, ((width, 1),), copies=2, outputs=1, dropout=dropout, dtype=dtype, rngs=rngs)
        self.dtype = dtype

    @classmethod
    def describe(cls, size):
        return Description(stride=2, receptive_radius=5, pairs_compared=1)

    @classmethod
    def make_encoder(cls, size, *, dropout, dtype, rngs):
        return Encoder(3, ((4, 4),), dropout=dropout, dtype=dtype, rngs=rngs), 4

    def __call__(self, pre, post, *, key=None):
        down, up = (None, None) if key is None else jax.random.split(key)
        images = pre.astype(self.dtype), post.astype(self.dtype)
        ((before,), _), ((after,), bottom) = apply_streams(self.encoder, images, key=down)
        return self.decoder(bottom, [(after - before,)], key=up)
