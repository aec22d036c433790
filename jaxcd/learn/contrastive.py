"""The contrastive loss of pretraining (docs/method.md; Hadsell, Chopra, LeCun 2006 with squared distances)."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Num

_TINY = 1e-12  # of a squared norm: torch's normalize has 1e-12 of the norm, whose gradient at zero is not finite


def distance(first: Float[Array, "b c"], second: Float[Array, "b c"], *, normalise: bool) -> Float[Array, "b"]:
    """Squared Euclidean distance of embeddings; with `normalise`, of their directions (then 0..4)."""
    if normalise:
        first, second = direction(first), direction(second)
    return jnp.sum(jnp.square(first - second), axis=-1)


def contrastive(
    first: Float[Array, "b c"],
    second: Float[Array, "b c"],
    differ: Num[Array, "b"],
    *,
    margin: float = 1.0,
    normalise: bool = True,
) -> Float[Array, ""]:
    """Draw embeddings of a kind together and push others `margin` apart; the mean over the batch.

    Args:
        first: embeddings.
        second: embeddings, to be compared one by one.
        differ: 1 where the two are of different kinds (a pair that shows damage; for FC-EF two pairs of which one
            does), else 0.
        margin: squared distance from which a different pair costs nothing.
        normalise: compare directions (the reference) instead of the embeddings themselves (the paper's equation).
    """
    d = distance(first, second, normalise=normalise)
    return jnp.mean((1 - differ) * d + differ * jnp.square(jnp.maximum(margin - d, 0)))


def direction(z: Float[Array, "b c"]) -> Float[Array, "b c"]:
    """Scale vectors to length 1 (0 stays 0)."""
    return z / jnp.sqrt(jnp.sum(jnp.square(z), axis=-1, keepdims=True) + _TINY)
