"""Scores of embeddings: how well they tell damaged pairs from intact ones, and whether they have collapsed."""

from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxcd.base.files import replacing
from jaxcd.config import ContrastConfig
from jaxcd.learn.contrastive import direction, distance
from jaxcd.runs.figures import Histogram

_BINS = 40
_FARTHEST = 4.0  # squared distance of opposite directions
_RIDGE = 1e-2


class Embedded(NamedTuple):
    """Embeddings of some elements, with the kinds of their `k` pairs (1: shows damage)."""

    first: Float[np.ndarray, "b c"]
    second: Float[np.ndarray, "b c"]
    damaged: Int[np.ndarray, "b k"]

    @property
    def differ(self) -> Int[np.ndarray, "b"]:
        """1 where the two sides of an element are of different kinds."""
        return self.damaged.sum(axis=1) % 2


class Classified(NamedTuple):
    """A vector for each pair, and its kind."""

    vectors: Float[np.ndarray, "p c"]
    damaged: Int[np.ndarray, "p"]


def of_pairs(embedded: Embedded, config: ContrastConfig) -> Classified:
    """Describe each pair by one vector: FC-EF's embedding, or the difference of FC-Siam's, which the loss measures."""
    first, second = (_directed(z, config) for z in (embedded.first, embedded.second))
    if embedded.damaged.shape[1] == 1:
        return Classified(second - first, embedded.damaged[:, 0])
    return Classified(np.concatenate([first, second]), embedded.damaged.T.reshape(-1))


def distances(embedded: Embedded, config: ContrastConfig) -> Float[np.ndarray, "b"]:
    """Squared distances as the loss sees them."""
    first, second = jnp.asarray(embedded.first), jnp.asarray(embedded.second)
    return np.asarray(distance(first, second, normalise=config.normalise))


def _directed(z: Float[np.ndarray, "b c"], config: ContrastConfig) -> Float[np.ndarray, "b c"]:
    """Scale embeddings to length 1 where the loss does."""
    return np.asarray(direction(jnp.asarray(z))) if config.normalise else z


def distance_histogram(values: Float[np.ndarray, "b"], config: ContrastConfig) -> Histogram:
    """Count squared distances between 0 and 4 margins; larger ones are in the last bin."""
    high = _FARTHEST * config.margin
    counts, _ = np.histogram(np.minimum(values, high), bins=_BINS, range=(0, high))
    return Histogram(0.0, high, tuple(counts.tolist()))


def nearest_neighbour(training: Classified, validation: Classified) -> float:
    """Accuracy on the validation vectors, when each takes the kind of the nearest training vector."""
    apart = np.square(validation.vectors).sum(1)[:, None] - 2 * validation.vectors @ training.vectors.T
    return float(
        np.mean(training.damaged[np.argmin(apart + np.square(training.vectors).sum(1), axis=1)] == validation.damaged)
    )


def linear_probe(training: Classified, validation: Classified) -> float:
    """Accuracy on the validation vectors of a linear map to -1 and 1, fitted to the training vectors (ridge)."""
    mean, scale = training.vectors.mean(axis=0), training.vectors.std(axis=0) + 1e-6
    x, y = (training.vectors - mean) / scale, 2.0 * training.damaged - 1
    weights = np.linalg.solve(x.T @ x + _RIDGE * len(x) * np.eye(x.shape[1]), x.T @ (y - y.mean()))
    return float(np.mean(((validation.vectors - mean) / scale @ weights + y.mean() > 0) == (validation.damaged == 1)))


def spread(embedded: Embedded, config: ContrastConfig) -> float:
    """Mean squared distance of two embeddings drawn at random, in margins; near 0 all images are one point."""
    z = _directed(np.concatenate([embedded.first, embedded.second]), config)
    return float(2 * np.square(z - z.mean(axis=0)).sum(axis=1).mean() / config.margin)


def draw(training: Classified, validation: Classified, embedded: Embedded, config: ContrastConfig, path: Path) -> None:
    """Draw the distances of both kinds, and the pairs' vectors in the plane of their largest variance.

    Args:
        training: vectors of training places.
        validation: vectors of validation places.
        embedded: the embeddings that `validation` was made from.
        config: margin and metric.
        path: the PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    values = distances(embedded, config)
    edges = np.linspace(0, max(values.max(), 1.2 * config.margin), _BINS + 1)
    for kind, colour, label in ((0, "tab:blue", "of one kind"), (1, "tab:red", "of different kinds")):
        left.hist(values[embedded.differ == kind], bins=edges, color=colour, alpha=0.5, label=label)  # type: ignore[arg-type]
    left.axvline(config.margin, color="black", lw=1, ls="--", label="margin")
    left.set(xlabel="squared distance of validation embeddings", ylabel="elements")
    both = np.concatenate([training.vectors, validation.vectors])
    centre = both.mean(axis=0)
    _, sizes, axes = np.linalg.svd(both - centre, full_matrices=False)
    for pairs, filled, split in ((training, False, "training"), (validation, True, "validation")):
        flat = (pairs.vectors - centre) @ axes[:2].T
        for kind, colour, label in ((0, "tab:blue", "intact"), (1, "tab:red", "damaged")):
            at = flat[pairs.damaged == kind]
            right.scatter(
                *at.T, s=14, c=colour if filled else "none", edgecolors=colour, lw=0.7, label=f"{split}, {label}"
            )
    shares = np.square(sizes) / max(float(np.square(sizes).sum()), 1e-12)
    right.set(xlabel=f"first axis ({shares[0]:.0%} of the variance)", ylabel=f"second axis ({shares[1]:.0%})")
    for part in (left, right):
        part.legend(loc="upper right", frameon=False, fontsize=8)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=110)
