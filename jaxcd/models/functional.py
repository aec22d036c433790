"""Splits networks into static graphs and arrays, and merges them again; no other file does this.

Training and evaluation steps hold a network as (graphdef, parameters, statistics) and call it through `apply`. The
Siamese networks run their shared encoder through `apply_streams`. Inside a traced function `nnx.merge` needs
`copy=True`, because a call writes to the merged module's statistics, which must belong to the innermost trace.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from jaxcd.models.description import ENCODER

BATCHNORM_MOMENTUM = 0.1  # as PyTorch defines it: the weight of the new batch

# A program that runs once spends its time on compilation. On a CPU, this level compiles a small network in 4 instead of
# 20 CPU-seconds and a large one in 14 instead of 44, and gives the same bits (benchmarks/NOTES.md).
_RUNS_ONCE = {"xla_backend_optimization_level": 1}

PyTree = Any


class Network(NamedTuple):
    """The static graphs of a split network, one for each mode.

    Attributes:
        train: graph with all layers in train mode.
        eval: graph with all layers in eval mode.
        frozen: graph with the encoder in eval mode, so that its statistics do not change; the rest in train mode.
    """

    train: nnx.GraphDef
    eval: nnx.GraphDef
    frozen: nnx.GraphDef


def split(model: nnx.Module) -> tuple[Network, PyTree, PyTree]:
    """Split a network once, for use in pure functions.

    Args:
        model: a network that `jaxcd.models.create` made; it is left in eval mode.

    Returns:
        The static graphs, the parameters and the BatchNorm statistics; the latter two are nested dictionaries of
        arrays.
    """
    model.train()
    train = nnx.graphdef(model)
    getattr(model, ENCODER).eval()
    frozen = nnx.graphdef(model)
    model.eval()
    graphdef, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    return Network(train, graphdef, frozen), nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def build(make: Callable[[nnx.Rngs], nnx.Module], *, seed: int, weights: bool = True) -> tuple[Network, PyTree, PyTree]:
    """Return `split(make(nnx.Rngs(seed)))`, computed in one compiled program.

    JAX caches this program for later processes. If initial weights were drawn one by one, each draw would be compiled
    in every process, which takes ten seconds for a small network on a CPU.

    Args:
        make: function that makes the network.
        seed: seed of the initial weights.
        weights: if False, return `jax.ShapeDtypeStruct`s in place of arrays, and compile nothing.
    """
    networks: list[Network] = []

    def parts(key: Key[Array, ""]) -> tuple[PyTree, PyTree]:
        network, params, stats = split(make(nnx.Rngs(key)))
        networks.append(network)  # it holds no arrays, so it can leave the traced function
        return params, stats

    key = jax.random.key(seed)
    options = _RUNS_ONCE if jax.default_backend() == "cpu" else None
    params, stats = jax.jit(parts, compiler_options=options)(key) if weights else jax.eval_shape(parts, key)
    return networks[0], params, stats


def merge(graphdef: nnx.GraphDef, params: PyTree, stats: PyTree) -> Any:
    """Make a network from the parts that `split` returned."""
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
        graphdef: one of the graphs of `Network`.
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
    """Run one encoder over several streams of images, with shared parameters, in one call.

    Each stream is normalised with its own batch statistics. The running statistics are updated with one stream after
    the other, in their order. An encoder whose `dates_together` is True normalises all streams as one batch
    (docs/method.md, BatchNorm).

    The streams lie on the batch axis. With an axis of their own under `jax.vmap`, XLA would write gradients to memory
    between layers that it fuses here (7 % of a training step's bytes, benchmarks/NOTES.md). The streams of an element
    lie behind each other, so that nothing has to move if the batch is spread over devices.

    Args:
        encoder: the shared encoder; it normalises with `blocks.BatchNorm`, whose statistics change in train mode.
        streams: images of equal shapes.
        key: dropout key, or None.

    Returns:
        The encoder's result for each stream.
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
