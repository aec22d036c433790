"""The one place where networks are split into pure pieces and put together again.

The training and evaluation steps hold a network as (graphdef, parameters, statistics) and call it
through `apply`; the Siamese networks run their shared encoder through `apply_streams`.
`nnx.merge` inside a traced function needs `copy=True`: the merged module's statistics are written
to, and must belong to the innermost trace.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from jaxcd.models.description import ENCODER

BATCHNORM_MOMENTUM = 0.1  # in torch's sense: the share of the new batch

# On a CPU, a program that runs once costs little but its compilation. At this level that takes 4 CPU-seconds instead of
# 20 for a small network, 14 instead of 44 for a large one, and gives the same bits (benchmarks/NOTES.md).
_RUNS_ONCE = {"xla_backend_optimization_level": 1}

PyTree = Any


class Network(NamedTuple):
    """The static halves of a split network.

    Attributes:
        train: all in train mode.
        eval: all in eval mode.
        frozen: the encoder in eval mode, so that its statistics stay; the rest in train mode.
    """

    train: nnx.GraphDef
    eval: nnx.GraphDef
    frozen: nnx.GraphDef


def split(model: nnx.Module) -> tuple[Network, PyTree, PyTree]:
    """Split a network once, for pure use.

    Args:
        model: a network of `jaxcd.models.create`; left in eval mode.

    Returns:
        The static graph in its modes, the parameters and the BatchNorm statistics, the latter two as
        plain nested dictionaries of arrays.
    """
    model.train()
    train = nnx.graphdef(model)
    getattr(model, ENCODER).eval()
    frozen = nnx.graphdef(model)
    model.eval()
    graphdef, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    return Network(train, graphdef, frozen), nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def build(make: Callable[[nnx.Rngs], nnx.Module], *, seed: int, weights: bool = True) -> tuple[Network, PyTree, PyTree]:
    """Create a network and split it: as `split(make(nnx.Rngs(seed)))`, compiled in one piece.

    JAX caches that piece for the next process. Initial weights drawn one by one would be compiled one by one in every
    process: ten seconds of a small network's start on a CPU.

    Args:
        make: creates the network.
        seed: of its initial weights.
        weights: False gives `jax.ShapeDtypeStruct`s in place of arrays, and compiles nothing.
    """
    found: list[Network] = []

    def parts(key: Key[Array, ""]) -> tuple[PyTree, PyTree]:
        network, params, stats = split(make(nnx.Rngs(key)))
        found.append(network)  # nothing of it depends on values
        return params, stats

    key = jax.random.key(seed)
    options = _RUNS_ONCE if jax.default_backend() == "cpu" else None
    params, stats = jax.jit(parts, compiler_options=options)(key) if weights else jax.eval_shape(parts, key)
    return found[0], params, stats


def merge(graphdef: nnx.GraphDef, params: PyTree, stats: PyTree) -> Any:
    """Put a network together from what `split` gave."""
    return nnx.merge(graphdef, params, stats, copy=True)


def apply(
    graphdef: nnx.GraphDef,
    params: PyTree,
    stats: PyTree,
    pre: Float[Array, "b h w c"],
    post: Float[Array, "b h w c"],
    *,
    key: Key[Array, ""] | None = None,
) -> tuple[Float[Array, "..."], PyTree]:
    """Run a split network; pure, so it can be jitted and differentiated.

    Args:
        graphdef: one of `Network`.
        params: parameters.
        stats: BatchNorm statistics.
        pre: normalised images before the event; for an `Embedding` its first stack.
        post: normalised images after the event; for an `Embedding` its second stack.
        key: dropout key; needed in train mode with dropout above 0.

    Returns:
        What the network returns (logits, or embeddings) and the statistics after this batch (unchanged in eval mode).
    """
    model = merge(graphdef, params, stats)
    logits = model(pre, post, key=key)
    return logits, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))


def apply_streams(
    encoder: nnx.Module, streams: Sequence[Float[Array, "b h w c"]], *, key: Key[Array, ""] | None
) -> tuple[PyTree, ...]:
    """Run one encoder over several streams of images: shared parameters, one call.

    Each stream is normalised with its own batch statistics, and the running statistics take the streams' updates one
    after the other, in their order; an encoder whose `dates_together` is True normalises all streams as one batch
    (docs/method.md, BatchNorm). The streams lie on the batch axis, not on one of
    their own under `jax.vmap`: there XLA writes gradients out between the layers that it can fuse here (7 % of a
    training step's bytes, benchmarks/NOTES.md). An element's streams lie behind each other, so that a batch that is
    spread over devices stays where it is.

    Args:
        encoder: the shared encoder; it normalises with `blocks.BatchNorm`, whose statistics change in train mode.
        streams: images of equal shapes.
        key: dropout key, or None.

    Returns:
        What the encoder returns, for each stream.
    """
    n = len(streams)
    together = jnp.stack(streams, axis=1)
    graphdef, params, stats = nnx.split(encoder, nnx.Param, nnx.BatchStat)
    copy = nnx.merge(graphdef, params, stats, copy=True)
    if not getattr(encoder, "dates_together", False):
        copy.set_attributes(streams=n, raise_if_not_found=False)
    outputs = copy(together.reshape(-1, *together.shape[2:]), key=key)  # type: ignore[operator]
    if not getattr(encoder, "deterministic", False):
        nnx.update(encoder, nnx.state(copy, nnx.BatchStat))

    def stream(t: int) -> PyTree:
        return jax.tree.map(lambda x: x.reshape(-1, n, *x.shape[1:])[:, t], outputs)

    return tuple(stream(t) for t in range(n))
